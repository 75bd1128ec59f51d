"""Files that survive kills and crashes: digests, atomic writes, locks."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PART = ".part-"
"""Prefix of the temporary files of atomic writes; a kill leaves them behind."""


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Writes `data` to `path` so that a reader, or a crash, sees the old bytes or the new ones and nothing between.

    Only the file's owner may read it if it is `private`, from its first byte on.
    """
    with _replacing(path, mode=0o600 if private else 0o644) as file:
        file.write(data)


def copy_atomic(source: Path, target: Path) -> None:
    """Copies a file; as with `write_atomic`, `target` appears whole or not at all."""
    with _replacing(target) as out, source.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)


def fsync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file at `path`, which is made with its folder; waits while another process holds it.

    The kernel releases the lock when its holder ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _replacing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A temporary file that takes `path`'s name when the block ends, and is removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(mode)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    fsync(path.parent)
