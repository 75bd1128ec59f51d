"""`rushes sample`: pinned videos to footage: small H.264 in immutable shards, and an index with a row a segment.

Shards are used again wherever the same content was encoded in the same way (a *family*: the recipe's fields that decide
the bytes, and the code). So an archive that grows costs what is new, and other labels cost no encoding at all.

    <store>/footage/<family>/<archive>.json    the last footage of an archive
    <store>/forgotten/<sha256>.json            contents that must not be sampled (`rushes footage forget`)
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes.config import Recipe
from rushes.digests import code_digest
from rushes.errors import OutrunError
from rushes.home import open_store
from rushes.steps.base import Build, Context, planned_ref, read_input, reported, run_step
from rushes.store import Manifest, Store
from rushes.strict import digest_record

if TYPE_CHECKING:
    from rushes.footage.sample import Partition

_NOT_IN_BYTES = ("val_share", "test_share", "segment_seconds", "shard_segments", "keep", "duplicates")
"""Fields of `sample` that decide which segments there are and what becomes of them, not how one is encoded."""


@reported("sample")
def sample(*, recipe: Recipe, pin: Path, out: Path, partition: str = "") -> Manifest:
    """Samples every file that the pin lists; what cannot be used is quarantined with its reason.

    Args:
        recipe: section `sample` counts.
        pin: pointer from `pin`.
        out: where the pointer to the footage goes.
        partition: "i/n": encode this part of the shards only. When all parts are done, the same call without it finds
            their shards and makes the index. A part's pointer is of kind "part".
    """
    source = read_input(pin, "pin")
    if partition:
        return _part(recipe=recipe, source=source, out=out, partition=partition)
    try:
        manifest = _whole(recipe=recipe, source=source, out=out)
    except OutrunError:  # another run of the very same work ended first: its footage is there
        manifest = _whole(recipe=recipe, source=source, out=out)
    store = open_store()
    store.write(_last(recipe, source), json.dumps({"footage": manifest.ref}).encode())
    _tidy_up(store, f"partial/{manifest.digest}")
    return manifest


def _tidy_up(store: Store, folder: str) -> None:
    """Removes the records of finished work, and what the dead left; the same work may still be under way elsewhere."""
    from rushes.footage.shards import is_abandoned

    for name in store.names(folder):
        if name.endswith(".json"):
            store.remove(f"{folder}/{name}")
    for part in store.folder(folder).glob("*.part"):
        if is_abandoned(part):
            part.unlink(missing_ok=True)


def _whole(*, recipe: Recipe, source: Manifest, out: Path) -> Manifest:
    return run_step(
        "sample",
        kind="footage",
        config=digest_record(recipe.sample),
        inputs={"pin": source},
        out=out,
        build=lambda context: _build(context, recipe=recipe, source=source),
    )


def _build(context: Context, *, recipe: Recipe, source: Manifest, partition: "Partition | None" = None) -> Build:
    from rushes.footage.catalogue import forgotten_contents
    from rushes.footage.labels import Annotation
    from rushes.footage.sample import Archive, sample_footage
    from rushes.footage.sources import Source

    def build(folder: Path, digest: str) -> Mapping[str, Any]:
        summary: Mapping[str, Any] = sample_footage(
            archive=archive(),
            config=recipe.sample,
            store=context.store,
            digest=digest,
            out=folder,
            progress=context.progress,
            partition=partition,
        )
        return summary

    def archive() -> Archive:
        listing = json.loads(context.store.checked(source.files["listing.json"]).read_text())
        return Archive(
            root=source.summary["root"],
            sources=(Source(path=path, sha256=sha256, size=size) for path, sha256, size in listing["files"]),
            annotations=[Annotation(**record) for record in listing["annotations"]],
            previous=_previous(context.store, recipe, source),
            forgotten=forgotten_contents(context.store),
        )

    return build


def _part(*, recipe: Recipe, source: Manifest, out: Path, partition: str) -> Manifest:
    """Encodes a part; the pointer is not published, since the work it belongs to is not done."""
    from rushes.footage.sample import Partition

    context, part = Context(step="sample"), Partition.parse(partition)
    config, inputs = digest_record(recipe.sample), {"pin": source.ref}
    digest = planned_ref("sample", config=config, inputs=inputs).removeprefix("sample/")
    build = _build(context, recipe=recipe, source=source, partition=part)
    done = context.store.find(f"sample/{digest}") is not None
    manifest = Manifest(
        kind="part",
        step="sample",
        digest=digest,
        inputs=inputs,
        config=config,
        code="",
        files={},
        summary={"partition": partition} if done else build(out.parent, digest),
    )
    return context.done(manifest, out, cached=done)


def _family(recipe: Recipe) -> str:
    config = {name: value for name, value in digest_record(recipe.sample).items() if name not in _NOT_IN_BYTES}
    code = code_digest("rushes.footage.shards")
    return hashlib.sha256(json.dumps([config, code], sort_keys=True).encode()).hexdigest()[:16]


def _last(recipe: Recipe, source: Manifest) -> str:
    """Name of the record of the archive's last footage."""
    place = hashlib.sha256(str(source.summary.get("root", "")).encode()).hexdigest()[:16]
    return f"footage/{_family(recipe)}/{place}.json"


def _previous(store: Store, recipe: Recipe, source: Manifest) -> list[str]:
    """Earlier footage of the family, this archive's own first."""
    own = _last(recipe, source)
    folder, _, name = own.rpartition("/")
    others = [other for other in store.names(folder) if other != name]
    records = [store.read(f"{folder}/{other}") for other in [name, *others]]
    return [json.loads(record)["footage"] for record in records if record is not None]
