"""The key of a segment: what names its encoded frames."""

import hashlib


def segment_key(sha256: str, start: float, limit: float) -> str:
    """16 hex characters.

    Args:
        sha256: of the file's content.
        start: seconds from the file's first frame.
        limit: second at which decoding stops; `start` and the longest segment where it stops at the file's end.
    """
    return hashlib.sha256(f"{sha256}\0{start:.6f}\0{limit:.6f}".encode()).hexdigest()[:16]
