"""The node's cache: objects of a remote store on this machine's disk, as many as fit.

    <cache>/objects/ab/abcd...                      an object, named by its SHA-256; its mtime is when it was last used
    <cache>/objects/ab/.part-abcd...-4096-x1y2z3    an object of 4096 bytes being fetched, locked by its fetcher
    <cache>/.lock                                   held while room is made

The files are the only state, so several processes, and machines that share a volume, may use it at once, and a kill
does no harm: a part without a lock is removed when room is made next. The least recently used object is removed first,
also while it is read: an open file, or a map of it, stays whole (POSIX).
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rushes.store.files import sha256_file

KEEP_FREE = 0.15
"""Share of the disk that stays free where no limit is set: below it, Kubernetes begins to evict pods."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IDLE = 1800.0  # seconds without use after which an object may make room for one that is not urgent
_TOUCH = 20.0  # seconds between two notes of an object's use
_DAY = 24 * 3600
_log = logging.getLogger(__name__)


class NoRoomError(Exception):
    """The limit, or the disk, leaves no room for an object."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A file of the cache: an object, or a part of one."""

    path: Path
    size: int
    """Bytes that it takes, or will take when it is whole."""
    missing: int = 0
    """Bytes that are not on the disk yet."""
    used: float = 0.0


class Cache:
    """Whole objects under a folder, by their SHA-256.

    Args:
        folder: made on first use.
        limit: bytes that its objects may take, including those being fetched. By default, all but `KEEP_FREE` of the
            disk.
    """

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        self.folder, self.limit = folder, limit
        self._warned = False

    def find(self, sha256: str, size: int) -> Path | None:
        """Path of an object, or None; counts as a use."""
        path = self._path(sha256)
        try:
            stat = path.stat()
        except OSError:
            return None
        if stat.st_size != size:
            return None
        _note_use(path, stat)
        return path

    def read(self, sha256: str, size: int, start: int, stop: int) -> bytes | None:
        """Bytes `start` to `stop` (exclusive) of an object, or None where it is not cached, or the disk fails.

        Not by a map: that would keep the space of a removed object taken.
        """
        path = self._path(sha256)
        try:
            with path.open("rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                if stat.st_size != size:
                    return None
                _note_use(path, stat)
                return os.pread(file.fileno(), stop - start, start)
        except OSError:
            return None

    def check(self, sha256: str, size: int) -> bool:
        """Whether an object is cached with the bytes that its name says; reads all of it. A damaged one is removed."""
        path = self.find(sha256, size)
        if path is None:
            return False
        try:
            if sha256_file(path) == sha256:
                return True
            path.unlink(missing_ok=True)
        except OSError:  # removed meanwhile, or the disk fails
            return False
        _log.warning("cache %s: object %s was damaged there: it is fetched again", self.folder, sha256[:12])
        return False

    def fill(self, sha256: str, size: int, fetch: Callable[[Path], None], *, urgent: bool) -> Path:
        """Fetches an object unless it is cached; of several processes that want it, one fetches it.

        Args:
            sha256: its name.
            size: bytes.
            fetch: writes it to a path, and raises where its bytes are wrong.
            urgent: the caller needs it now, and waits while another process fetches it. With a limit, the least
                recently used objects make room for it, and an object larger than the limit is let in alone. In all
                other cases only objects unused for half an hour make room, and an urgent object may use the part of
                the disk that should stay free.

        Returns:
            Its path. Where it is not urgent, another process may still be fetching it.

        Raises:
            NoRoomError: there is none. The first time, a line in the log says so.
        """
        try:
            target = self._path(sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            while True:
                with self._alone():
                    if self.find(sha256, size):
                        return target
                    awaited = self._make_room(sha256, size, urgent=urgent)
                    handle, part = (-1, Path()) if awaited else _new_part(target, size)
                if not awaited:
                    return _filled(handle, part, target, fetch)
                if not urgent:
                    return target
                _wait_for(awaited)
        except FileNotFoundError as error:
            raise self._no_room("its folder was removed meanwhile") from error
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise self._no_room(str(error.strerror)) from error

    def discard(self, sha256: str) -> None:
        """Removes an object, and copies of it that were set aside."""
        for path in self._path(sha256).parent.glob(f"{sha256}*"):
            path.unlink(missing_ok=True)

    # -----------------------------------------------------------------------------------------------------------------

    def _path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; where the file system has no locks, all at once, and the limit is approximate."""
        with (self.folder / ".lock").open("ab") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:  # explicitly, since a process forked meanwhile keeps a copy of the file open
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _make_room(self, sha256: str, size: int, *, urgent: bool) -> Path | None:
        """Removes objects until `size` bytes fit; or returns the part that another process must finish first."""
        objects, parts = self._held()
        locked = [part.path for part in parts if _is_locked(part.path)]
        same = [path for path in locked if path.name.startswith(f".part-{sha256}-")]
        if same:
            return same[0]
        room, doomed, strict = self._room(objects, parts), [], urgent and self.limit is not None
        for held in sorted(objects, key=lambda held: held.used):
            if room >= size or (not strict and time.time() - held.used < _IDLE):
                break
            doomed.append(held.path)
            room += held.size
        if room < size and not urgent:
            raise self._no_room("no room" if self.limit is None else f"its limit is {self.limit:,} bytes")
        for path in doomed:
            path.unlink(missing_ok=True)
        return locked[0] if strict and room < size and locked else None

    def _room(self, objects: list[_Held], parts: list[_Held]) -> int:
        """Bytes that still fit; below 0 where the cache is over its limit."""
        disk = shutil.disk_usage(self.folder)
        free = disk.free - sum(part.missing for part in parts)
        if self.limit is None:
            return free - round(KEEP_FREE * disk.total)
        return min(free, self.limit - sum(held.size for held in (*objects, *parts)))

    def _held(self) -> tuple[list[_Held], list[_Held]]:
        """Objects and parts; abandoned parts are removed."""
        objects, parts = [], []
        for path in (self.folder / "objects").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if not path.name.startswith(".part-"):
                    objects.append(_Held(path=path, size=stat.st_size, used=stat.st_mtime))
                elif _is_abandoned(path, stat):
                    path.unlink()
                else:
                    size = int(path.name.split("-")[2])
                    parts.append(_Held(path=path, size=size, missing=max(size - 512 * stat.st_blocks, 0)))
        return objects, parts

    def _no_room(self, why: str) -> NoRoomError:
        if not self._warned:
            self._warned = True
            _log.warning(
                "cache %s takes no more (%s): the rest is read from the store each time it is needed, which is slower; "
                "raise RUSHES_CACHE_GB or give RUSHES_CACHE a larger disk",
                self.folder,
                why,
            )
        return NoRoomError(why)


def _new_part(target: Path, size: int) -> tuple[int, Path]:
    """A locked file for `target`, and its descriptor. Its name holds the size, which reserves the room."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".part-{target.name}-{size}-")
    with contextlib.suppress(OSError):  # some shared file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle, Path(name)


def _filled(handle: int, part: Path, target: Path, fetch: Callable[[Path], None]) -> Path:
    try:
        fetch(part)
        os.fsync(handle)
        part.chmod(0o644)
        part.replace(target)
        return target
    finally:
        part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _is_locked(part: Path) -> bool:
    """Whether a process is fetching it; False where the file system cannot tell."""
    return _lock_state(part) == errno.EWOULDBLOCK


def _is_abandoned(part: Path, stat: os.stat_result) -> bool:
    state = _lock_state(part)
    return state == 0 or (state != errno.EWOULDBLOCK and time.time() - stat.st_mtime > _DAY)


def _lock_state(part: Path) -> int:
    """0 where no process holds the lock, else the error's number."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _wait_for(part: Path) -> None:
    """Returns when its fetcher has ended."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def _note_use(path: Path, stat: os.stat_result) -> None:
    if time.time() - stat.st_mtime > _TOUCH:
        with contextlib.suppress(OSError):  # removed meanwhile, or a volume that is only read
            os.utime(path)
