"""What earlier runs encoded: segments found again by their key, so that growth encodes only what is new."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rushes.errors import UserError
from rushes.footage.index import (
    LEFT_OUT,
    QUARANTINED,
    REMOVED,
    SAMPLED,
    Measured,
    Segment,
    Shard,
    read_columns,
    read_index,
    read_shards,
    source_number,
)
from rushes.footage.plan import Failure
from rushes.footage.shards import motion_file, shard_file
from rushes.store import Manifest, Store
from rushes.video.decode import Probe

INDEX, SHARDS, PROBES = "index.parquet", "shards.parquet", "probes.parquet"
FORGOTTEN = "forgotten"
"""Folder of the store with a record for each content that must not be sampled, `<sha256>.json`."""
TRANSIENT = ("timeout", "decoder_crash", "unreadable", "forgotten")
"""Reasons that another run may not find again."""
_MEASURED = tuple(Measured.__dataclass_fields__)
_SEGMENT = tuple(Segment.__dataclass_fields__)


def forgotten_contents(store: Store) -> frozenset[str]:
    """SHA-256 of every content that must not be sampled."""
    return frozenset(name.removesuffix(".json") for name in store.names(FORGOTTEN))


class Catalogue:
    """The segments, shards and probes of earlier footage; of several that hold a segment, the first counts.

    Args:
        store: where the footage lies.
        refs: earlier outputs of `sample`; one that is gone or cannot be read is as if it were not named.
    """

    def __init__(self, store: Store, refs: Sequence[str]) -> None:
        self._tables: list[pa.Table] = []
        self.shards: list[Shard] = []
        """All shards, numbered by their place in this list."""
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
        # Renumbered to this list's places; a shard that has gone takes its segments with it.
        places = np.full(len(shards) + 1, -2, dtype=np.int64)
        places[-1] = -1
        for number, shard in enumerate(shards):
            if store.holds(shard_file(shard)) and store.holds(motion_file(shard)):
                places[number] = len(self.shards)
                self.shards.append(shard)
        renumbered = places[table["shard"].to_numpy()]
        table = table.set_column(
            table.schema.get_field_index("shard"), pa.field("shard", pa.int32(), nullable=False),
            pa.array(renumbered, pa.int32()),
        )  # fmt: skip
        usable = pc.and_(
            pc.equal(table["status"], QUARANTINED), pc.invert(pc.is_in(table["reason"], pa.array(TRANSIENT)))
        )
        self._tables.append(table.filter(pc.or_(pc.greater_equal(table["shard"], 0), usable)))
        self.probes = probes | self.probes

    def find(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each key among all that is known, -1 where it is not."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        wanted = _numbers(keys)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._rows[places], -1)

    def shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Places in `shards` of the shards that hold these rows, ascending."""
        found: set[int] = set()
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = rows[(rows >= begin) & (rows < begin + len(table))] - begin
            found |= set(np.unique(table["shard"].to_numpy()[mine]).tolist())
        return sorted(found - {-1})

    def measured(self, rows: npt.NDArray[np.int64]) -> list[Measured]:
        """What is known of some rows; `shard` is a place in `shards`."""
        found: list[Measured | None] = [None] * len(rows)
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = np.flatnonzero((rows >= begin) & (rows < begin + len(table)))
            columns = {name: table[name].take(pa.array(rows[mine] - begin)).to_pylist() for name in _MEASURED}
            for n, place in enumerate(mine):
                found[place] = _measured({name: column[n] for name, column in columns.items()})
        assert all(m is not None for m in found)
        return [m for m in found if m is not None]


def _measured(record: dict[str, Any]) -> Measured:
    """A row as encoding left it: what the recipe made of it since (left out) does not count."""
    changed: dict[str, Any] = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    if record["shard"] >= 0:
        changed |= {"status": SAMPLED, "reason": "", "message": ""}
    return Measured(**record | changed)


def _numbers(keys: Any) -> npt.NDArray[np.uint64]:
    text = "".join(keys.to_pylist() if isinstance(keys, pa.ChunkedArray) else keys)
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


def tombstones(store: Store, ref: str, *, present: set[str]) -> list[Segment]:
    """The segments of the last run over the same archive whose file is no longer there."""
    manifest = store.find(ref)
    if manifest is None:
        return []
    try:
        table, _ = read_index(store.checked(manifest.files[INDEX]), (*_SEGMENT, "status"))
    except UserError:
        return []
    gone = pc.invert(pc.is_in(table["source"], pa.array(sorted(present), pa.string())))
    whole = pc.is_in(table["status"], pa.array([SAMPLED, LEFT_OUT, REMOVED]))
    rows = table.filter(pc.and_(gone, whole)).select(_SEGMENT).to_pylist()
    return [Segment(**row) for row in rows]


# Probes --------------------------------------------------------------------------------------------------------------

_PROBE = tuple(Probe.__dataclass_fields__)


def probes_table(probes: Mapping[str, Probe | Failure]) -> pa.Table:
    """The table of `probes.parquet`: a row a content."""
    names = sorted(probes)
    good = [probe if isinstance(probe, Probe) else None for probe in (probes[name] for name in names)]
    bad = [probe if isinstance(probe, Failure) else None for probe in (probes[name] for name in names)]
    kinds = {"width": pa.int32(), "height": pa.int32(), "frames": pa.int64(), "codec": pa.string()}
    columns = {
        name: pa.array([getattr(probe, name, None) for probe in good], kinds.get(name, pa.float64())) for name in _PROBE
    }
    columns["sha256"] = pa.array(names, pa.string())
    for name in ("reason", "message"):
        columns[name] = pa.array([getattr(failure, name, "") for failure in bad], pa.string())
    return pa.table(columns)


class Probed:
    """Probes by content, out of their table: a tenth of what the objects of an archive hold.

    Args:
        table: what `probes_table` made.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._contents = np.array([source_number(sha256) for sha256 in table["sha256"].to_pylist()], dtype=np.uint64)
        self._order = np.argsort(self._contents, kind="stable")

    def __getitem__(self, sha256: str) -> Probe | Failure:
        place = np.searchsorted(self._contents, np.uint64(source_number(sha256)), sorter=self._order)
        row = self._table.slice(int(self._order[place]), 1).to_pylist()[0]
        assert row.pop("sha256") == sha256
        return _probe(row)


def _probe(row: dict[str, Any]) -> Probe | Failure:
    reason, message = row.pop("reason"), row.pop("message")
    return Failure(reason=reason, message=message) if reason else Probe(**row)


def read_probes(store: Store, manifest: Manifest) -> dict[str, Probe | Failure]:
    """Reads `probes.parquet`, but for failures that another look may not find again."""
    found: dict[str, Probe | Failure] = {}
    for row in read_columns(store.checked(manifest.files[PROBES])).to_pylist():
        sha256, probe = row.pop("sha256"), _probe(row)
        if isinstance(probe, Probe) or probe.reason not in TRANSIENT:
            found[sha256] = probe
    return found
