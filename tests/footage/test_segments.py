"""Segments and splits, decided before anything is encoded."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.labels import Annotation
from rushes.footage.segment_plan import Failure, Planned, SegmentPlan
from rushes.footage.segments import plan_segments
from rushes.footage.sources import Source
from rushes.footage.splits import check_coverage, group_of, share_of
from rushes.video.probe import Probe

ALL_TRAIN = SampleConfig(val_share=0.0)


def content(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def sources(*paths: str) -> list[Source]:
    return [Source(path=path, sha256=content(path), size=1) for path in paths]


def lasting(seconds: float) -> Probe:
    return Probe(width=64, height=48, fps=25.0, frames=0, seconds=seconds, codec="h264")


def plan(annotations: list[Annotation], seconds: dict[str, float], config: SampleConfig = ALL_TRAIN) -> SegmentPlan:
    probes: dict[str, Probe | Failure] = {content(path): lasting(s) for path, s in seconds.items()}
    return plan_segments(sources(*seconds), annotations, probes, config)


def spans(planned: Sequence[Planned]) -> list[tuple[float, float, str, str]]:
    return [(round(p.segment.start, 3), round(p.segment.end, 3), p.segment.label, p.segment.split) for p in planned]


TWO = [Annotation(path="t.mp4", label="run", split="test"), Annotation(path="u.mp4", label="jump", split="test")]
PAIR = {"t.mp4": 1.0, "u.mp4": 1.0}


def test_intervals_become_segments_and_long_gaps_unlabelled_ones() -> None:
    annotations = [
        Annotation(path="a.mp4", start=2.0, end=3.0, label="run"),
        Annotation(path="a.mp4", start=3.5, end=5.0, label="jump"),
        *TWO,
    ]
    found = [p for p in plan(annotations, {"a.mp4": 8.0} | PAIR) if p.segment.source == "a.mp4"]
    assert spans(found) == [
        (0.0, 2.0, "", "unlabelled"),
        (2.0, 3.0, "run", "train"),
        (3.5, 5.0, "jump", "train"),  # the gap of half a second is dropped
        (5.0, 8.0, "", "unlabelled"),
    ]
    assert found[2].limit == 5.0, "a labelled interval stops where it says"
    assert found[3].limit == 5.0 + 60.0, "the rest goes on if the file is longer than its header says"


@given(seconds=st.floats(0.04, 4000), longest=st.floats(1, 100))
def test_a_long_file_is_cut_into_even_adjoining_pieces(seconds: float, longest: float) -> None:
    planned = plan([], {"a.mp4": seconds}, replace(ALL_TRAIN, segment_seconds=longest))
    assert planned[0].segment.start == 0 and planned[-1].segment.end == seconds
    for one, next_one in pairwise(planned):
        assert one.segment.end == next_one.segment.start == one.limit
        assert abs(one.segment.end * 25 - round(one.segment.end * 25)) < 1e-6, "cuts lie on frames"
    lengths = [p.segment.end - p.segment.start for p in planned]
    assert max(lengths) <= longest + 0.0401
    assert max(lengths) - min(lengths) <= 0.0801
    assert len({p.segment.key for p in planned}) == len(planned)


def test_a_long_labelled_file_gives_several_labelled_segments() -> None:
    annotations = [Annotation(path="a.mp4", label="run"), Annotation(path="b.mp4", label="jump"), *TWO]
    planned = plan(annotations, {"a.mp4": 150.0, "b.mp4": 1.0} | PAIR)
    assert [p.segment.label for p in planned if p.segment.source == "a.mp4"] == ["run"] * 3


def test_a_bad_file_is_one_quarantined_row() -> None:
    failure = Failure(reason="empty", message="x")
    probes: dict[str, Probe | Failure] = {content("a.mp4"): failure, content("b.mp4"): lasting(2)}
    bad, good = plan_segments(sources("a.mp4", "b.mp4"), [], probes, ALL_TRAIN)
    assert (bad.failure, good.failure) == (failure, None)


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
