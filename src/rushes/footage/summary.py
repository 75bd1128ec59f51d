"""What an index of footage amounts to: the figures of its manifest."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rushes.footage.index import LEFT_OUT, QUARANTINED, REMOVED, SAMPLED, STATUSES
from rushes.footage.labels import SPLITS

_LISTED = 20  # quarantined segments that the summary names


def summarise(table: pa.Table, *, shards: int) -> dict[str, Any]:
    """Counts, seconds and bytes of what is used, by split and by class, and what is not used and why.

    Args:
        table: all columns of the index.
        shards: how many hold it.
    """
    of = {status: table.filter(pc.equal(table["status"], status)) for status in STATUSES}
    sampled, bad = of[SAMPLED], of[QUARANTINED]
    per_class = Counter(zip(sampled["label"].to_pylist(), sampled["split"].to_pylist(), strict=True))
    labels = sorted({label for label, _ in per_class if label})
    return {
        **_totals(sampled),
        "shards": shards,
        "files": pc.count_distinct(sampled["source"]).as_py(),
        "groups": pc.count_distinct(sampled["group"]).as_py(),
        "cuts": int(pc.sum(pc.list_value_length(sampled["cuts"])).as_py() or 0),
        "splits": {split: _totals(sampled.filter(pc.equal(sampled["split"], split))) for split in SPLITS},
        "classes": labels,
        "per_class": {
            label: {split: per_class[label, split] for split in sorted(SPLITS) if per_class[label, split]}
            for label in labels
        },
        "quarantined": len(bad),
        "quarantine_reasons": _reasons(bad),
        "quarantine": bad.select(["source", "start", "reason", "message"]).slice(0, _LISTED).to_pylist(),
        "left_out": _reasons(of[LEFT_OUT]),
        "removed": len(of[REMOVED]),
    }


def _reasons(table: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(table["reason"].to_pylist()).items()))


def _totals(rows: pa.Table) -> dict[str, Any]:
    frames = rows["frames"].to_numpy()
    return {
        "segments": len(rows),
        "seconds": round(float(np.sum(frames / rows["fps"].to_numpy())), 3) if len(rows) else 0.0,
        "frames": int(np.sum(frames)),
        "bytes": int(np.sum(rows["length"].to_numpy(), dtype=np.int64)),
    }
