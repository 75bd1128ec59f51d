"""A store in a folder of this machine, or on a volume that is mounted here."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rushes.errors import UserError
from rushes.store.backend import DAMAGED, REMAKE, object_name
from rushes.store.cache import Cache
from rushes.store.files import copy_atomic, fsync, write_atomic
from rushes.store.manifest import File


class FolderBackend:
    """Names are paths under `root`; objects are read where they lie."""

    def __init__(self, root: Path) -> None:
        self.root = self.local = self.working_folder = root

    def size(self, name: str) -> int | None:
        """Bytes stored under `name`, or None where nothing is."""
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def modified(self, name: str) -> datetime:
        """When `name` was last written."""
        return datetime.fromtimestamp((self.root / name).stat().st_mtime, UTC)

    def read(self, name: str) -> bytes | None:
        """The bytes stored under `name`, or None where nothing is."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces, atomically."""
        write_atomic(self.root / name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes unless `name` exists: a link to a whole file, which the file system makes once."""
        path = self.root / name
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
        fsync(path.parent)
        return True

    def put(self, path: Path, name: str) -> None:
        """Copies a file, atomically."""
        copy_atomic(path, self.root / name)

    def remove(self, name: str) -> None:
        """Removes what is stored under `name`, if anything is."""
        (self.root / name).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        """Names of the entries of a folder."""
        return [entry.name for entry in (self.root / prefix).iterdir()]

    def path(self, file: File) -> Path:
        """Where the object lies."""
        path = self.root / object_name(file.sha256)
        if not path.is_file() or path.stat().st_size != file.size:
            raise UserError(f"store {self.root}: object {file.sha256[:12]} is missing or cut short: {REMAKE}")
        return path

    def replacement(self, file: File) -> Path:
        """Raises: there is no other copy of a damaged object."""
        raise UserError(f"store {self.root}: object {file.sha256[:12]} {DAMAGED}: {REMAKE}")

    def fetch(self, file: File) -> None:
        """Nothing to do: the object is on this machine."""

    def range(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of the object."""
        with (self.root / object_name(file.sha256)).open("rb") as opened:
            return os.pread(opened.fileno(), stop - start, start)

    def discard(self, sha256: str) -> None:
        """Removes an object, and what was set aside of it."""
        Cache(self.root).discard(sha256)
