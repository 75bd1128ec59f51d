"""What earlier runs encoded: segments found again by their key, so that growth encodes only what is new."""

import sys
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rushes.errors import UserError
from rushes.footage.columns import column, mask, plain, text
from rushes.footage.index import read_columns, read_index, read_shards
from rushes.footage.rows import LEFT_OUT, QUARANTINED, REMOVED, SAMPLED, EncodingStats, Segment, Shard, source_number
from rushes.footage.segment_plan import Failure
from rushes.footage.shards import motion_file, shard_file
from rushes.store import Manifest, Store
from rushes.video.probe import Probe

INDEX, SHARDS, PROBES = "index.parquet", "shards.parquet", "probes.parquet"
FORGOTTEN = "forgotten"
"""Folder of the store with a record for each content that must not be sampled, `<sha256>.json`."""
TRANSIENT = ("timeout", "decoder_crash", "unreadable", "forgotten")
"""Reasons that another run may not find again."""
_MEASURED = tuple(EncodingStats.__dataclass_fields__)
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
        renumbered = places[plain(table["shard"])]
        table = table.set_column(
            table.schema.get_field_index("shard"),
            pa.field("shard", pa.int32(), nullable=False),
            column(renumbered, pa.int32()),
        )
        passing = pc.is_in(table["reason"], column(TRANSIENT, pa.string()))
        usable = pc.and_(pc.equal(table["status"], text(QUARANTINED)), pc.invert(passing))
        self._tables.append(table.filter(pc.or_(mask(plain(table["shard"]) >= 0), usable)))
        self.probes = probes | self.probes

    def find(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Row of each key (as a number) among all that is known, -1 where it is not."""
        if not len(self._keys):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._rows[places], -1)

    def shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Places in `shards` of the shards that hold these rows, ascending."""
        found: set[int] = set()
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = rows[(rows >= begin) & (rows < begin + len(table))] - begin
            found |= set(np.unique(plain(table["shard"])[mine]).tolist())
        return sorted(found - {-1})

    def measured(self, rows: npt.NDArray[np.int64]) -> list[EncodingStats]:
        """What is known of some rows; `shard` is a place in `shards`."""
        found: list[EncodingStats | None] = [None] * len(rows)
        for table, begin in zip(self._tables, self._starts, strict=False):
            mine = np.flatnonzero((rows >= begin) & (rows < begin + len(table)))
            columns = {name: table[name].take(column(rows[mine] - begin, pa.int64())).to_pylist() for name in _MEASURED}
            for n, place in enumerate(mine):
                found[place] = _measured({name: column[n] for name, column in columns.items()})
        assert all(m is not None for m in found)
        return [m for m in found if m is not None]


def _measured(record: dict[str, Any]) -> EncodingStats:
    """A row as encoding left it: what the recipe made of it since (left out) does not count."""
    changed: dict[str, Any] = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    if record["shard"] >= 0:
        changed |= {"status": SAMPLED, "reason": "", "message": ""}
    return EncodingStats(**record | changed)


def _numbers(keys: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    text = "".join(keys.to_pylist())
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
    gone = pc.invert(pc.is_in(table["source"], column(sorted(present), pa.string())))
    whole = pc.is_in(table["status"], column([SAMPLED, LEFT_OUT, REMOVED], pa.string()))
    rows = table.filter(pc.and_(gone, whole)).select(_SEGMENT).to_pylist()
    return [Segment(**row) for row in rows]


# Probes --------------------------------------------------------------------------------------------------------------


class Probed:
    """What each content promises, in columns, filled as the probes come: a tenth of what the objects hold."""

    def __init__(self) -> None:
        self._contents = bytearray()
        self._sizes, self._frames, self._rates = array("i"), array("q"), array("d")
        self._codecs: list[str] = []
        self._failures: dict[int, Failure] = {}
        self._order: npt.NDArray[np.int64] | None = None
        self._numbers: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, sha256: str, probe: Probe | Failure) -> None:
        """Takes note of a content, once."""
        self._order = None
        if isinstance(probe, Failure):
            self._failures[len(self._codecs)] = probe
            probe = _NOTHING
        self._contents += bytes.fromhex(sha256)
        self._sizes.extend((probe.width, probe.height))
        self._frames.append(probe.frames)
        self._rates.extend((probe.fps, probe.seconds))
        self._codecs.append(sys.intern(probe.codec))

    def __getitem__(self, sha256: str) -> Probe | Failure:
        places = self._sorted()
        found = np.searchsorted(self._numbers, np.uint64(source_number(sha256)))
        place = int(places[found])
        assert self._contents[32 * place : 32 * place + 32].hex() == sha256
        if place in self._failures:
            return self._failures[place]
        pair = slice(2 * place, 2 * place + 2)
        (width, height), (fps, seconds) = self._sizes[pair], self._rates[pair]
        return Probe(
            width=width, height=height, fps=fps, frames=self._frames[place], seconds=seconds, codec=self._codecs[place]
        )

    def _sorted(self) -> npt.NDArray[np.int64]:
        """Places in the order of the contents."""
        if self._order is None:
            # Parts of digests: that two contents of an archive share 64 bits does not happen.
            numbers = np.frombuffer(bytes(self._contents), ">u8")[::4].astype(np.uint64)
            self._order = np.argsort(numbers, kind="stable")
            self._numbers = numbers[self._order]
        return self._order

    def table(self) -> pa.Table:
        """The table of `probes.parquet`: a row a content, by content."""
        order = self._sorted()
        failed = np.zeros(len(order), dtype=bool)
        failed[list(self._failures)] = True
        sizes, rates = np.array(self._sizes).reshape(-1, 2)[order], np.array(self._rates).reshape(-1, 2)[order]
        missing, several = failed[order], order.tolist()
        columns = {
            "width": column(sizes[:, 0], pa.int32(), missing=missing),
            "height": column(sizes[:, 1], pa.int32(), missing=missing),
            "fps": column(rates[:, 0], pa.float64(), missing=missing),
            "frames": column(np.array(self._frames)[order], pa.int64(), missing=missing),
            "seconds": column(rates[:, 1], pa.float64(), missing=missing),
            "codec": column([self._codecs[n] for n in several], pa.string(), missing=missing),
            "sha256": column([self._contents[32 * n : 32 * n + 32].hex() for n in several], pa.string()),
        }
        for name in ("reason", "message"):
            texts = [getattr(self._failures.get(n), name, "") for n in several]
            columns[name] = column(texts, pa.string())
        return pa.table(columns)


_NOTHING = Probe(width=0, height=0, fps=0.0, frames=0, seconds=0.0, codec="")


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
