"""The doctor's checks of the store and of the node's cache: both are written to."""

import contextlib
import shutil
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rushes.doctor.findings import TIMEOUT, Environment, Finding
from rushes.home import open_store
from rushes.store import Store, write_atomic

LITTLE_SPACE = 10e9
"""Free bytes below which a disk is worth a warning: the footage of about 200 hours."""
_RACERS = 4


def check_store(environment: Environment) -> Finding:
    """Writes, reads and removes a record; if several threads create one name at once, exactly one must succeed."""
    store = open_store()
    name = f"doctor/{uuid.uuid4().hex}"
    try:
        began = time.monotonic()
        store.write(name, b"probe")
        read = store.read(name)
        store.remove(name)
        seconds = (time.monotonic() - began) / 3
        if read != b"probe" or store.read(name) is not None:
            remedy = "Set RUSHES_STORE to a store where all readers see at once what was written."
            return Finding(verdict="failed", found=f"{store.url} does not give back what was written", remedy=remedy)
        winners = _winners(store, name)
    except (OSError, ImportError) as error:
        found = f"{store.url} cannot be used ({error})"
        return Finding(verdict="failed", found=found, remedy="Set RUSHES_STORE to a store that can be written to.")
    finally:
        with contextlib.suppress(Exception):
            store.remove(name)
    if winners != 1:
        found = f"{store.url}: {winners} of {_RACERS} created the same record"
        remedy = "Use a store that honours If-None-Match (S3, recent MinIO) or a folder: promotion depends on it."
        return Finding(verdict="failed", found=found, remedy=remedy)
    found = f"{store.url}: writes, reads, removes, creates exclusively; {1e3 * seconds:.0f} ms each"
    if store.local is None:
        return Finding(verdict="ok", found=found)
    return _with_space(store.local, found, variable="RUSHES_STORE")


def check_cache(environment: Environment) -> Finding:
    """The folder that holds copies from a store that is not a folder."""
    store = open_store()
    folder = store.cache.folder
    if store.local is not None:
        return Finding(verdict="ok", found=f"{folder}: not used, since the store is a folder")
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        write_atomic(probe, b"probe")
        probe.unlink()
    except OSError as error:
        found = f"{folder} cannot be written to ({error.strerror})"
        return Finding(verdict="failed", found=found, remedy="Set RUSHES_CACHE to a folder that can be written to.")
    return _with_space(folder, str(folder), variable="RUSHES_CACHE")


def _winners(store: Store, name: str) -> int:
    """How many of several threads created the record."""
    barrier = threading.Barrier(_RACERS)

    def create(number: int) -> bool:
        barrier.wait(TIMEOUT)
        return store.create(name, f"{number}".encode())

    with ThreadPoolExecutor(_RACERS) as pool:
        return sum(pool.map(create, range(_RACERS)))


def _with_space(folder: Path, found: str, *, variable: str) -> Finding:
    """The finding for a folder that works, with its free space."""
    free = shutil.disk_usage(folder).free
    found = f"{found}; {free / 1e9:,.0f} GB free"
    if free < LITTLE_SPACE:
        return Finding(verdict="warning", found=found, remedy=f"Free space, or set {variable} to another disk.")
    return Finding(verdict="ok", found=found)
