"""`rushes sample`: pinned videos to footage: small H.264 in immutable shards, and an index with one row per segment.

Shards are used again wherever the same content was encoded in the same way (a *family*: the recipe's fields that decide
the bytes, the code, PyAV and its FFmpeg). So an archive that grows costs only what is new, and other labels cost no
encoding at all. So does footage of earlier code, where a person accepted it (`rushes.acceptance`).

    <store>/footage/<family>/<archive>.json    the last footage of an archive
    <store>/forgotten/<sha256>.json            contents that must not be sampled (`rushes footage forget`)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes.acceptance import acceptances
from rushes.config import Recipe
from rushes.digests import code_digest
from rushes.errors import OutrunError, UserError
from rushes.home import open_store
from rushes.steps.base import Context, Job, read_input, refs, reported, run_step
from rushes.steps.identity import RETIRED, Identity, earlier_identities, find_output, identify, libraries, step_code
from rushes.store import Manifest, Store
from rushes.strict import digest_record

if TYPE_CHECKING:
    from rushes.footage.sample import Partition

_NOT_IN_BYTES = ("val_share", "test_share", "segment_seconds", "shard_segments", "keep", "duplicates")
"""Fields of `sample` that decide which segments there are and which of them are used, not how one is encoded."""


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
    """Removes the records of finished work, and what killed processes left; the same work may still run elsewhere."""
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
        build=lambda job: _sample(job, recipe=recipe, source=source),
        stands=_stands,
    )


def _stands(store: Store, made: Manifest) -> bool:
    """Whether footage still is all there, and no file was missing that may be back."""
    from rushes.footage.catalogue import SHARDS
    from rushes.footage.index import read_shards
    from rushes.footage.pinned import MAY_RETURN
    from rushes.footage.shards import motion_file, shard_file

    if MAY_RETURN & set(made.summary.get("quarantine_reasons", ())):
        return False
    try:
        shards = read_shards(store.checked(made.files[SHARDS]))
    except UserError:
        return False
    return all(store.holds(shard_file(shard)) and store.holds(motion_file(shard)) for shard in shards)


def _sample(job: Job, *, recipe: Recipe, source: Manifest, partition: "Partition | None" = None) -> Mapping[str, Any]:
    from rushes.footage.annotation import Annotation
    from rushes.footage.catalogue import forgotten_contents
    from rushes.footage.hashes import Hashes
    from rushes.footage.sample import Archive, sample_footage
    from rushes.footage.sources import Source

    listing = json.loads(job.store.checked(source.files["listing.json"]).read_text())
    last, previous = _earlier(job.store, recipe, source)
    hashes = Hashes(job.store, source.summary["root"])
    stamps = {(path, size, sha256): stamp for path, (size, stamp, sha256) in hashes.read().items()}
    archive = Archive(
        root=source.summary["root"],
        sources=(
            Source(path=path, sha256=sha256, size=size, stamp=stamps.get((path, size, sha256), ""))
            for path, sha256, size in listing["files"]
        ),
        annotations=[Annotation(**record) for record in listing["annotations"]],
        last=last,
        previous=previous,
        forgotten=forgotten_contents(job.store),
        hashes=hashes,
    )
    summary: Mapping[str, Any] = sample_footage(
        archive=archive,
        config=recipe.sample,
        store=job.store,
        digest=job.digest,
        out=job.folder,
        progress=job.progress,
        partition=partition,
    )
    return summary


def _part(*, recipe: Recipe, source: Manifest, out: Path, partition: str) -> Manifest:
    """Encodes a part; the pointer is not published, since the work it belongs to is not done."""
    from rushes.footage.sample import Partition

    context, part = Context(step="sample"), Partition.parse(partition)
    config, inputs = digest_record(recipe.sample), {"pin": source}
    work = identify("sample", config=config, inputs=inputs)
    found = find_output(context.store, work, inputs=inputs)
    done = found is not None and _stands(context.store, found)
    job = Job(folder=out.parent, digest=work.digest, store=context.store, progress=context.progress)
    manifest = Manifest(
        kind="part",
        step="sample",
        digest=work.digest,
        inputs=refs(inputs),
        config=config,
        code="",
        files={},
        summary={"partition": partition} if done else _sample(job, recipe=recipe, source=source, partition=part),
    )
    return context.done(manifest, out, cached=done)


# Families ------------------------------------------------------------------------------------------------------------


def _byte_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _NOT_IN_BYTES and (name, value) not in RETIRED}


def _family(recipe: Recipe) -> str:
    code = [code_digest("rushes.footage.shards"), libraries("sample")]
    return _short([_byte_config(digest_record(recipe.sample)), code])


def _last(recipe: Recipe, source: Manifest) -> str:
    """Name of the record of the archive's last footage."""
    return f"footage/{_family(recipe)}/{_short_text(str(source.summary.get('root', '')))}.json"


def _earlier(store: Store, recipe: Recipe, source: Manifest) -> tuple[str, list[str]]:
    """The archive's own last footage ("" where there is none), and other footage whose shards may be used again."""
    folder, _, own = _last(recipe, source).rpartition("/")
    last = "".join(_recorded(store, folder, [own]))
    family = _recorded(store, folder, store.names(folder))
    found = [*family, *_accepted(store, recipe)]
    return last, [ref for ref in dict.fromkeys(found) if ref != last]


def _recorded(store: Store, folder: str, names: Sequence[str]) -> list[str]:
    records = [store.read(f"{folder}/{name}") for name in names]
    return [json.loads(record)["footage"] for record in records if record is not None]


def _accepted(store: Store, recipe: Recipe) -> list[str]:
    """Footage of earlier code that a person accepted, encoded as this recipe says."""
    config = digest_record(recipe.sample)
    work = Identity(step="sample", config=config, inputs={}, code=step_code("sample"))
    codes = {earlier.code for earlier, _ in earlier_identities(work, acceptances(store, "sample"))}
    made = [store.find(f"sample/{name.removesuffix('.json')}") for name in store.names("steps/sample")] if codes else []
    return [
        footage.ref
        for footage in made
        if footage and footage.code in codes and _byte_config(footage.config) == _byte_config(config)
    ]


def _short(record: Any) -> str:
    return _short_text(json.dumps(record, sort_keys=True))


def _short_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
