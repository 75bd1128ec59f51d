"""Which of the encoded segments are used: no footage on both sides of the test split, and the moving ones first."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rushes.config import Sample
from rushes.errors import UserError
from rushes.footage.index import LEFT_OUT, MOTION_QUANTILES, SAMPLED
from rushes.progress import Progress
from rushes.video.content import near_duplicates

_LISTED = 10
_MEDIAN = MOTION_QUANTILES.index(0.5)
Integers = npt.NDArray[np.int64]


def choose(table: pa.Table, config: Sample, progress: Progress) -> pa.Table:
    """Marks as left out what the recipe does not want.

    Args:
        table: all columns of the index.
        config: `duplicates` and `keep` count.
        progress: is told what is left out.

    Raises:
        UserError: the test split shares footage with another, and the recipe does not say to drop that.
    """
    status = np.array(table["status"].to_pylist(), dtype=object)
    reason = np.array(table["reason"].to_pylist(), dtype=object)
    pairs = shared_with_test(table)
    if pairs and config.duplicates == "error":
        raise _shared(table, pairs)
    for rows, why in (
        (np.unique([other for _, other in pairs]), "duplicate"),
        (_still(table, status, config), "still"),
    ):
        rows = rows.astype(np.int64)
        status[rows], reason[rows] = LEFT_OUT, why
        if len(rows):
            progress.say(f"{len(rows)} segments are left out: {why}")
    for name, values in (("status", status), ("reason", reason)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, pa.string()))
    return table


def shared_with_test(table: pa.Table) -> list[tuple[int, int]]:
    """Pairs of rows (test, other split) that show the same footage: the same file, or nearly the same pictures."""
    sampled = np.array(table["status"].to_pylist(), dtype=object) == SAMPLED
    tested = np.array(table["split"].to_pylist(), dtype=object) == "test"
    test, others = np.flatnonzero(sampled & tested), np.flatnonzero(sampled & ~tested)
    if not len(test) or not len(others):
        return []
    prints = table["fingerprint"].combine_chunks().flatten().to_numpy().reshape(-1, 2)
    pairs = {(int(test[a]), int(others[b])) for a, b in near_duplicates(prints[test], prints[others])}
    contents = table["source_sha256"].to_pylist()
    by_content = {contents[row]: int(row) for row in test}
    pairs |= {(by_content[contents[row]], int(row)) for row in others if contents[row] in by_content}
    return sorted(pairs)


def _shared(table: pa.Table, pairs: Sequence[tuple[int, int]]) -> UserError:
    def named(row: int) -> str:
        source, start, split = (table[name][row].as_py() for name in ("source", "start", "split"))
        return f"{source!r} from {start:.1f} s ({split})"

    listed = "\n".join(f"  {named(test)} = {named(other)}" for test, other in pairs[:_LISTED])
    more = f"\n  and {len(pairs) - _LISTED} more pairs" if len(pairs) > _LISTED else ""
    return UserError(
        f"duplicates: the test split shares footage with others, so its figures would flatter:\n{listed}{more}\n"
        "remove one of each, put both in one group (a group column), or pass --sample.duplicates drop, which leaves "
        "out the one that is not test"
    )


def _still(table: pa.Table, status: npt.NDArray[np.object_], config: Sample) -> Integers:
    """The unlabelled segments beyond the share of highest motion that the recipe keeps."""
    unlabelled = np.array(table["split"].to_pylist(), dtype=object) == "unlabelled"
    rows = np.flatnonzero((status == SAMPLED) & unlabelled)
    motion = table["motion"].combine_chunks().flatten().to_numpy().reshape(-1, len(MOTION_QUANTILES))[rows, _MEDIAN]
    order = np.argsort(-motion, kind="stable")
    return rows[order[int(np.ceil(config.keep * len(rows))) :]].astype(np.int64)
