"""The figures of an index of footage, for its manifest.

Computed row by row, in batches: Arrow's own aggregates take several times the memory of an archive's index.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from rushes.footage.rows import LEFT_OUT, QUARANTINED, REMOVED, SAMPLED, SPLITS

_BATCH = 512
_LISTED = 20  # quarantined segments that the summary names
_COLUMNS = (
    "status",
    "source",
    "start",
    "group",
    "label",
    "split",
    "frames",
    "fps",
    "length",
    "cuts",
    "reason",
    "message",
)


def summarise(table: pa.Table, *, shards: int) -> dict[str, Any]:
    """Counts, seconds and bytes of the used segments, by split and by class; counts of the others, by reason.

    Args:
        table: all columns of the index, in its order.
        shards: how many hold the segments.
    """
    totals = {split: _Total() for split in SPLITS}
    per_class: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    quarantine: list[dict[str, Any]] = []
    files, cuts, last = 0, 0, None
    groups: set[int] = set()
    for row in rows_of(table, _COLUMNS):
        if row["status"] != SAMPLED:
            reasons[row["status"]][row["reason"]] += 1
            if row["status"] == QUARANTINED and len(quarantine) < _LISTED:
                quarantine.append({name: row[name] for name in ("source", "start", "reason", "message")})
            continue
        totals[row["split"]].add(row["frames"], row["fps"], row["length"])
        files, last = files + (row["source"] != last), row["source"]  # rows of a file are adjacent
        cuts += len(row["cuts"])
        groups.add(hash(row["group"]))
        if row["label"]:
            per_class[row["label"]][row["split"]] += 1
    return {
        **sum(totals.values(), _Total()).figures(),
        "shards": shards,
        "files": files,
        "groups": len(groups),
        "cuts": cuts,
        "splits": {split: total.figures() for split, total in totals.items()},
        "classes": sorted(per_class),
        "per_class": {label: dict(sorted(counts.items())) for label, counts in sorted(per_class.items())},
        "quarantined": reasons[QUARANTINED].total(),
        "quarantine_reasons": dict(sorted(reasons[QUARANTINED].items())),
        "quarantine": quarantine,
        "left_out": dict(sorted(reasons[LEFT_OUT].items())),
        "removed": reasons[REMOVED].total(),
    }


def rows_of(table: pa.Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of some columns; only a few are Python objects at a time."""
    for batch in table.select(columns).to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


class _Total:
    """Sums over segments."""

    def __init__(self, segments: int = 0, seconds: float = 0.0, frames: int = 0, length: int = 0) -> None:
        self.segments, self.seconds, self.frames, self.length = segments, seconds, frames, length

    def add(self, frames: int, fps: float, length: int) -> None:
        """Adds a segment."""
        self.segments, self.seconds = self.segments + 1, self.seconds + frames / fps
        self.frames, self.length = self.frames + frames, self.length + length

    def __add__(self, other: "_Total") -> "_Total":
        return _Total(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def figures(self) -> dict[str, Any]:
        """By the manifest's names."""
        return {
            "segments": self.segments,
            "seconds": round(self.seconds, 3),
            "frames": self.frames,
            "bytes": self.length,
        }
