"""What earlier runs encoded: segments found again by their key, so that growth encodes only what is new."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rushes.errors import UserError
from rushes.footage.columns import column, mask, plain, text
from rushes.footage.index import read_index, read_shards
from rushes.footage.probes import TRANSIENT, read_probes
from rushes.footage.rows import LEFT_OUT, QUARANTINED, REMOVED, SAMPLED, EncodingStats, Segment, Shard
from rushes.footage.segment_plan import Failure
from rushes.footage.shards import motion_file, shard_file
from rushes.store import Manifest, Store
from rushes.video.probe import Probe

INDEX, SHARDS = "index.parquet", "shards.parquet"
FORGOTTEN = "forgotten"
"""Folder of the store with a record, `<sha256>.json`, for each content that must not be sampled."""
_MEASURED = tuple(EncodingStats.__dataclass_fields__)
_SEGMENT = tuple(Segment.__dataclass_fields__)


def forgotten_contents(store: Store) -> frozenset[str]:
    """SHA-256 of every content that must not be sampled."""
    return frozenset(name.removesuffix(".json") for name in store.names(FORGOTTEN))


class Catalogue:
    """The segments, shards and probes of earlier footage; where several hold a segment, the first counts.

    Args:
        store: where the footage is.
        refs: earlier outputs of `sample`; those that are gone or cannot be read are ignored.
    """

    def __init__(self, store: Store, refs: Sequence[str]) -> None:
        self._tables: list[pa.Table] = []
        self.shards: list[Shard] = []
        """All shards; a segment names its shard by position in this list."""
        self.probes: dict[str, Probe | Failure] = {}
        for ref in refs:
            manifest = store.find(ref)
            if manifest is not None:
                self._add(store, manifest)
        keys = [_numbers(table["key"]) for table in self._tables]
        joined = np.concatenate([np.empty(0, np.uint64), *keys])
        self._keys, self._rows = np.unique(joined, return_index=True)
        self._starts = np.cumsum([0, *(len(part) for part in keys)])

    def _add(self, store: Store, manifest: Manifest) -> None:
        try:
            table, _ = read_index(store.checked(manifest.files[INDEX]), ("key", *_MEASURED))
            shards = read_shards(store.checked(manifest.files[SHARDS]))
            probes = read_probes(store, manifest)
        except (UserError, KeyError, TypeError):
            return  # of another version
        # Renumbered by position in this list; the segments of a shard that is gone are left out.
        positions = np.full(len(shards) + 1, -2, dtype=np.int64)
        positions[-1] = -1
        for number, shard in enumerate(shards):
            if store.holds(shard_file(shard)) and store.holds(motion_file(shard)):
                positions[number] = len(self.shards)
                self.shards.append(shard)
        renumbered = positions[plain(table["shard"])]
        table = table.set_column(
            table.schema.get_field_index("shard"),
            pa.field("shard", pa.int32(), nullable=False),
            column(renumbered, pa.int32()),
        )
        # Without probes: of version 0.1, which expected what headers say.
        tried_again = TRANSIENT if probes else (*TRANSIENT, "truncated", "no_frames")
        again = pc.is_in(table["reason"], column(tried_again, pa.string()))
        usable = pc.and_(pc.equal(table["status"], text(QUARANTINED)), pc.invert(again))
        self._tables.append(table.filter(pc.or_(mask(plain(table["shard"]) >= 0), usable)))
        self.probes = probes | self.probes

    def find(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The row of each key (as a number) among all segments, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(wanted), -1)
        positions = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[positions] == wanted, self._rows[positions], -1)

    def shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Positions in `shards` of those that hold these rows, ascending."""
        found: set[int] = set()
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = rows[(rows >= begin) & (rows < begin + len(table))] - begin
            found |= set(np.unique(plain(table["shard"])[mine]).tolist())
        return sorted(found - {-1})

    def measured(self, rows: npt.NDArray[np.int64]) -> list[EncodingStats]:
        """The stats of some rows; their `shard` is a position in `shards`."""
        found: list[EncodingStats | None] = [None] * len(rows)
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = np.flatnonzero((rows >= begin) & (rows < begin + len(table)))
            columns = {name: table[name].take(column(rows[mine] - begin, pa.int64())).to_pylist() for name in _MEASURED}
            for n, position in enumerate(mine):
                found[position] = _measured({name: column[n] for name, column in columns.items()})
        assert all(m is not None for m in found)
        return [m for m in found if m is not None]


def _measured(record: dict[str, Any]) -> EncodingStats:
    """A row as encoding left it, whether or not the recipe left it out afterwards."""
    changed: dict[str, Any] = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    if record["shard"] >= 0:
        changed |= {"status": SAMPLED, "reason": "", "message": ""}
    return EncodingStats(**record | changed)


def _numbers(keys: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    digits = "".join(keys.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


def tombstones(store: Store, ref: str, *, present: set[str]) -> list[Segment]:
    """The segments of the last run over the same archive whose file is no longer there."""
    manifest = store.find(ref)
    if manifest is None:
        return []
    try:
        table, _ = read_index(store.checked(manifest.files[INDEX]), (*_SEGMENT, "status"))
    except UserError:
        return []
    gone = pc.invert(pc.is_in(table["source"], column(sorted(present), pa.string())))
    whole = pc.is_in(table["status"], column([SAMPLED, LEFT_OUT, REMOVED], pa.string()))
    rows = table.filter(pc.and_(gone, whole)).select(_SEGMENT).to_pylist()
    return [Segment(**row) for row in rows]
