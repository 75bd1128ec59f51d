"""Folds: every labelled group is test once, and folds are even."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.folds import fold_annotations


def annotations(groups: list[int], *, split: str | None = None) -> list[Annotation]:
    return [
        Annotation(path=f"{n}.mp4", label="ab"[n % 2], group=f"person {group}", split=split)
        for n, group in enumerate(groups)
    ]


@given(groups=st.lists(st.integers(0, 20), min_size=5, max_size=60), folds=st.integers(2, 4))
def test_every_labelled_group_is_test_in_one_fold(groups: list[int], folds: int) -> None:
    known = annotations(groups, split="train")
    if len(set(groups)) < folds:
        with pytest.raises(UserError, match=f"folds: {folds} is not allowed; the labels have {len(set(groups))}"):
            fold_annotations(known, fold=1, folds=folds)
        return
    tested = []
    for fold in range(1, folds + 1):
        found = fold_annotations(known, fold=fold, folds=folds)
        test = {a.group for a in found if a.split == "test"}
        assert {a.split for a in found if a.group not in test} == {None}
        assert [(a.path, a.label, a.group) for a in found] == [(a.path, a.label, a.group) for a in known]
        tested.append(test)
    assert Counter(group for test in tested for group in test) == Counter(set(a.group for a in known))
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


def test_a_group_is_what_the_split_makes_of_it() -> None:
    # A group given in one row holds for the whole file; UCF's names hold their group.
    known = [
        Annotation(path="one.mp4", label="a", start=0.0, end=1.0),
        Annotation(path="one.mp4", label="b", start=1.0, end=2.0, group="g"),
        Annotation(path="two.mp4", label="b", group="g"),
        *(Annotation(path=f"v_Jump_g0{n}_c0{m}.avi", label="a") for n in range(3) for m in range(2)),
        Annotation(path="three.mp4", group="g"),
    ]
    for fold in range(1, 5):
        found = fold_annotations(known, fold=fold, folds=4)
        splits = [a.split for a in found]
        assert len({*splits[:3], splits[9]}) == 1
        assert all(splits[n] == splits[n + 1] for n in (3, 5, 7))
        assert "test" in splits


def test_folds_do_not_depend_on_order() -> None:
    known = annotations(list(range(9)))
    forward = {a.path: a.split for a in fold_annotations(known, fold=1, folds=3)}
    assert {a.path: a.split for a in fold_annotations(known[::-1], fold=1, folds=3)} == forward
