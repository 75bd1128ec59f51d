"""A store behind an fsspec URL: objects are read through this machine's cache.

A server that fails in a way that may pass is called again for a minute.
"""

import errno
import functools
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.store.backend import DAMAGED, REMAKE, missing, object_name
from rushes.store.cache import Cache, NoRoomError
from rushes.store.files import sha256_file
from rushes.store.manifest import File

_PATIENCE = 60.0  # seconds for which a call that fails is repeated


class RemoteBackend:
    """Names are keys under an fsspec URL.

    Args:
        url: e.g. `s3://bucket/prefix`.
        cache: for objects of the store.

    Raises:
        UserError: the URL cannot be opened.
    """

    local = None

    def __init__(self, url: str, cache: Cache) -> None:
        self._url, self._cache = url, cache
        self._opened, self._root = _opened(url)
        self._process = os.getpid()

    @property
    def folder(self) -> Path | None:
        """The folder that the URL names, where it names one of this machine (`file://...`)."""
        protocol = self._opened.protocol
        return Path(self._root) if "file" in (protocol if isinstance(protocol, tuple) else (protocol,)) else None

    @property
    def working_folder(self) -> Path:
        """A folder of this machine for files that are being written."""
        return self._cache.folder

    @property
    def _fs(self) -> Any:
        """The file system, opened anew in a forked process: the thread that serves it does not survive a fork."""
        if self._process != os.getpid():
            self._opened, self._process = _opened(self._url)[0], os.getpid()
        return self._opened

    def size(self, name: str) -> int | None:
        """Bytes stored under `name`, or None where nothing is."""
        try:
            return int(_patiently(self._fs.size, self._key(name)))
        except FileNotFoundError:
            return None

    def modified(self, name: str) -> datetime:
        """When `name` was last written."""
        found: datetime = _patiently(self._fs.modified, self._key(name))
        return found

    def read(self, name: str) -> bytes | None:
        """The bytes stored under `name`, or None where nothing is."""
        try:
            data: bytes = _patiently(self._fs.cat_file, self._key(name))
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces, atomically."""
        _patiently(self._fs.pipe_file, self._key(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes unless `name` exists. Never repeated: a first try that succeeded unheard would look like a rival's."""
        try:
            self._fs.pipe_file(self._key(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, path: Path, name: str) -> None:
        """Uploads a file."""
        _patiently(self._fs.put_file, str(path), self._key(name))

    def remove(self, name: str) -> None:
        """Removes what is stored under `name`, if anything is."""
        if _patiently(self._fs.exists, self._key(name)):
            _patiently(self._fs.rm_file, self._key(name))

    def names(self, prefix: str) -> list[str]:
        """Last parts of the keys directly under `prefix`."""
        listed: list[str] = _patiently(self._fs.ls, self._key(prefix), detail=False)
        return [entry.rsplit("/", 1)[-1] for entry in listed]

    def path(self, file: File) -> Path:
        """The object in the cache; in a folder of this process where the cache has no room for it."""
        try:
            found = self._cache.find(file.sha256, file.size)
            return found or self._cache.fill(file.sha256, file.size, self._download(file), urgent=True)
        except NoRoomError:
            return self._beside_the_cache(file)

    def replacement(self, file: File) -> Path:
        """Fetches the object again."""
        return self.path(file)

    def fetch(self, file: File) -> None:
        """Caches the object, if there is room and no other process fetches it.

        Raises:
            NoRoomError: there is none.
            UserError: the object is missing or damaged.
        """
        self._cache.fill(file.sha256, file.size, self._download(file), urgent=False)

    def range(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of the object, not from the cache."""
        data: bytes = _patiently(self._fs.cat_file, self._key(object_name(file.sha256)), start=start, end=stop)
        return data

    def discard(self, sha256: str) -> None:
        """Removes an object, also from this machine's cache."""
        self._cache.discard(sha256)
        self.remove(object_name(sha256))

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _download(self, file: File) -> Callable[[Path], None]:
        """A function that writes the object to a path, and checks its digest there."""

        def download(path: Path) -> None:
            name = object_name(file.sha256)
            try:
                _patiently(self._fs.get_file, self._key(name), str(path))
            except FileNotFoundError as error:
                if self.size(name) == file.size:  # the cache's folder is gone, not the object
                    raise
                raise UserError(missing(self._url, file)) from error
            if sha256_file(path) != file.sha256:
                raise UserError(f"store {self._url}: object {name} {DAMAGED}: remove it and {REMAKE}")

        return download

    def _beside_the_cache(self, file: File) -> Path:
        """An object that is needed whole and does not fit the cache: a file that lasts as long as this process."""
        path = Path(_process_folder(os.getpid()).name) / file.sha256
        if not path.exists():
            part = path.with_suffix(".part")
            self._download(file)(part)
            part.replace(path)
        return path


def _opened(url: str) -> tuple[Any, str]:
    """The file system of an fsspec URL, and the root in it."""
    import fsspec

    try:
        # Listings are not cached: others write too, and a ledger must be seen as it is.
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise UserError(f"store: {url!r} cannot be opened ({error}): give a folder or a known URL") from error
    return files, root.rstrip("/")


def _patiently(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls a remote store; repeats the call for a while where it fails in a way that may pass."""
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
        stop=tenacity.stop_after_delay(_PATIENCE),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    )
    return retrying(call, *arguments, **options)


def _may_pass(error: BaseException) -> bool:
    """Whether the server was busy or unreachable. s3fs retries too, but gives up after seconds."""
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO):
        return True
    # botocore's and aiohttp's errors, by name: neither is imported where the store needs none.
    named = {"HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ in named for kind in type(error).mro()
    )


@functools.cache
def _process_folder(process: int) -> "tempfile.TemporaryDirectory[str]":
    """A folder of the process with this number; a forked child's memory holds its parent's, too."""
    return tempfile.TemporaryDirectory(prefix="rushes-objects-")
