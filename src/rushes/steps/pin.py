"""`rushes pin`: resolves a data reference once, to content. Never cached: it is what decides whether anything changed.

The digest covers paths and contents, not places or times, so the same footage elsewhere is the same footage. A file
is hashed once: its SHA-256 is remembered under its path, size and modification time.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.labels import list_videos, read_annotations
from rushes.steps.base import Context, reported, versions
from rushes.store import Manifest, sha256_file, write_atomic


@reported("pin")
def pin(*, videos: str, out: Path, labels: str = "", splits: str = "", fold: int = 1, revision: str = "") -> Manifest:
    """Lists and hashes the videos and reads what is known about them.

    Args:
        videos: folder of video files.
        out: where the pointer goes.
        labels: CSV of labels (path, label; optionally start, end, group, split); empty to look for `labels.csv` in
            the folder, then for class folders.
        splits: folder of UCF-101 or HMDB-51 official split files.
        fold: number of the split, from 1.
        revision: a revision of the DVC repository that the folder lies in; empty takes the files as they are.
    """
    context = Context(step="pin")
    root = _checkout(Path(videos), revision, context) if revision else Path(videos).absolute()
    paths = list_videos(root)
    annotations = read_annotations(
        root, paths, labels=Path(labels) if labels else None, splits=Path(splits) if splits else None, fold=fold
    )
    hashes = _hash_all(root, paths, context)
    listing: dict[str, list[Any]] = {
        "files": [[path, hashes[path], (root / path).stat().st_size] for path in paths],
        "annotations": [dataclasses.asdict(annotation) for annotation in annotations],
    }
    text = json.dumps(listing, indent=0, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    manifest = Manifest(
        kind="pin", step="pin", digest=digest, inputs={}, config={}, code="",
        files={"listing.json": context.store.put_bytes(text.encode())},
        summary={
            "videos": len(paths), "bytes": sum(size for _, _, size in listing["files"]), "root": str(root),
            "annotations": len(annotations), **_provenance(Path(videos), revision),
        },
        versions=versions(),
    )  # fmt: skip
    context.store.publish(manifest)
    return context.done(manifest, out, cached=False)


def _hash_all(root: Path, paths: list[str], context: Context) -> dict[str, str]:
    """SHA-256 of each file, from memory where path, size and modification time are as they were."""
    memory = context.home / "cache" / f"hashes-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}.json"
    try:
        known: dict[str, list[Any]] = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    bar = context.progress.bar("hash", total=len(paths), unit="files")
    fresh: dict[str, list[Any]] = {}
    for path in paths:
        try:
            stat = (root / path).stat()
            seen = known.get(path, [None, None, None])
            same = seen[:2] == [stat.st_size, stat.st_mtime_ns]
            fresh[path] = [stat.st_size, stat.st_mtime_ns, seen[2] if same else sha256_file(root / path)]
        except OSError as error:
            raise UserError(f"videos: cannot read {root / path} ({error.strerror}): fix or remove the file") from error
        bar.advance()
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
        part.rename(target)
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
