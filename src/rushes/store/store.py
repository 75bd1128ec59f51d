"""Content-addressed outputs behind one URL; what passes between steps is a pointer.

    <store>/objects/ab/abcd...             bytes, named by their SHA-256, never changed
    <store>/steps/<step>/<digest>.json     a manifest: what a step made under that digest; written last
    <store>/checkpoints/<digest>/...       a step's unfinished work, found again by a retry
    <store>/ledger/<endpoint>/000001.json  promotion decisions, created exclusively

`RUSHES_STORE` names the root: a folder, a mounted volume, or any fsspec URL (`s3://bucket/prefix`). A reader gets
local paths: in place where the store is a folder, else through the node's cache (`rushes.store.cache`), checked against
the digest as it is filled; or parts of large objects (`rushes.store.ranges`). A remote store that fails for a moment is
asked again for a minute.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.store.cache import Cache, NoRoomError

SCHEMA = 1
_DAY = 24 * 3600
_PATIENCE = 60.0  # seconds for which a remote store that fails is asked again


@dataclass(frozen=True, kw_only=True)
class File:
    """One object of the store: its content's SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The pointer to what a step made: kilobytes, whatever it points to.

    `digest` identifies the work (recipe section, inputs, code: `rushes.digests`), so it is known before the work is
    done; `files` identify the bytes that came of it. `inputs` maps an input's name to its `ref` ("sample/ab12...").
    """

    kind: str
    step: str
    digest: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    code: str
    files: Mapping[str, File]
    summary: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def ref(self) -> str:
        """Name under which another manifest refers to this one: `<step>/<digest>`."""
        return f"{self.step}/{self.digest}"

    @property
    def uri(self) -> str:
        """Place under the store."""
        return f"steps/{self.ref}.json"

    def to_json(self) -> str:
        """Canonical text: sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(dataclasses.asdict(self) | {"uri": self.uri}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "manifest") -> "Manifest":
        """Parses `text`; `source` names it in errors.

        Raises:
            UserError: it is no manifest, or of a schema this version does not read.
        """
        try:
            record = json.loads(text)
            record.pop("uri", None)
            if record["schema"] != SCHEMA:
                raise UserError(f"{source}: schema {record['schema']}, this version reads {SCHEMA}: run the step again")
            files = {name: File(**file) for name, file in record.pop("files").items()}
            return cls(files=files, **record)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{source}: not a manifest of rushes ({error})") from error

    def write(self, path: Path) -> None:
        """Writes the pointer to `path`, atomically."""
        write_atomic(path, self.to_json().encode())

    @classmethod
    def read(cls, path: Path, *, kind: str | None = None) -> "Manifest":
        """Reads a pointer file, and checks that it is of `kind`.

        Raises:
            UserError: missing, unreadable or of another kind.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot read the manifest ({error}): run the step that makes it") from error
        manifest = cls.from_json(text, source=str(path))
        if kind is not None and manifest.kind != kind:
            raise UserError(f"{path}: a manifest of kind {manifest.kind!r}, expected {kind!r}")
        return manifest


class Store:
    """Objects, manifests and exclusive records under one root URL.

    Args:
        url: a folder or an fsspec URL.
        cache: folder for objects fetched from a store that is not a folder.
        cache_bytes: what they may take there; by default, all but a share of the disk (`rushes.store.cache`).
    """

    def __init__(self, url: str, *, cache: Path | None = None, cache_bytes: int | None = None) -> None:
        self.url = url
        self.cache = Cache(cache or Path(tempfile.gettempdir()) / "rushes-cache", limit=cache_bytes)
        if ":" not in url:  # a folder: without fsspec, whose import costs a process 0.1 s
            self.local: Path | None = Path(url).expanduser().absolute()
            return
        self._opened, self._root = _opened(url)
        self._process = os.getpid()
        protocols = self._opened.protocol if isinstance(self._opened.protocol, tuple) else (self._opened.protocol,)
        self.local = Path(self._root) if "file" in protocols else None

    @property
    def _fs(self) -> Any:
        """The file system, opened anew in a forked process: the thread that serves it stays behind."""
        if self._process != os.getpid():
            self._opened, self._process = _opened(self.url)[0], os.getpid()
        return self._opened

    # Objects ---------------------------------------------------------------------------------------------------------

    def put(self, path: Path) -> File:
        """Stores the bytes of `path`; storing the same bytes again costs a hash."""
        file = File(sha256=sha256_file(path), size=path.stat().st_size)
        name = _object_name(file.sha256)
        if self._size(name) != file.size:
            if self.local is not None:
                _copy_atomic(path, self.local / name)
            else:
                _patiently(self._fs.put_file, str(path), self._join(name))
        return file

    def put_bytes(self, data: bytes) -> File:
        """Stores `data`."""
        file = File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        if self._size(_object_name(file.sha256)) != file.size:
            self._write(_object_name(file.sha256), data)
        return file

    def holds(self, file: File) -> bool:
        """Whether the object is there, in its size."""
        return self._size(_object_name(file.sha256)) == file.size

    def discard(self, sha256: str) -> None:
        """Removes an object for good, also from this machine's cache; one that is not there counts as removed."""
        if self.local is None:
            self.cache.discard(sha256)
            self.remove(_object_name(sha256))
        else:
            Cache(self.local).discard(sha256)

    def path(self, file: File) -> Path:
        """Returns a local path that holds the object; fetches it through the cache where the store is remote.

        Raises:
            UserError: the object is missing or its bytes are not those it was stored with.
        """
        name = _object_name(file.sha256)
        if self.local is not None:
            path = self.local / name
            if not path.is_file() or path.stat().st_size != file.size:
                raise UserError(f"store {self.url}: object {file.sha256[:12]} is missing or cut short: {REMAKE}")
            return path
        try:
            found = self.cache.find(file.sha256, file.size)
            return found or self.cache.fill(file.sha256, file.size, self._download(file), urgent=True)
        except NoRoomError:
            return self._beside_the_cache(file)

    def fetch(self, file: File) -> None:
        """Has an object of a remote store in the cache, if there is room for it and nobody else fetches it.

        Raises:
            NoRoomError: there is none.
            UserError: the object is missing or its bytes are not those it was stored with.
        """
        self.cache.fill(file.sha256, file.size, self._download(file), urgent=False)

    def range(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of an object of a remote store, past the cache; their digest is unknown.

        Raises:
            UserError: the object is missing or cut short.
        """
        name = _object_name(file.sha256)
        try:
            data: bytes = _patiently(self._fs.cat_file, self._join(name), start=start, end=stop)
        except FileNotFoundError as error:
            raise self._missing(file) from error
        if len(data) != stop - start:
            raise UserError(f"store {self.url}: object {file.sha256[:12]} is cut short: remove it and {REMAKE}")
        return data

    def _download(self, file: File) -> Callable[[Path], None]:
        """Writes an object to a path, and checks it there."""

        def download(path: Path) -> None:
            name = _object_name(file.sha256)
            try:
                _patiently(self._fs.get_file, self._join(name), str(path))
            except FileNotFoundError as error:
                if self.holds(file):  # it is the cache's folder that is gone
                    raise
                raise self._missing(file) from error
            if sha256_file(path) != file.sha256:
                raise UserError(f"store {self.url}: object {name} {DAMAGED}: remove it and {REMAKE}")

        return download

    def _beside_the_cache(self, file: File) -> Path:
        """An object that is needed whole and that the cache has no room for, until this process ends."""
        path = Path(_spare_folder(os.getpid()).name) / file.sha256
        if not path.exists():
            part = path.with_suffix(".part")
            self._download(file)(part)
            part.replace(path)
        return path

    def _missing(self, file: File) -> UserError:
        return UserError(f"store {self.url}: object {file.sha256[:12]} is missing: {REMAKE}")

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
        if self.local is None:
            return self.path(file)
        raise UserError(f"store {self.url}: object {file.sha256[:12]} {DAMAGED}: {REMAKE}")

    # Manifests -------------------------------------------------------------------------------------------------------

    def publish(self, manifest: Manifest) -> None:
        """Writes the manifest, which makes the output complete: all its files are stored before."""
        self._write(manifest.uri, manifest.to_json().encode())

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
        try:
            if self.local is not None:
                return (self.local / name).read_bytes()
            data: bytes = _patiently(self._fs.cat_file, self._join(name))
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces a small record, atomically."""
        self._write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Creates a record unless it exists; of several at once, exactly one gets True. The record appears whole."""
        if self.local is not None:
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-") as part:
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).chmod(0o644)
                try:
                    os.link(part.name, path)
                except FileExistsError:
                    return False
            _fsync_folder(path.parent)
            return True
        try:
            self._fs.pipe_file(self._join(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Removes a small record; one that is not there counts as removed."""
        if self.local is not None:
            (self.local / name).unlink(missing_ok=True)
        elif _patiently(self._fs.exists, self._join(name)):
            _patiently(self._fs.rm_file, self._join(name))

    def names(self, prefix: str) -> list[str]:
        """Names of the records directly under a folder, sorted."""
        try:
            if self.local is not None:
                listed = [entry.name for entry in (self.local / prefix).iterdir()]
            else:
                listed = _patiently(self._fs.ls, self._join(prefix), detail=False)
            names = [entry.rsplit("/", 1)[-1] for entry in listed]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def folder(self, name: str) -> Path:
        """A folder of this machine for what is being written; what another machine must find is a record, not here."""
        folder = (self.local or self.cache.folder) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def sweep(self, name: str) -> None:
        """Removes what killed writers left among the objects and in a folder of unfinished work.

        Only what is a day old, so that nobody who is at work loses a file.
        """
        root = self.local or self.cache.folder
        for part in (*root.glob("objects/*/.part-*"), *(root / name).glob("*.part"), *(root / name).glob(".part-*")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _DAY:
                    part.unlink()

    # -----------------------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _size(self, name: str) -> int | None:
        if self.local is not None:
            try:
                return (self.local / name).stat().st_size
            except FileNotFoundError:
                return None
        try:
            return int(_patiently(self._fs.size, self._join(name)))
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        if self.local is not None:
            write_atomic(self.local / name, data)
        else:
            _patiently(self._fs.pipe_file, self._join(name), data)


REMAKE = "run the step that made it again"
DAMAGED = "is not what was stored (disk fault or edit)"


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader, or a crash, sees the old bytes or the new ones and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def _opened(url: str) -> tuple[Any, str]:
    """The file system of an fsspec URL, and the place in it."""
    import fsspec

    try:
        # Listings are not cached: others write too, and a ledger must be seen as it is.
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise UserError(f"store: {url!r} cannot be opened ({error}): give a folder or a known URL") from error
    return files, root.rstrip("/")


def _patiently(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call to a remote store returns; made again for a while where it fails in a way that may pass."""
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
        stop=tenacity.stop_after_delay(_PATIENCE),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    )
    return retrying(call, *arguments, **options)


def _may_pass(error: BaseException) -> bool:
    """Whether the server was busy or away. Beyond what s3fs does itself, which gives up after seconds."""
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO):
        return True
    # botocore's and aiohttp's own, by name: neither is imported where the store is another.
    named = {"HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ in named for kind in type(error).mro()
    )


@functools.cache
def _spare_folder(process: int) -> "tempfile.TemporaryDirectory[str]":
    """A folder of this process: of the one that asks, since its children have its memory."""
    return tempfile.TemporaryDirectory(prefix="rushes-objects-")


def _copy_atomic(source: Path, target: Path) -> None:
    import shutil

    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        Path(part).chmod(0o644)
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _fsync_folder(target.parent)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _object_name(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"
