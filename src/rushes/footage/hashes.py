"""What the store remembers of an archive's files, so that a file is hashed once.

    <store>/hashes/<digest of the root>.json     {path: [size, stamp, SHA-256]}

A stamp is the modification time, or the ETag of an object.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rushes.footage.files import Listed
from rushes.store import Store

_SHA256 = re.compile("[0-9a-f]{64}")


class Hashes:
    """The record of one archive.

    Args:
        store: where it is.
        root: folder or URL of the archive.
    """

    def __init__(self, store: Store, root: str) -> None:
        self._store = store
        self._name = f"hashes/{hashlib.sha256(root.encode()).hexdigest()[:16]}.json"

    def read(self) -> dict[str, tuple[int, str, str]]:
        """(size, stamp, SHA-256) by path; a damaged record counts as empty."""
        try:
            held = json.loads(self._store.read(self._name) or b"{}")
        except (ValueError, RecursionError):
            return {}
        if not isinstance(held, dict):
            return {}
        return {path: entry for path, record in held.items() if (entry := _entry(record)) is not None}

    def write(self, hashes: Mapping[str, str], files: Iterable[Listed]) -> None:
        """Replaces the record by the files that have a hash."""
        entries = {f.path: [f.size, f.stamp, hashes[f.path]] for f in files if f.path in hashes}
        self._store.write(self._name, json.dumps(entries).encode())

    def drop(self, wrong: Mapping[str, str]) -> None:
        """Removes entries that proved wrong: SHA-256 by path, so that the next `pin` reads these files again."""
        held = self.read()
        kept = {path: list(entry) for path, entry in held.items() if wrong.get(path) != entry[2]}
        if len(kept) < len(held):
            self._store.write(self._name, json.dumps(kept).encode())


def unchanged(held: Mapping[str, tuple[int, str, str]], files: Iterable[Listed]) -> dict[str, str]:
    """SHA-256 of each file whose size and stamp are as they were."""
    return {
        file.path: held[file.path][2]
        for file in files
        if file.path in held and held[file.path][:2] == (file.size, file.stamp)
    }


def _entry(record: Any) -> tuple[int, str, str] | None:
    match record:
        case [int(size), str(stamp), str(sha256)] if _SHA256.fullmatch(sha256):
            return size, stamp, sha256
    return None
