"""Filters over encoded segments: no footage on both sides of the test split, and the unlabelled ones that move most."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.columns import column, mask, plain, text
from rushes.footage.rows import LEFT_OUT, MOTION_QUANTILES, SAMPLED
from rushes.progress import Progress
from rushes.video.content import near_duplicates

_LISTED = 10
_MEDIAN = MOTION_QUANTILES.index(0.5)
Integers = npt.NDArray[np.int64]


def filter_segments(table: pa.Table, config: SampleConfig, progress: Progress) -> pa.Table:
    """Marks as left out the segments that the recipe does not use.

    Args:
        table: all columns of the index.
        config: `duplicates` and `keep` count.
        progress: where to report how many are left out.

    Raises:
        UserError: the test split shares footage with another, and `duplicates` is not "drop".
    """
    pairs = shared_with_test(table)
    if pairs and config.duplicates == "error":
        raise _duplicates_error(table, pairs)
    duplicates = np.unique([other for _, other in pairs]).astype(np.int64)
    table = _mark_left_out(table, duplicates, "duplicate", progress)
    return _mark_left_out(table, _stillest(table, config), "still", progress)


def _mark_left_out(table: pa.Table, rows: Integers, reason: str, progress: Progress) -> pa.Table:
    """Sets the status and reason of these rows."""
    if not len(rows):
        return table
    progress.say(f"{len(rows)} segments are left out: {reason}")
    marked = np.zeros(len(table), dtype=bool)
    marked[rows] = True
    for name, value in (("status", LEFT_OUT), ("reason", reason)):
        changed = pc.if_else(mask(marked), text(value), table[name])
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), changed)
    return table


def shared_with_test(table: pa.Table) -> list[tuple[int, int]]:
    """Pairs of rows (test, other split) that show the same footage: the same file, or nearly the same frames."""
    sampled, tested = _equal(table, "status", SAMPLED), _equal(table, "split", "test")
    test, others = np.flatnonzero(sampled & tested), np.flatnonzero(sampled & ~tested)
    if not len(test) or not len(others):
        return []
    fingerprints = plain(table["fingerprint"])
    pairs = {(int(test[a]), int(others[b])) for a, b in near_duplicates(fingerprints[test], fingerprints[others])}
    contents = table["source_sha256"]
    twice = others[plain(pc.is_in(_rows(contents, others), _rows(contents, test)))]
    by_content = {contents[int(row)].as_py(): int(row) for row in test} if len(twice) else {}
    pairs |= {(by_content[contents[int(row)].as_py()], int(row)) for row in twice}
    return sorted(pairs)


def _equal(table: pa.Table, name: str, value: str) -> npt.NDArray[np.bool_]:
    return plain(pc.equal(table[name], text(value)))


def _rows(texts: pa.ChunkedArray, rows: Integers) -> pa.Array:
    return texts.combine_chunks().take(column(rows, pa.int64()))


def _duplicates_error(table: pa.Table, pairs: Sequence[tuple[int, int]]) -> UserError:
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


def _stillest(table: pa.Table, config: SampleConfig) -> Integers:
    """The unlabelled segments that move least, beyond the share that the recipe keeps."""
    rows = np.flatnonzero(_equal(table, "status", SAMPLED) & _equal(table, "split", "unlabelled"))
    motion = plain(table["motion"])[rows, _MEDIAN]
    order = np.argsort(-motion, kind="stable")
    return rows[order[int(np.ceil(config.keep * len(rows))) :]].astype(np.int64)
