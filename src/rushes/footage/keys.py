"""The key of a segment: what names its encoded frames."""

import hashlib


def segment_key(sha256: str, start: float, limit: float, *, moved: bool = False) -> str:
    """16 hex characters.

    Args:
        sha256: of the file's content.
        start: seconds from the container's start.
        limit: second at which decoding stops; `start` and the longest segment where it stops at the file's end.
        moved: version 0.1 gave other times to the file's frames; its keys are then never given again.
    """
    clock = "\0clock" if moved else ""
    return hashlib.sha256(f"{sha256}\0{start:.6f}\0{limit:.6f}{clock}".encode()).hexdigest()[:16]


def is_key_of(key: str, sha256: str, start: float, limit: float) -> bool:
    """Whether a key names the frames from `start` to `limit`, in a file of any clock."""
    return any(key == segment_key(sha256, start, limit, moved=moved) for moved in (False, True))
