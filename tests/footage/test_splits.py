"""Splits by group: given ones win, the others follow a fixed hash."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.segment_plan import Planned
from rushes.footage.splits import check_coverage, group_of, share_of
from tests.footage.test_segments import ALL_TRAIN, PAIR, TWO, plan


def test_groups_come_from_the_annotation_then_the_name_then_the_file() -> None:
    assert group_of("Run/v_Run_g07_c02.avi") == "g07"
    assert group_of("Run/v_Run_g07_c02.avi", Annotation(path="", group="ann")) == "ann"
    assert group_of("cam/day_g1.mp4") == "cam/day_g1.mp4"


def test_the_hash_is_fixed_and_even() -> None:
    assert share_of("g01") == 0.08149922552080838, "a change here moves every user's videos between the splits"
    shares = [share_of(f"group {n}") for n in range(4000)]
    assert min(shares) >= 0 and max(shares) < 1
    assert abs(sum(s < 0.1 for s in shares) / 4000 - 0.1) < 0.02


def test_validation_takes_whole_groups_of_labelled_and_unlabelled_alike() -> None:
    seconds = {f"{kind}/v_X_g{n:02d}_c01.mp4": 1.0 for kind in ("run", "jump", "raw") for n in range(60)}
    annotations = [
        Annotation(path=path, label=path.split("/")[0], split="test" if path[-10:-8] < "06" else None)
        for path in seconds
        if not path.startswith("raw")
    ]
    rows = [p.segment for p in plan(annotations, seconds, SampleConfig(val_share=0.2))]
    of_group: dict[str, set[str]] = {}
    for row in rows:
        of_group.setdefault(row.group, set()).add(row.split)
    assert all(splits in ({"val"}, {"test"}, {"train", "unlabelled"}) for splits in of_group.values())
    assert sum(splits == {"test"} for splits in of_group.values()) == 6, "unlabelled files of a test group included"
    assert 4 <= sum(splits == {"val"} for splits in of_group.values()) <= 20


def test_growth_changes_no_group() -> None:
    few = {f"{n}.mp4": 1.0 for n in range(50)}
    many = {f"{n}.mp4": 1.0 for n in range(200)}
    before = {p.segment.source: p.segment.split for p in plan([], few, SampleConfig())}
    after = {p.segment.source: p.segment.split for p in plan([], many, SampleConfig())}
    assert before == {source: after[source] for source in before}


def test_given_validation_is_the_only_validation() -> None:
    seconds = {f"{n}.mp4": 1.0 for n in range(40)}
    annotations = [
        Annotation(path=path, label="run" if n % 2 else "jump", split=("val", "test")[n] if n < 2 else "train")
        for n, path in enumerate(seconds)
    ]
    rows = [p.segment for p in plan(annotations, seconds, SampleConfig(val_share=0.5))]
    assert [row.source for row in rows if row.split == "val"] == ["0.mp4"]


def test_without_a_test_split_groups_are_held_out_by_hash() -> None:
    seconds = {f"{n}.mp4": 1.0 for n in range(200)}
    annotations = [Annotation(path=path, label="run" if n % 2 else "jump") for n, path in enumerate(seconds)]
    rows = [p.segment for p in plan(annotations, seconds, SampleConfig(val_share=0.0, test_share=0.3))]
    assert 40 <= sum(row.split == "test" for row in rows) <= 80
    assert {row.split for row in rows} == {"train", "test"}
    both = [p.segment for p in plan(annotations, seconds, SampleConfig(val_share=0.2, test_share=0.3))]
    assert {row.split for row in both} == {"train", "val", "test"}, "one hash for both would leave no validation"


@pytest.mark.parametrize("other", ["train", "val", "unlabelled"])
def test_a_group_on_both_sides_of_test_is_an_error(other: str) -> None:
    annotations = [
        Annotation(path="a.mp4", label="run", group="kitchen", split="test"),
        Annotation(path="b.mp4", label=None if other == "unlabelled" else "jump", group="kitchen", split=other),
    ]
    with pytest.raises(UserError, match="'kitchen' on both sides of test"):
        plan(annotations, {"a.mp4": 1.0, "b.mp4": 1.0})


def covers(planned: Sequence[Planned]) -> None:
    check_coverage((p.segment.label, p.segment.split, p.segment.group) for p in planned)


def test_a_class_without_training_segments_is_an_error() -> None:
    annotations = [Annotation(path="a.mp4", label="run", split="train"), *TWO]
    with pytest.raises(UserError, match="no training segment is left for the class 'jump': label more groups"):
        covers(plan(annotations, {"a.mp4": 1.0} | PAIR))


def test_labels_without_any_test_group_are_an_error() -> None:
    annotations = [Annotation(path="a.mp4", label="run"), Annotation(path="b.mp4", label="jump")]
    with pytest.raises(UserError, match="none of the 2 labelled groups falls to the test split"):
        covers(plan(annotations, {"a.mp4": 1.0, "b.mp4": 1.0}, replace(ALL_TRAIN, test_share=0.0)))


def test_a_group_that_is_tested_and_learnt_is_never_let_through() -> None:
    with pytest.raises(AssertionError, match="'kitchen'"):
        check_coverage([("run", "test", "kitchen"), ("run", "train", "kitchen")])
