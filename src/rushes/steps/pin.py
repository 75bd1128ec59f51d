"""`rushes pin`: resolves a data reference once, to content. Never cached: it is what decides whether anything changed.

The digest covers relative paths and contents, not folders or times, so the same footage elsewhere is the same footage.
A file is hashed once: its SHA-256 is remembered under its path, size and modification time (or ETag), in the store.

    <store>/hashes/<digest of the root>.json     {path: [size, time or ETag, SHA-256]}; saved while it hashes, too
"""

import dataclasses
import hashlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.archive import list_archive
from rushes.footage.files import Listed, content_digest, is_url
from rushes.footage.reference import DataReference
from rushes.steps.base import Context, reported
from rushes.store import Manifest, Store

_SAVE_SECONDS = 30.0
_SHA256 = re.compile("[0-9a-f]{64}")


@reported("pin")
def pin(*, data: DataReference, out: Path, rehash: bool = False) -> Manifest:
    """Lists and hashes the videos and reads what is known about them.

    Args:
        data: the videos and their labels.
        out: where the pointer goes.
        rehash: reads every file again, also those whose size and modification time (or ETag) are as they were.
    """
    context = Context(step="pin")
    root = str(_checkout(Path(data.videos), data.revision, context)) if data.revision else data.root
    archive = list_archive(root)
    for note in archive.notes():
        context.progress.say(note)
    annotations = data.annotations(archive.paths, root=root, say=context.progress.say)
    hashes = _hash_all(root, archive.files, context, rehash=rehash)
    listing: dict[str, list[Any]] = {
        "files": [[file.path, hashes[file.path], file.size] for file in archive.files],
        "annotations": [dataclasses.asdict(annotation) for annotation in annotations],
    }
    text = json.dumps(listing, indent=0, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()[:16]
    return context.publish(
        out,
        kind="pin",
        digest=digest,
        inputs={},
        files={"listing.json": context.store.put_bytes(text)},
        summary={
            "videos": len(archive.files),
            "bytes": archive.size,
            **archive.record(),
            "root": root,
            "roots": _roots(context.store, digest, root),
            "annotations": len(annotations),
            **({} if is_url(root) else _provenance(Path(data.videos), data.revision)),
        },
    )


def _roots(store: Store, digest: str, root: str) -> list[str]:
    """All folders that this listing was found in: the same files elsewhere are the same pin."""
    known = store.find(f"pin/{digest}")
    earlier = known.summary if known else {}
    return sorted({root, *earlier.get("roots", [earlier.get("root", root)])})


def _hash_all(root: str, listed: Sequence[Listed], context: Context, *, rehash: bool) -> dict[str, str]:
    """SHA-256 of each file, from memory where its size and stamp are unchanged.

    The memory is in the store, so that a killed pin can be resumed on any machine.
    """
    memory = _Memory(context.store, f"hashes/{hashlib.sha256(root.encode()).hexdigest()[:16]}.json", listed)
    held, known = memory.read()
    if rehash:
        known = {}
    bar = context.progress.bar("hash", total=len(listed), unit="files")
    fresh: dict[str, str] = {}
    saved = time.monotonic()
    for file in listed:
        if file.path not in known:
            fresh[file.path] = content_digest(root, file.path)
        bar.advance()
        if fresh and time.monotonic() - saved > _SAVE_SECONDS:
            memory.save(fresh, alone=rehash)
            saved = time.monotonic()
    if fresh or held > len(known):
        memory.save(fresh, alone=rehash)
    return known | fresh


@dataclass(frozen=True)
class _Memory:
    """Hashes that the store remembers, for files that the archive lists: path to [size, stamp, SHA-256]."""

    store: Store
    name: str
    listed: Sequence[Listed]

    def read(self) -> tuple[int, dict[str, str]]:
        """The number of entries, and the SHA-256 of each unchanged file; a damaged record counts as empty."""
        try:
            held = json.loads(self.store.read(self.name) or b"{}")
        except (ValueError, RecursionError):
            held = None
        if not isinstance(held, dict):
            return 0, {}
        known = {}
        for file in self.listed:
            match held.get(file.path):
                case [file.size, file.stamp, str(sha256)] if _SHA256.fullmatch(sha256):
                    known[file.path] = sha256
        return len(held), known

    def save(self, fresh: dict[str, str], *, alone: bool) -> None:
        """Adds to the record, to which another pin may have added; `alone`: replaces it."""
        hashes = fresh if alone else self.read()[1] | fresh
        entries = {f.path: [f.size, f.stamp, hashes[f.path]] for f in self.listed if f.path in hashes}
        self.store.write(self.name, json.dumps(entries).encode())


def _checkout(folder: Path, revision: str, context: Context) -> Path:
    """Fetches a folder of a DVC repository as it was at a revision, into the cache."""
    from dvc.api import DVCFileSystem

    repository = _repository(folder)
    commit = _git(repository, "rev-parse", f"{revision}^{{commit}}")
    inside = folder.absolute().relative_to(repository)
    target = context.home / "cache" / "revisions" / commit / inside
    if not target.exists():
        context.progress.say(f"fetching {inside} at {revision} ({commit[:12]})")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as unfinished:
            part = Path(unfinished) / target.name
            try:
                DVCFileSystem(str(repository), rev=commit).get(str(inside), str(part), recursive=True)
            except Exception as error:
                raise UserError(
                    f"revision: {inside} at {revision!r} cannot be fetched ({error}): dvc push it first"
                ) from error
            try:
                part.rename(target)
            except OSError:
                if not target.exists():  # another process fetched the same revision first
                    raise
    return target


def _provenance(folder: Path, revision: str) -> dict[str, str]:
    """The commit that the data reference stood for, and DVC's digest where the folder is tracked."""
    try:
        repository = _repository(folder)
        found = {"commit": _git(repository, "rev-parse", f"{revision or 'HEAD'}^{{commit}}")}
    except UserError:
        return {}
    pointer = folder.absolute().with_name(folder.name + ".dvc")
    if pointer.is_file():
        import yaml

        found["dvc_md5"] = str(yaml.safe_load(pointer.read_text())["outs"][0].get("md5", ""))
    return found


def _repository(folder: Path) -> Path:
    start = folder.absolute()
    while not start.is_dir():
        start = start.parent
    return Path(_git(start, "rev-parse", "--show-toplevel"))


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"revision: git {' '.join(arguments)} failed in {folder}: is it a repository with that revision?"
        ) from error
    return result.stdout.strip()
