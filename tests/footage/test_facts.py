"""Facts about footage: histograms, and which segments are duplicates of each other."""

import numpy as np
import pyarrow as pa

from rushes.footage.columns import column
from rushes.footage.facts import find_duplicates, histogram


def test_a_histogram_counts_every_value_once() -> None:
    edges = (0, 1, 2, 5, np.inf)
    assert histogram(np.array([1.0, 1.5, 2.0, 99.0]), edges) == [(1, 2, 2), (2, 5, 1), (5, np.inf, 1)]
    assert histogram(np.array([]), edges) == []


def sampled(*rows: tuple[str, float, str, int]) -> pa.Table:
    """Rows of an index: file, start, split, and the first half of the fingerprint."""
    prints = column([(row[3], 0) for row in rows], pa.list_(pa.uint64(), 2))
    names = ("source", "start", "split")
    return pa.table({name: [row[n] for row in rows] for n, name in enumerate(names)} | {"fingerprint": prints})


def test_duplicates_across_the_test_split_come_first_then_those_of_two_files() -> None:
    same = [("a", 0.0, "train", 1), ("a", 8.0, "train", 1), ("b", 0.0, "train", 3), ("c", 0.0, "test", 7)]
    pairs, compared = find_duplicates(sampled(*same, ("d", 0.0, "", 0xFFFFFFFF)))
    assert compared == 5
    assert {name for pair in pairs for name in (pair.first[0], pair.second[0])} == {"a", "b", "c"}
    kinds = [(pair.across_test, pair.across_files) for pair in pairs]
    assert kinds == [(True, True)] * 3 + [(False, True)] * 2 + [(False, False)]
    assert [pair.distance for pair in pairs[:3]] == [1, 2, 2]


def test_an_index_without_duplicates_has_none() -> None:
    assert find_duplicates(sampled(("a", 0.0, "train", 1), ("b", 0.0, "test", 0xFFFFFFFF))) == ([], 2)
