"""Whether a file still is what was pinned, in the processes that read it.

    file = check_content("videos", "a.mp4", sha256=sha256)
    ...  # read it
    check_unchanged("videos", file)

What was read between the two is the pinned content: a digest can only be taken before a decoder reads the file, so the
file is looked up again afterwards.
"""

from rushes.errors import UserError
from rushes.footage.files import Listed, content_digest, look_up
from rushes.video.source import VideoError

CHANGED = "changed"
"""Reason of a file whose content is not the pinned one."""
MAY_RETURN = frozenset({CHANGED, "unreadable"})
"""Reasons of failures that say nothing of the pinned content: with the same pin, the file may be there again."""


_last: tuple[str, str, Listed] | None = None
"""Root, SHA-256 and state of the file that was read last: a long one fills several shards in a row."""


def check_content(root: str, path: str, *, sha256: str, stamp: str = "") -> Listed:
    """Checks that a file's content is the pinned one; returns what the archive says of it.

    The whole file is read, except at a URL whose store stamps the content (an ETag) as it did when the file was pinned.

    Args:
        root: folder or URL of the videos.
        path: of the file.
        sha256: of the pinned content.
        stamp: of the file when it was pinned, "" where unknown.

    Raises:
        VideoError: it is not, or the file cannot be read.
    """
    file = _look_up(root, path)
    if (file.exact and file.stamp == stamp) or (file.inode and _last == (root, sha256, file)):
        return file
    try:
        found = content_digest(root, path)
    except UserError as error:
        raise VideoError("unreadable", f"{path}: cannot be read ({error.__cause__})") from error
    if found != sha256:
        raise _changed(path, f"its SHA-256 is {found[:12]}, not {sha256[:12]}")
    _remember(root, sha256, file)
    return file


def check_header(root: str, path: str, *, sha256: str, size: int, stamp: str) -> None:
    """Checks that a file may be what was pinned, before its header is read: by size and stamp where that is enough.

    Raises:
        VideoError: it is not, or the file cannot be read.
    """
    file = _look_up(root, path)
    if file.size != size:
        raise _changed(path, f"it has {file.size:,} bytes, not {size:,}")
    if file.stamp != stamp or not stamp:
        check_content(root, path, sha256=sha256)


def check_unchanged(root: str, before: Listed) -> None:
    """Checks that a file was not written since `before`.

    Raises:
        VideoError: it was, or cannot be looked up any more.
    """
    if _look_up(root, before.path) != before:
        raise _changed(before.path, "it was written while it was read")


def _remember(root: str, sha256: str, file: Listed) -> None:
    global _last
    _last = root, sha256, file


def _look_up(root: str, path: str) -> Listed:
    try:
        return look_up(root, path)
    except Exception as error:  # each protocol has its own
        why = getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError):
            raise _changed(path, "it is no longer there") from error
        raise VideoError("unreadable", f"{path}: cannot be read ({why})") from error


def _changed(path: str, why: str) -> VideoError:
    return VideoError(CHANGED, f"{path}: is not the file that was pinned ({why}): run `rushes pin` again")
