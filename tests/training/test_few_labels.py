"""Few labels: so many a class, nested, spread over groups, by the seed."""

from collections import Counter
from typing import cast

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from rushes.footage.reader import Footage
from rushes.training.data import few_labels


class Labelled:
    """What `few_labels` asks of footage."""

    def __init__(self, labels: list[str], groups: list[str]) -> None:
        self.segments = self
        self.label, self.group = np.array(labels, dtype=object), np.array(groups, dtype=object)

    def texts(self, column: str) -> npt.NDArray[np.object_]:
        assert column == "group"
        return self.group


def footage(pairs: list[tuple[str, str]]) -> Footage:
    return cast(Footage, Labelled(*map(list, zip(*pairs, strict=True))))


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pqrstu")), min_size=1, max_size=60)


@given(pairs=pairs, seed=st.integers(0, 5))
def test_so_many_a_class_nested_and_from_as_many_groups_as_can_be(pairs: list[tuple[str, str]], seed: int) -> None:
    known, rows = footage(pairs), np.arange(len(pairs))
    smaller: set[int] = set()
    for count in (1, 2, 3, 5, 60):
        chosen = few_labels(known, rows, per_class=count, seed=seed)
        assert list(chosen) == sorted(set(chosen.tolist()))
        for label in "abc":
            there = [pair for pair in pairs if pair[0] == label]
            mine = Counter(pairs[row][1] for row in chosen if pairs[row][0] == label)
            assert mine.total() == min(count, len(there))
            assert len(mine) == min(count, len({group for _, group in there}))
        assert smaller <= set(chosen.tolist())
        smaller = set(chosen.tolist())


def test_a_group_gives_a_second_one_when_all_have_given_one() -> None:
    known = footage([("a", group) for group in "ppppppqrr"])
    for seed in range(20):
        groups = Counter("ppppppqrr"[row] for row in few_labels(known, np.arange(9), per_class=5, seed=seed))
        assert groups == {"p": 2, "q": 1, "r": 2}


def test_the_seed_chooses_and_none_is_all() -> None:
    known, rows = footage([("ab"[n % 2], f"g{n}") for n in range(40)]), np.arange(40)
    choices = {tuple(few_labels(known, rows, per_class=2, seed=seed)) for seed in range(8)}
    assert len(choices) > 4
    assert (
        few_labels(known, rows, per_class=2, seed=1).tolist() == few_labels(known, rows, per_class=2, seed=1).tolist()
    )
    assert few_labels(known, rows, per_class=0, seed=1).tolist() == rows.tolist()


def test_only_the_given_rows_are_chosen_from() -> None:
    known = footage([("ab"[n % 2], f"g{n}") for n in range(40)])
    rows = np.arange(10, 30)
    assert set(few_labels(known, rows, per_class=3, seed=0)) <= set(rows.tolist())
