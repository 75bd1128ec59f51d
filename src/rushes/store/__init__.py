"""Content-addressed outputs behind one URL, and this machine's cache of a remote one."""

from rushes.store.backend import REMAKE
from rushes.store.files import fsync, locked, sha256_file, write_atomic
from rushes.store.manifest import File, Manifest
from rushes.store.store import Store

__all__ = ["REMAKE", "File", "Manifest", "Store", "fsync", "locked", "sha256_file", "write_atomic"]
