"""Parts of a remote store's objects, at once: from the cache where the object is there, else by a range request.

    parts = Parts(store)
    parts.read(shard, offset, offset + length)

At first only the parts that are read are fetched. When they amount to an eighth of an object, and not in one read, it
is fetched whole: in the background, one object at a time per process, and each by one of the processes that share the
cache. So work begins early, and little is read twice. Where the cache has no room, parts are read from the store as
before.

The digest of an object is checked when it is whole: as it is fetched, and once more by each process that finds it in
the cache, where a disk may have failed since; a damaged copy is removed and the object fetched again. A range has no
digest: the transport's own checks guard it. An object that turns out damaged is an error at the next read of a part of
it.
"""

import logging
import os
import queue
import threading
import time
from typing import Any

from rushes.errors import UserError
from rushes.store import File, Store
from rushes.store.cache import NoRoomError

_SHARE = 1 / 8  # of an object: when so much was read in parts, it is fetched whole
_REST = 60.0  # seconds without background fetches after there was no room, or the store failed
_log = logging.getLogger(__name__)


class Parts:
    """Reads parts of objects; may be forked and pickled.

    Args:
        store: a remote one.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.store = state["store"]
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._streamed: dict[File, int] = {}
        self._queued: set[File] = set()
        self._checked: set[File] = set()
        self._damaged: dict[File, UserError] = {}
        self._queue: queue.SimpleQueue[File] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._rests_until = 0.0

    def read(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of an object.

        Raises:
            UserError: the object is missing, cut short, or turned out damaged.
        """
        if os.getpid() != self._process:  # a fork does not copy the thread
            self._begin()
        data = self._cached(file, start, stop)
        if data is not None:
            return data
        if file in self._damaged:
            raise self._damaged[file]
        data = self.store.range(file, start, stop)
        before = self._streamed.get(file, 0)
        self._streamed[file] = before + len(data)
        if before and self._streamed[file] >= _SHARE * file.size:
            self._fetch_later(file)
        return data

    def _cached(self, file: File, start: int, stop: int) -> bytes | None:
        """A part of an object that is cached; the whole of it is checked the first time."""
        if file not in self._checked:
            if not self.store.cache.check(file.sha256, file.size):
                return None
            self._checked.add(file)
        return self.store.cache.read(file.sha256, file.size, start, stop)

    def _fetch_later(self, file: File) -> None:
        if file in self._queued or time.monotonic() < self._rests_until:
            return
        self._queued.add(file)
        self._queue.put(file)
        if self._thread is None:
            self._thread = threading.Thread(target=self._fetch_all, name="rushes-cache", daemon=True)
            self._thread.start()

    def _fetch_all(self) -> None:
        while True:
            file = self._queue.get()
            if time.monotonic() >= self._rests_until:
                self._fetch(file)
            self._queued.discard(file)

    def _fetch(self, file: File) -> None:
        try:
            self.store.fetch(file)
        except UserError as error:
            self._damaged[file] = error
        except NoRoomError:  # the cache has logged it
            self._rests_until = time.monotonic() + _REST
        except Exception as error:  # not raised: a read of a range says whether the store answers
            self._rests_until = time.monotonic() + _REST
            _log.warning("object %s could not be cached (%s); it is read from the store", file.sha256[:12], error)
