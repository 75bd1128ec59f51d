"""The tag of this code's images: the version, and a digest of what is in them. `python -m pipelines.image` prints it.

So an image's name says which code runs, for Kubeflow's eyes and a person's, and no tag ever means something else.
"""

import hashlib
import sys
from pathlib import Path

from rushes import __version__
from rushes.digests import essence

ROOT = Path(__file__).parents[1]
_OTHER = ("deploy/Dockerfile", "requirements/image.lock", "requirements/torch.lock", "requirements/triton-image.lock")


def tag() -> str:
    """`<version>-<12 hexadecimal characters>`: of the package's code, without comments, and what it is installed by."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "rushes").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            content = essence(path.read_text()).encode() if path.suffix == ".py" else path.read_bytes()
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + content)
    for name in _OTHER:
        digest.update(f"{name}\0".encode() + (ROOT / name).read_bytes())
    return f"{__version__}-{digest.hexdigest()[:12]}"


if __name__ == "__main__":
    sys.stdout.write(f"{tag()}\n")
