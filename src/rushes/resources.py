"""Files that come with the package: in its folder `_bundled` in a wheel, in the checkout's folders otherwise.

The wheel keeps them under the names that they have in a checkout (pyproject.toml, force-include).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def bundle() -> Path:
    """Folder that holds models/, pipelines/, components/ and the like: the checkout, or the wheel's copy of it."""
    in_wheel = _PACKAGE / "_bundled"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parents[1]


def bundled(name: str) -> Path:
    """Path of a file or folder by its name in a checkout, such as `pipelines/pipeline.yaml`."""
    return bundle() / name
