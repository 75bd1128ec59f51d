"""The node's cache: objects of a remote store on this machine's disk, no more of them than there is room for.

    <cache>/objects/ab/abcd...                      an object, named by its SHA-256; its mtime is when it was last used
    <cache>/objects/ab/.part-abcd...-4096-x1y2z3    one of 4096 bytes that is being fetched, locked by who does it
    <cache>/.lock                                   held while room is made

The files are all that there is to know, so several processes, and machines that share a volume, may use it at once, and
a kill leaves nothing wrong: a part that nobody holds a lock on is removed by whoever makes room next. What is least
recently used goes first. Nobody is asked whether he reads it: an open file or a map of it stays whole (POSIX).
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

KEEP_FREE = 0.15
"""Share of the disk that stays free where no limit is set: below it, Kubernetes begins to evict pods."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IDLE = 1800.0  # seconds without use after which an object may make room although nothing forces it to
_TOUCH = 20.0  # seconds for which a use need not be noted again
_DAY = 24 * 3600
_log = logging.getLogger(__name__)


class NoRoomError(Exception):
    """The limit, or the disk, leaves no room for an object."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A file of the cache: an object, or a part of one."""

    path: Path
    size: int
    """Bytes that it takes, or will take."""
    missing: int = 0
    """Bytes of it that are not on the disk yet."""
    used: float = 0.0


class Cache:
    """Whole objects under a folder, by their SHA-256.

    Args:
        folder: made on first use.
        limit: bytes that its objects may take, those being fetched included. By default they may take all but
            `KEEP_FREE` of the disk.
    """

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        self.folder, self.limit = folder, limit
        self._told = False

    def find(self, sha256: str, size: int) -> Path | None:
        """Where an object is, or None; counts as a use."""
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
        """Bytes `start` to `stop` (exclusive) of an object, or None where it is not here, or the disk fails.

        Not by a map: the space of an object that was removed would stay taken for as long as somebody maps it.
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

    def fill(self, sha256: str, size: int, fetch: Callable[[Path], None], *, urgent: bool) -> Path:
        """Fetches an object unless it is here; of several processes that want the same one, one fetches it.

        Args:
            sha256: its name.
            size: bytes.
            fetch: writes it to a path, and raises where it is not what it should be.
            urgent: somebody waits for it, and no time is lost otherwise with what another process fetches. Where there
                is a limit, whatever was used longest ago makes room, and an object larger than the limit is let in
                alone: what is needed at once should fit. In all other cases only that makes room which nobody has
                used for half an hour, and an urgent object may take of what should stay free of the disk.

        Returns:
            Where it is, or will be: another process may still be fetching what is not urgent.

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
        """Removes an object, also what was set aside of it."""
        for path in self._path(sha256).parent.glob(f"{sha256}*"):
            path.unlink(missing_ok=True)

    # -----------------------------------------------------------------------------------------------------------------

    def _path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; all of them where the file system knows no locks: the limit then holds roughly."""
        with (self.folder / ".lock").open("ab") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:  # by name, since a process forked meanwhile keeps a copy of the file open
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _make_room(self, sha256: str, size: int, *, urgent: bool) -> Path | None:
        """Removes what must go for `size` bytes; or returns the part that another process must end first."""
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
        """Bytes that there is room for; below 0 where there is too much already."""
        disk = shutil.disk_usage(self.folder)
        free = disk.free - sum(part.missing for part in parts)
        if self.limit is None:
            return free - round(KEEP_FREE * disk.total)
        return min(free, self.limit - sum(held.size for held in (*objects, *parts)))

    def _held(self) -> tuple[list[_Held], list[_Held]]:
        """Objects and parts; what nobody fetches any more is removed."""
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
        if not self._told:
            self._told = True
            _log.warning(
                "cache %s takes no more (%s): the rest is read from the store each time it is needed, which is slower; "
                "raise RUSHES_CACHE_GB or give RUSHES_CACHE a larger disk",
                self.folder,
                why,
            )
        return NoRoomError(why)


def _new_part(target: Path, size: int) -> tuple[int, Path]:
    """A locked file for `target`, and its descriptor. Its name reserves the room."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".part-{target.name}-{size}-")
    with contextlib.suppress(OSError):  # some shared file systems know no locks
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
    """Whether somebody fetches it; False where the file system cannot tell."""
    return _lock_state(part) == errno.EWOULDBLOCK


def _is_abandoned(part: Path, stat: os.stat_result) -> bool:
    state = _lock_state(part)
    return state == 0 or (state != errno.EWOULDBLOCK and time.time() - stat.st_mtime > _DAY)


def _lock_state(part: Path) -> int:
    """0 where nobody holds a lock, else the error's number."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _wait_for(part: Path) -> None:
    """Returns when whoever fetches it has come to an end."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def _note_use(path: Path, stat: os.stat_result) -> None:
    if time.time() - stat.st_mtime > _TOUCH:
        with contextlib.suppress(OSError):  # removed meanwhile, or a volume that is only read
            os.utime(path)
