"""Forgetting a video for good: no byte of it stays in the store, and no later run samples it again.

    record the content as forgotten -> rewrite its shards without it -> replace the manifests -> remove the old objects

The record comes first, so that no later `sample` takes the content in. It names the objects to remove, so that
repeating a forgetting that was killed completes it.
"""

import dataclasses
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rushes.errors import UserError
from rushes.footage.catalogue import FORGOTTEN, INDEX, SHARDS
from rushes.footage.columns import column, plain, text
from rushes.footage.index import read_columns, read_index, read_shards, write_index, write_shards
from rushes.footage.probes import PROBES
from rushes.footage.rows import Shard
from rushes.footage.shards import ShardRecord, Sidecar, add_member, motion_file, put_sidecar, shard_file
from rushes.footage.summary import summarise
from rushes.progress import Progress
from rushes.store import Manifest, Store, sha256_file


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What a forgetting changed."""

    footage: tuple[str, ...]
    """Refs of the footage that held it."""
    shards: int
    """Shards rewritten without it."""
    objects: int
    """Objects removed."""


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """A shard without the forgotten segments."""

    shard: Shard
    offsets: dict[str, tuple[int, int]]
    """Offset and frame offset of each segment that stays, by key."""


def footage_with(store: Store, sha256: str) -> Iterator[Manifest]:
    """Published footage that holds the content, or has a row of it."""
    for manifest in _published(store):
        try:
            table, _ = read_index(store.checked(manifest.files[INDEX]), ("source_sha256",))
        except UserError:
            continue  # of another version, whose shards this version does not read
        shards = read_shards(store.checked(manifest.files[SHARDS]))
        if pc.any(pc.equal(table["source_sha256"], text(sha256))).as_py() or any(
            shard.holds(sha256) for shard in shards
        ):
            yield manifest


def forget(store: Store, sha256: str, *, progress: Progress) -> Forgotten:
    """Removes a content's footage from the store and from this machine's cache of it.

    No `sample` may be running in the same store. Repeating an interrupted forgetting completes it.

    Args:
        store: where the footage is.
        sha256: of the video file.
        progress: where to report each footage.
    """
    refs = [manifest.ref for manifest in footage_with(store, sha256)]
    record = f"{FORGOTTEN}/{sha256}.json"
    doomed = set(json.loads(store.read(record) or b'{"objects": []}')["objects"])
    doomed |= _objects_with(store, sha256, refs)
    store.write(record, json.dumps({"objects": sorted(doomed)}).encode())
    rests: dict[str, _Rest] = {}
    for ref in refs:
        _replace_footage(store, ref, sha256, rests)
        progress.say(f"{ref}: its index and shards no longer hold it")
    _drop_unfinished(store, sha256)
    tables = {file.sha256 for manifest in _published(store) for file in manifest.files.values()}
    for name in sorted(doomed - tables):  # a table without it was written again with the same bytes
        store.discard(name)
    store.write(record, json.dumps({"objects": []}).encode())
    return Forgotten(footage=tuple(refs), shards=len(rests), objects=len(doomed))


def purge_copies(folders: Sequence[Path], *, sha256: str, size: int) -> list[Path]:
    """Removes every file with this content under some folders (caches of whole videos); returns their paths."""
    removed = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size == size and sha256_file(path) == sha256:
                path.unlink()
                removed.append(path)
    return removed


def _published(store: Store) -> Iterator[Manifest]:
    for name in store.names("steps/sample"):
        manifest = store.find(f"sample/{name.removesuffix('.json')}")
        if manifest is not None and {INDEX, SHARDS, PROBES} <= set(manifest.files):
            yield manifest


def _objects_with(store: Store, sha256: str, refs: Sequence[str]) -> set[str]:
    """Names of the objects that hold it or mention it: shards, sidecars and tables of footage, finished or not."""
    found: set[str] = set()
    for ref in refs:
        manifest = store.find(ref)
        assert manifest is not None
        found |= {manifest.files[name].sha256 for name in (INDEX, SHARDS, PROBES)}
        for shard in read_shards(store.checked(manifest.files[SHARDS])):
            found |= {shard.sha256, shard.motion_sha256} if shard.holds(sha256) else set()
    for _, record in _unfinished(store, sha256):
        found |= {record.shard.sha256, record.shard.motion_sha256}
    return found


def _unfinished(store: Store, sha256: str) -> Iterator[tuple[str, ShardRecord]]:
    """Names and records of shards with it, of runs that did not end."""
    for digest in store.names("partial"):
        for name in store.names(f"partial/{digest}"):
            path = f"partial/{digest}/{name}"
            data = store.read(path) if name.startswith("shard-") and name.endswith(".json") else None
            if data is not None:
                record = ShardRecord.from_json(data)
                if any(segment.source_sha256 == sha256 for segment in record.segments):
                    yield path, record


def _drop_unfinished(store: Store, sha256: str) -> None:
    for path, _ in list(_unfinished(store, sha256)):
        store.remove(path)
    for digest in store.names("partial"):
        for part in store.folder(f"partial/{digest}").glob("*.part"):
            part.unlink(missing_ok=True)


def _replace_footage(store: Store, ref: str, sha256: str, rests: dict[str, _Rest]) -> None:
    """Publishes the footage again, under the same name, without the content."""
    manifest = store.find(ref)
    assert manifest is not None
    table, geometry = read_index(store.checked(manifest.files[INDEX]))
    shards = read_shards(store.checked(manifest.files[SHARDS]))
    table = table.filter(pc.not_equal(table["source_sha256"], sha256))
    for n, shard in enumerate(shards):
        if shard.holds(sha256):
            rest = rests.get(shard.sha256) or _rest_of(store, shard, sha256)
            rests[shard.sha256] = rest
            shards[n] = dataclasses.replace(rest.shard, shard=shard.shard)
            table = _moved(table, shard.shard, rest)
    probes = read_columns(store.checked(manifest.files[PROBES]))
    with tempfile.TemporaryDirectory(prefix="rushes-forget-") as folder:
        write_index(Path(folder) / INDEX, table, geometry)
        write_shards(Path(folder) / SHARDS, shards)
        pq.write_table(probes.filter(pc.not_equal(probes["sha256"], sha256)), Path(folder) / PROBES, compression="zstd")
        files = {name: store.put(Path(folder) / name) for name in (INDEX, SHARDS, PROBES)}
    counts = {"forgotten": int(manifest.summary.get("forgotten", 0)) + 1}
    summary = {**manifest.summary, **summarise(table, shards=len(shards)), **counts}
    store.publish(dataclasses.replace(manifest, files={**manifest.files, **files}, summary=summary))


def _moved(table: pa.Table, number: int, rest: _Rest) -> pa.Table:
    """The index with the new offsets of the segments of one shard."""
    here = np.flatnonzero(plain(table["shard"]) == number)
    keys = table["key"].take(column(here, pa.int64())).to_pylist()
    for which, name in enumerate(("offset", "frame_offset")):
        values = plain(table[name]).copy()
        values[here] = [rest.offsets[key][which] for key in keys]
        field = table.schema.get_field_index(name)
        table = table.set_column(field, table.schema.field(name), column(values, pa.int64()))
    return table


def _rest_of(store: Store, shard: Shard, sha256: str) -> _Rest:
    """Writes the shard's other segments, byte for byte, as a new shard."""
    motion = np.load(io.BytesIO(store.checked(motion_file(shard)).read_bytes()))
    offsets: dict[str, tuple[int, int]] = {}
    kept = Sidecar()
    sources: list[str] = []
    frames = 0
    with tempfile.NamedTemporaryFile(prefix="rushes-forget-", suffix=".part") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, mp4, card in _segments_of(store.checked(shard_file(shard))):
                facts = json.loads(card)
                entries = motion[frames : frames + facts["frames"]]
                frames += facts["frames"]
                if facts["source_sha256"] == sha256:
                    continue
                offsets[key] = tar.offset + tarfile.BLOCKSIZE, kept.frames
                kept.add(entries)
                sources.append(facts["source_sha256"])
                add_member(tar, f"{key}.mp4", mp4)
                add_member(tar, f"{key}.json", card)
        file.flush()
        stored = store.put(Path(file.name))
    return _Rest(shard=put_sidecar(store, shard.shard, stored, kept, sources=sources), offsets=offsets)


def _segments_of(path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """(key, mp4, card) of each segment of a shard, in order."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        for mp4, card in zip(members[::2], members[1::2], strict=True):
            opened = tar.extractfile(mp4), tar.extractfile(card)
            assert opened[0] is not None and opened[1] is not None
            yield mp4.name.removesuffix(".mp4"), opened[0].read(), opened[1].read()
