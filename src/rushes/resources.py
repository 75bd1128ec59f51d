"""Files that come with the package: beside it in a wheel, in the sources' folders in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def bundled(name: str) -> Path:
    """Where `pipeline.yaml`, `profiles` and the like are."""
    in_wheel = _PACKAGE / "_bundled"
    return (in_wheel if in_wheel.is_dir() else _PACKAGE.parents[1] / "pipelines") / name
