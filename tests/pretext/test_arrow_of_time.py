"""The arrow of time: the same clips forwards and backwards, and nothing else differs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rushes.pretext.arrow_of_time import ArrowOfTime
from tests.pretext.shots import shot


@given(stride=st.integers(1, 8), clip_frames=st.integers(2, 20), slack=st.integers(0, 100), seed=st.integers(0, 2**32))
def test_frames_are_a_stride_apart_one_way_or_the_other(stride: int, clip_frames: int, slack: int, seed: int) -> None:
    task = ArrowOfTime(stride=stride)
    frames = task.span(clip_frames=clip_frames) + slack
    draw = task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    assert (np.diff(draw.frames[0]) == (-stride if draw.label else stride)).all()
    assert draw.frames.min() >= 0
    assert draw.frames.max() < frames


def test_a_reversed_clip_is_a_forward_one_read_from_its_end() -> None:
    task = ArrowOfTime(stride=2)
    shown: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set()}
    for n in range(400):
        draw = task.draw(shot(12), clip_frames=4, crop=32, rng=np.random.default_rng(n))
        shown[draw.label].add(tuple(draw.frames[0].tolist()))
    assert shown[0] == {tuple(range(start, start + 8, 2)) for start in range(6)}
    assert shown[1] == {clip[::-1] for clip in shown[0]}


def test_neither_place_nor_crop_tells_the_direction() -> None:
    draws = [ArrowOfTime().draw(shot(99), clip_frames=16, crop=32, rng=np.random.default_rng(n)) for n in range(4000)]
    labels = np.array([draw.label for draw in draws])
    assert stats.binomtest(int(labels.sum()), len(labels)).pvalue > 1e-4
    places = np.array([[draw.frames.min(), *draw.crops[0]] for draw in draws])
    for column in places.T:
        assert stats.ks_2samp(column[labels == 0], column[labels == 1]).pvalue > 1e-3


def test_the_answer_in_words() -> None:
    assert [ArrowOfTime().answer(label) for label in (0, 1)] == ["forwards", "backwards"]
