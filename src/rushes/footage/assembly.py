"""The index of a run: one row per planned segment, from an earlier run, a new shard or a failure."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rushes.footage.catalogue import Catalogue
from rushes.footage.index import IndexRows
from rushes.footage.rows import QUARANTINED, REMOVED, SAMPLED, EncodingStats, Segment, Shard
from rushes.footage.segment_plan import Planned, SegmentPlan, SelectedSegments
from rushes.footage.shards import ShardRecord

Integers = npt.NDArray[np.int64]
_BATCH = 512
_ORDER = [(name, "ascending") for name in ("source", "start", "end", "label")]


def assemble(
    plan: SegmentPlan | SelectedSegments,
    known: Integers,
    catalogue: Catalogue,
    records: Iterator[ShardRecord],
    *,
    removed: Sequence[Segment] = (),
) -> tuple[pa.Table, list[Shard]]:
    """All rows of the index, and the shards that hold their segments: those used again, then the new ones.

    Args:
        plan: the planned segments.
        known: row in the catalogue of each, -1 where it is new or cannot be used.
        catalogue: the segments of earlier runs.
        records: of the new shards, in order; together they hold the new contents of the plan in its order.
        removed: segments of earlier runs whose file is no longer there.
    """
    reused = catalogue.shards_of(known[known >= 0])
    shards = [dataclasses.replace(catalogue.shards[position], shard=n) for n, position in enumerate(reused)]
    numbers = {position: n for n, position in enumerate(reused)} | {-1: -1}
    new = _NewSegments(records, shards, repeated=_repeated(plan, known))
    rows = IndexRows()
    for begin in range(0, len(plan), _BATCH):
        part = known[begin : begin + _BATCH]
        earlier = iter(catalogue.measured(part[part >= 0]))
        for planned, row in zip(plan[begin : begin + _BATCH], part, strict=True):
            if (failure := planned.failure) is not None:
                measured = EncodingStats(status=QUARANTINED, reason=failure.reason, message=failure.message)
            elif row >= 0:
                found = next(earlier)
                measured = dataclasses.replace(found, shard=numbers[found.shard])
            else:
                measured = new.measured(planned.segment.key)
            rows.add(_with_true_end(planned, measured), measured)
    for segment in removed:
        rows.add(segment, EncodingStats(status=REMOVED, reason="removed"))
    # The plan is in order already, and sorting takes the table's memory once more.
    return rows.table().sort_by(_ORDER) if removed else rows.table(), shards


class _NewSegments:
    """What encoding the new segments gave, in order; appends their shards to `shards`.

    Args:
        records: of the new shards.
        shards: those used again.
        repeated: keys that are planned more than once, and encoded once.
    """

    def __init__(self, records: Iterator[ShardRecord], shards: list[Shard], *, repeated: set[str]) -> None:
        self._stats = self._in_order(records, shards)
        self._repeated = repeated
        self._again: dict[str, EncodingStats] = {}

    def measured(self, key: str) -> EncodingStats:
        """Of the next new segment of the plan, which has this key."""
        if key in self._again:
            return self._again[key]
        measured = next(self._stats)
        if key in self._repeated:
            self._again[key] = measured
        return measured

    @staticmethod
    def _in_order(records: Iterator[ShardRecord], shards: list[Shard]) -> Iterator[EncodingStats]:
        for record in records:
            number = len(shards)
            shards.append(dataclasses.replace(record.shard, shard=number))
            for segment in record.segments:
                measured = segment.measured
                yield dataclasses.replace(measured, shard=number) if measured.shard >= 0 else measured


def _repeated(plan: SegmentPlan | SelectedSegments, known: Integers) -> set[str]:
    """Keys of new segments that are planned more than once."""
    keys, counts = np.unique(plan.keys[known < 0], return_counts=True)
    return {f"{key:016x}" for key in keys[counts > 1].tolist()}


def _with_true_end(planned: Planned, measured: EncodingStats) -> Segment:
    """The segment, ending where its frames end."""
    if measured.status != SAMPLED:
        return planned.segment
    return dataclasses.replace(planned.segment, end=planned.segment.start + measured.frames / measured.fps)
