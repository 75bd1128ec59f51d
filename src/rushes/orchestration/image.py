"""The tag of this code's images: the version and a digest. `python -m rushes.orchestration.image` prints it.

The tag covers everything that the images hold, so no tag is ever given to two images. Files under version control do
not hold it, since every change of the code would change them: they hold `PLACEHOLDER`, which is replaced where a
compiled pipeline is read.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from rushes import __version__
from rushes.resources import bundled

PLACEHOLDER = "this-code"
"""Tag of the images in the committed compilations, and name of the committed pipeline in deploy/schedules.yaml."""
IMAGE_SOURCES = (
    "deploy/Dockerfile",
    "requirements/image.lock",
    "requirements/torch.lock",
    "requirements/triton-image.lock",
)
"""What the package is installed by in the images; the wheel carries these files too."""
_PACKAGE = Path(__file__).parents[1]
_IMAGE = re.compile(rf"^(\s*image: [^\s@]+):{PLACEHOLDER}$", re.MULTILINE)


def tag() -> str:
    """`<version>-<12 hexadecimal characters>`: the same in a checkout and in the wheel that is built from it."""
    digest = hashlib.sha256()
    for name, path in _sources():
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return f"{__version__}-{digest.hexdigest()[:12]}"


def with_tag(compiled: str) -> str:
    """A compiled pipeline with this code's tag in place of the placeholder; without one, it stays as it is."""
    return _IMAGE.sub(rf"\1:{tag()}", compiled) if PLACEHOLDER in compiled else compiled


def yaml_documents(compiled: str) -> list[dict[str, Any]]:
    """The pipeline and its settings for Kubernetes; by libyaml, where PyYAML has it, in a tenth of the time.

    Raises:
        yaml.YAMLError: not YAML.
    """
    return list(yaml.load_all(compiled, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _sources() -> list[tuple[str, Path]]:
    """The files that the tag covers, by their names in a checkout."""
    package = [
        path.relative_to(_PACKAGE)
        for path in sorted(_PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    own = [(f"src/rushes/{name}", _PACKAGE / name) for name in package if name.parts[0] != "_bundled"]
    return own + [(name, bundled(name)) for name in IMAGE_SOURCES]


if __name__ == "__main__":
    sys.stdout.write(f"{tag()}\n")
