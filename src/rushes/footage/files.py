"""One file of an archive, in a folder or at a URL: its size, its stamp, its content.

look_up("s3://archive/videos", "walk/a.mp4").stamp
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.errors import UserError

_OF_CONTENT = ("ETag", "etag", "md5Hash")
_OF_TIME = ("LastModified", "last_modified", "mtime", "modified", "modify", "modificationTime", "created")
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A file as its archive lists it."""

    path: str
    """Relative to the root, with forward slashes."""
    size: int
    stamp: str
    """Changes when the file is written."""
    exact: bool = False
    """Whether another content always has another stamp, as an ETag has; a time may be set at will."""
    inode: str = ""
    """Of a file of a folder: its number and the time of its last change, which no program can set."""


def is_url(root: str) -> bool:
    """Whether `root` is read by fsspec rather than as a folder."""
    return "://" in root


def file_system(root: str) -> tuple[Any, str]:
    """Fsspec's file system of a URL, and the root in it; listings are not cached."""
    import fsspec

    filesystem, base = fsspec.core.url_to_fs(root, use_listings_cache=False)
    return filesystem, str(base).rstrip("/")


def look_up(root: str, path: str) -> Listed:
    """A file as its archive would list it now.

    Raises:
        OSError: it cannot be looked up, or is no ordinary file. Of a URL, any exception.
    """
    if is_url(root):
        filesystem, base = file_system(root)
        return in_store(path, filesystem.info(f"{base}/{path}"))
    found = (Path(root) / path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a file")
    return on_disk(path, found)


def on_disk(path: str, found: os.stat_result) -> Listed:
    """A file of a folder."""
    inode = f"{found.st_dev}-{found.st_ino}-{found.st_ctime_ns}"
    return Listed(path=path, size=found.st_size, stamp=str(found.st_mtime_ns), inode=inode)


def in_store(path: str, entry: Mapping[str, Any]) -> Listed:
    """A file as fsspec describes it; without a stamp, only its size tells of a change.

    Raises:
        OSError: no size is given.
    """
    if entry.get("size") is None:
        raise OSError("its size is not listed")
    size, exact = int(entry["size"]), True
    for names in (_OF_CONTENT, _OF_TIME):
        for name in names:
            if entry.get(name):
                return Listed(path=path, size=size, stamp=str(entry[name]), exact=exact)
        exact = False
    return Listed(path=path, size=size, stamp="")


def content_digest(root: str, path: str) -> str:
    """SHA-256 (hex) of a file, read in blocks.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with _opened(root, path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"videos: cannot read {root}/{path} ({why}): fix or remove the file") from error
    return digest.hexdigest()


def _opened(root: str, path: str) -> Any:
    if is_url(root):
        filesystem, base = file_system(root)
        return filesystem.open(f"{base}/{path}", "rb", block_size=8 * _BLOCK)
    # Opening does not wait where a FIFO has taken the name.
    file = os.fdopen(os.open(Path(root) / path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("not a file")
    return file
