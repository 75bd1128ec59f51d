"""Content-addressed outputs behind one URL.

    <store>/objects/ab/abcd...             bytes, named by their SHA-256, never changed
    <store>/steps/<step>/<digest>.json     a manifest: what a step made under that digest; written last
    <store>/checkpoints/<digest>/...       a step's unfinished work, found again by a retry
    <store>/ledger/<endpoint>/000001.json  promotion decisions, created exclusively

`RUSHES_STORE` names the root: a folder, a mounted volume, or any fsspec URL (`s3://bucket/prefix`). Readers get local
paths: in place where the store is a folder (`rushes.store.folder`), else through the node's cache
(`rushes.store.remote`), checked against the digest as it is filled; or parts of large objects (`rushes.store.ranges`).
"""

import contextlib
import hashlib
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rushes.errors import UserError
from rushes.store.backend import REMAKE, Backend, missing, object_name
from rushes.store.cache import Cache
from rushes.store.files import sha256_file
from rushes.store.folder import FolderBackend
from rushes.store.manifest import File, Manifest
from rushes.store.remote import RemoteBackend

_DAY = 24 * 3600


class Store:
    """Objects, manifests and exclusive records under one root URL.

    Args:
        url: a folder or an fsspec URL.
        cache: folder for objects fetched from a store that is not a folder.
        cache_bytes: bytes that they may take there; by default, all but a share of the disk (`rushes.store.cache`).
    """

    def __init__(self, url: str, *, cache: Path | None = None, cache_bytes: int | None = None) -> None:
        self.url = url
        self.cache = Cache(cache or Path(tempfile.gettempdir()) / "rushes-cache", limit=cache_bytes)
        self._backend = _backend(url, self.cache)

    @property
    def local(self) -> Path | None:
        """The root, where it is a folder of this machine."""
        return self._backend.local

    # Objects ---------------------------------------------------------------------------------------------------------

    def put(self, path: Path) -> File:
        """Stores the bytes of `path`; storing the same bytes again costs a hash."""
        file = File(sha256=sha256_file(path), size=path.stat().st_size)
        if not self.holds(file):
            self._backend.put(path, object_name(file.sha256))
        return file

    def put_bytes(self, data: bytes) -> File:
        """Stores `data`."""
        file = File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        if not self.holds(file):
            self._backend.write(object_name(file.sha256), data)
        return file

    def holds(self, file: File) -> bool:
        """Whether the object is there, in its size."""
        return self._backend.size(object_name(file.sha256)) == file.size

    def discard(self, sha256: str) -> None:
        """Removes an object for good, also from this machine's cache; a missing one counts as removed."""
        self._backend.discard(sha256)

    def path(self, file: File) -> Path:
        """Returns a local path that holds the object; fetches it through the cache where the store is remote.

        Raises:
            UserError: the object is missing or its bytes are not those it was stored with.
        """
        return self._backend.path(file)

    def fetch(self, file: File) -> None:
        """Caches an object of a remote store, if there is room for it and no other process fetches it.

        Raises:
            NoRoomError: there is none.
            UserError: the object is missing or its bytes are not those it was stored with.
        """
        self._backend.fetch(file)

    def range(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of an object, not from the cache; their digest is not checked.

        Raises:
            UserError: the object is missing or cut short.
        """
        try:
            data = self._backend.range(file, start, stop)
        except FileNotFoundError as error:
            raise UserError(missing(self.url, file)) from error
        if len(data) != stop - start:
            raise UserError(f"store {self.url}: object {file.sha256[:12]} is cut short: remove it and {REMAKE}")
        return data

    def checked(self, file: File) -> Path:
        """`path`, with the content's digest verified: for small files that everything depends on.

        Raises:
            UserError: the object is missing or damaged. A damaged one is set aside, so that the step that made it
                counts as not done and runs again; in the cache, it is fetched again.
        """
        path = self.path(file)
        if sha256_file(path) == file.sha256:
            return path
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{path.name}.damaged"))
        return self._backend.replacement(file)

    # Manifests -------------------------------------------------------------------------------------------------------

    def publish(self, manifest: Manifest) -> None:
        """Writes the manifest, which makes the output complete: all its files are stored before."""
        self._backend.write(manifest.uri, manifest.to_json().encode())

    def find(self, ref: str) -> Manifest | None:
        """Returns the manifest of a complete output (`<step>/<digest>`), or None.

        An output whose objects have since gone missing counts as incomplete, and so does one whose manifest this
        version cannot read: the step runs again and replaces it.
        """
        data = self.read(f"steps/{ref}.json")
        if data is None:
            return None
        try:
            manifest = Manifest.from_json(data.decode(errors="replace"), source=f"{self.url}/steps/{ref}.json")
        except UserError:
            return None
        whole = all(self.holds(file) for file in manifest.files.values())
        return manifest if whole else None

    # Small records ---------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes | None:
        """Returns the bytes of a small record, or None where there is none."""
        return self._backend.read(name)

    def modified(self, name: str) -> datetime:
        """When a small record was last written.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._backend.modified(name)

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces a small record, atomically."""
        self._backend.write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Creates a record unless it exists; of several at once, exactly one gets True. The record appears whole."""
        return self._backend.create(name, data)

    def remove(self, name: str) -> None:
        """Removes a small record; one that is not there counts as removed."""
        self._backend.remove(name)

    def names(self, prefix: str) -> list[str]:
        """Names of the records directly under a folder, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(name for name in self._backend.names(prefix) if not name.startswith("."))
        return []

    def folder(self, name: str) -> Path:
        """A folder of this machine for unfinished files; what another machine must find is a record instead."""
        folder = self._backend.working_folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def sweep(self, name: str) -> None:
        """Removes what killed writers left among the objects and in a folder of unfinished work.

        Only files that are a day old, so that no running writer loses one.
        """
        root = self._backend.working_folder
        for part in (*root.glob("objects/*/.part-*"), *(root / name).glob("*.part"), *(root / name).glob(".part-*")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _DAY:
                    part.unlink()


def _backend(url: str, cache: Cache) -> Backend:
    if ":" not in url:  # a folder: without fsspec, whose import takes 0.1 s
        return FolderBackend(Path(url).expanduser().absolute())
    remote = RemoteBackend(url, cache)
    return FolderBackend(remote.folder) if remote.folder is not None else remote
