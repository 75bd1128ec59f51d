"""Which of the encoded segments are used: no footage on both sides of the test split, and the moving ones first."""

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


def choose(table: pa.Table, config: SampleConfig, progress: Progress) -> pa.Table:
    """Marks as left out what the recipe does not want.

    Args:
        table: all columns of the index.
        config: `duplicates` and `keep` count.
        progress: is told what is left out.

    Raises:
        UserError: the test split shares footage with another, and the recipe does not say to drop that.
    """
    pairs = shared_with_test(table)
    if pairs and config.duplicates == "error":
        raise _shared(table, pairs)
    table = _left_out(table, np.unique([other for _, other in pairs]).astype(np.int64), "duplicate", progress)
    return _left_out(table, _still(table, config), "still", progress)


def _left_out(table: pa.Table, rows: Integers, reason: str, progress: Progress) -> pa.Table:
    if not len(rows):
        return table
    progress.say(f"{len(rows)} segments are left out: {reason}")
    chosen = np.zeros(len(table), dtype=bool)
    chosen[rows] = True
    for name, value in (("status", LEFT_OUT), ("reason", reason)):
        place = table.schema.get_field_index(name)
        changed = pc.if_else(mask(chosen), text(value), table[name])
        table = table.set_column(place, table.schema.field(name), changed)
    return table


def shared_with_test(table: pa.Table) -> list[tuple[int, int]]:
    """Pairs of rows (test, other split) that show the same footage: the same file, or nearly the same pictures."""
    sampled, tested = _are(table, "status", SAMPLED), _are(table, "split", "test")
    test, others = np.flatnonzero(sampled & tested), np.flatnonzero(sampled & ~tested)
    if not len(test) or not len(others):
        return []
    prints = plain(table["fingerprint"])
    pairs = {(int(test[a]), int(others[b])) for a, b in near_duplicates(prints[test], prints[others])}
    contents = table["source_sha256"]
    twice = others[plain(pc.is_in(_rows(contents, others), _rows(contents, test)))]
    by_content = {contents[int(row)].as_py(): int(row) for row in test} if len(twice) else {}
    pairs |= {(by_content[contents[int(row)].as_py()], int(row)) for row in twice}
    return sorted(pairs)


def _are(table: pa.Table, name: str, value: str) -> npt.NDArray[np.bool_]:
    return plain(pc.equal(table[name], text(value)))


def _rows(texts: pa.ChunkedArray, rows: Integers) -> pa.Array:
    return texts.combine_chunks().take(column(rows, pa.int64()))


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


def _still(table: pa.Table, config: SampleConfig) -> Integers:
    """The unlabelled segments beyond the share of highest motion that the recipe keeps."""
    rows = np.flatnonzero(_are(table, "status", SAMPLED) & _are(table, "split", "unlabelled"))
    motion = plain(table["motion"])[rows, _MEDIAN]
    order = np.argsort(-motion, kind="stable")
    return rows[order[int(np.ceil(config.keep * len(rows))) :]].astype(np.int64)
