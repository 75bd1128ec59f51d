"""Content-addressed outputs behind one URL, and this machine's cache of a remote one."""

from rushes.store.store import REMAKE, File, Manifest, Store, sha256_file, write_atomic

__all__ = ["REMAKE", "File", "Manifest", "Store", "sha256_file", "write_atomic"]
