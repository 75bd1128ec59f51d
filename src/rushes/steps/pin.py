"""`rushes pin`: resolves a data reference once, to content. Never cached: it is what decides whether anything changed.

The digest covers paths and contents, not places or times, so the same footage elsewhere is the same footage. A file
is hashed once: its SHA-256 is remembered under its path, size and modification time (or ETag).
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.archive import Listed, content_digest, is_url, list_archive
from rushes.footage.labels import read_annotations
from rushes.steps.base import Context, reported, versions
from rushes.store import Manifest, write_atomic

_SAVE_SECONDS = 30.0


@reported("pin")
def pin(
    *,
    videos: str,
    out: Path,
    labels: str = "",
    splits: str = "",
    fold: int = 1,
    revision: str = "",
    rehash: bool = False,
) -> Manifest:
    """Lists and hashes the videos and reads what is known about them.

    Args:
        videos: folder of video files, or the fsspec URL of one.
        out: where the pointer goes.
        labels: CSV or Parquet of labels (path, label; optionally start, end, group, split; or Kinetics' columns);
            empty to look for `labels.csv` in the folder, then for class folders.
        splits: folder of UCF-101 or HMDB-51 official split files.
        fold: number of the split, from 1.
        revision: a revision of the DVC repository that the folder lies in; empty takes the files as they are.
        rehash: reads every file again, also those whose size and modification time (or ETag) are as they were.
    """
    context = Context(step="pin")
    root = _root(videos, revision, context)
    listed = list_archive(root)
    annotations = read_annotations(
        None if is_url(root) else Path(root), [file.path for file in listed],
        labels=Path(labels) if labels else None, splits=Path(splits) if splits else None, fold=fold,
    )  # fmt: skip
    hashes = _hash_all(root, listed, context, rehash=rehash)
    listing: dict[str, list[Any]] = {
        "files": [[file.path, hashes[file.path], file.size] for file in listed],
        "annotations": [dataclasses.asdict(annotation) for annotation in annotations],
    }
    text = json.dumps(listing, indent=0, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    manifest = Manifest(
        kind="pin", step="pin", digest=digest, inputs={}, config={}, code="",
        files={"listing.json": context.store.put_bytes(text.encode())},
        summary={
            "videos": len(listed), "bytes": sum(file.size for file in listed), "root": root,
            "annotations": len(annotations), **({} if is_url(root) else _provenance(Path(videos), revision)),
        },
        versions=versions(),
    )  # fmt: skip
    context.store.publish(manifest)
    return context.done(manifest, out, cached=False)


def _root(videos: str, revision: str, context: Context) -> str:
    if not is_url(videos):
        return str(_checkout(Path(videos), revision, context) if revision else Path(videos).absolute())
    if revision:
        raise UserError(f"revision: {revision!r} with the URL {videos!r}: only a folder of a DVC repository has any")
    return videos.rstrip("/")


def _hash_all(root: str, listed: list[Listed], context: Context, *, rehash: bool) -> dict[str, str]:
    """SHA-256 of each file, from memory where its place lists it as it was."""
    memory = context.home / "cache" / f"hashes-{hashlib.sha256(root.encode()).hexdigest()[:12]}.json"
    try:
        known: dict[str, list[Any]] = {} if rehash else json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    bar = context.progress.bar("hash", total=len(listed), unit="files")
    fresh: dict[str, list[Any]] = {}
    saved = time.monotonic()
    for file in listed:
        seen = known.get(file.path, [None, None, None])
        same = seen[:2] == [file.size, file.stamp]
        fresh[file.path] = [file.size, file.stamp, seen[2] if same else content_digest(root, file.path)]
        bar.advance()
        if time.monotonic() - saved > _SAVE_SECONDS:  # a long archive that is interrupted goes on where it was
            write_atomic(memory, json.dumps(known | fresh).encode())
            saved = time.monotonic()
    if fresh != known:
        write_atomic(memory, json.dumps(fresh).encode())
    return {path: str(entry[2]) for path, entry in fresh.items()}


def _checkout(folder: Path, revision: str, context: Context) -> Path:
    """Fetches a folder of a DVC repository as it was at a revision, into the cache."""
    from dvc.api import DVCFileSystem

    repository = _repository(folder)
    commit = _git(repository, "rev-parse", f"{revision}^{{commit}}")
    inside = folder.absolute().relative_to(repository)
    target = context.home / "cache" / "revisions" / commit / inside
    if not target.exists():
        context.progress.say(f"fetching {inside} at {revision} ({commit[:12]})")
        part = target.with_name(f".{target.name}-{os.getpid()}")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            DVCFileSystem(str(repository), rev=commit).get(str(inside), str(part), recursive=True)
        except Exception as error:
            raise UserError(
                f"revision: {inside} at {revision!r} cannot be fetched ({error}): dvc push it first"
            ) from error
        try:
            part.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(part)  # somebody else fetched the same at the same time, and was first
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
