"""Segments, decided before anything is encoded."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rushes.config import SampleConfig
from rushes.footage.annotation import Annotation
from rushes.footage.segment_plan import Failure, Planned, SegmentPlan
from rushes.footage.segments import plan_segments
from rushes.footage.sources import Source
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
