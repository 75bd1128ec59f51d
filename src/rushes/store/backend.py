"""What a store asks of the folder or the remote storage that holds it."""

from datetime import datetime
from pathlib import Path
from typing import Protocol

from rushes.store.manifest import File

REMAKE = "run the step that made it again"
DAMAGED = "is not what was stored (disk fault or edit)"


class Backend(Protocol):
    """Bytes by name, and objects by their SHA-256, under one root."""

    @property
    def local(self) -> Path | None:
        """The root, where it is a folder of this machine."""

    @property
    def working_folder(self) -> Path:
        """A folder of this machine for files that are being written."""

    def size(self, name: str) -> int | None:
        """Bytes stored under `name`, or None where nothing is."""

    def modified(self, name: str) -> datetime:
        """When `name` was last written.

        Raises:
            FileNotFoundError: nothing is stored there.
        """

    def read(self, name: str) -> bytes | None:
        """The bytes stored under `name`, or None where nothing is."""

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces, atomically."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes unless `name` exists; of several writers at once, exactly one gets True."""

    def put(self, path: Path, name: str) -> None:
        """Writes or replaces with a file's content, atomically."""

    def remove(self, name: str) -> None:
        """Removes what is stored under `name`, if anything is."""

    def names(self, prefix: str) -> list[str]:
        """Last parts of the names directly under `prefix`, in any order.

        Raises:
            FileNotFoundError: there are none.
        """

    def path(self, file: File) -> Path:
        """A file of this machine that holds the object.

        Raises:
            UserError: it is missing or damaged.
        """

    def replacement(self, file: File) -> Path:
        """As `path`, after a damaged copy has been set aside."""

    def fetch(self, file: File) -> None:
        """Caches the object, if there is room and no other process fetches it."""

    def range(self, file: File, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of the object, not from the cache; fewer where it is cut short.

        Raises:
            FileNotFoundError: it is missing.
        """

    def discard(self, sha256: str) -> None:
        """Removes an object and every copy of it on this machine, also those set aside."""


def object_name(sha256: str) -> str:
    """Name of an object under the root."""
    return f"objects/{sha256[:2]}/{sha256}"


def missing(url: str, file: File) -> str:
    """Message for an object that is not in the store."""
    return f"store {url}: object {file.sha256[:12]} is missing: {REMAKE}"
