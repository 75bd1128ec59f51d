"""`rushes pin`: resolves a data reference once, to content. Never cached: it is what decides whether anything changed.

The digest covers relative paths and contents, not folders or times, so the same footage elsewhere is the same footage.
A file is hashed once: its SHA-256 is remembered in the store (`rushes.footage.hashes`), also while it hashes.
"""

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.archive import list_archive
from rushes.footage.files import Listed, content_digest, is_url, look_up
from rushes.footage.hashes import Hashes, unchanged
from rushes.footage.reference import DataReference
from rushes.steps.base import Context, reported
from rushes.store import Manifest, Store
from rushes.words import counted, printable

_SAVE_SECONDS = 30.0


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
    files, hashes = _hash_all(root, archive.files, context, rehash=rehash)
    listing: dict[str, list[Any]] = {
        "files": [[file.path, hashes[file.path], file.size] for file in files],
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
            "videos": len(files),
            "bytes": sum(file.size for file in files),
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


def _hash_all(
    root: str, listed: Sequence[Listed], context: Context, *, rehash: bool
) -> tuple[list[Listed], dict[str, str]]:
    """The files as they were when they were read, and their SHA-256, from memory where size and stamp are unchanged.

    The memory is in the store, so that a killed pin can be resumed on any machine.
    """
    memory = Hashes(context.store, root)
    held = memory.read()
    known = {} if rehash else unchanged(held, listed)
    bar = context.progress.bar("hash", total=len(listed), unit="files")
    files = {file.path: file for file in listed}
    fresh: dict[str, str] = {}
    saved = time.monotonic()

    def save() -> None:
        """Adds to the record, to which another pin may have added; with `rehash`, replaces it."""
        lasting = [file for path, file in files.items() if path not in changing]
        memory.write(fresh if rehash else unchanged(memory.read(), lasting) | fresh, lasting)

    changing: list[str] = []
    for path, file in list(files.items()):
        if path not in known:
            files[path], fresh[path], still = _hash(root, file)
            changing += [] if still else [path]
        bar.advance()
        if fresh and time.monotonic() - saved > _SAVE_SECONDS:
            save()
            saved = time.monotonic()
    if fresh or len(held) > len(known):
        save()
    if changing:
        names = ", ".join(map(printable, changing[:10]))
        context.progress.say(f"{counted(len(changing), 'file')} changed while it was read: {names}")
    return list(files.values()), known | fresh


def _hash(root: str, file: Listed) -> tuple[Listed, str, bool]:
    """A file as it was when it was read, its SHA-256, and whether it stayed the same meanwhile; tried twice."""
    for _ in range(2):
        sha256 = content_digest(root, file.path)
        if is_url(root) and not file.exact:  # its stamp may be written in another way when it is looked up alone
            return file, sha256, True
        with contextlib.suppress(Exception):  # each protocol has its own; if it lasts, reading the file fails as well
            now = look_up(root, file.path)
            if now == file:
                return file, sha256, True
            file = now
    return file, sha256, False


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
