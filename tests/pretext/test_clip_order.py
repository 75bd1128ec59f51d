"""Clip order: whole clips, exact gaps, the label is the lexicographic number of the order shown."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rushes.pretext.clip_order import ClipOrder
from tests.pretext.shots import shot


@given(
    clips=st.integers(2, 5),
    gap=st.integers(0, 10),
    clip_frames=st.integers(2, 17),
    slack=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
def test_clips_are_whole_a_gap_apart_and_shown_in_the_order_of_the_label(
    clips: int, gap: int, clip_frames: int, slack: int, seed: int
) -> None:
    task = ClipOrder(clips=clips, gap=gap)
    span = task.span(clip_frames=clip_frames)
    draw = task.draw(shot(span + slack), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    assert (np.diff(draw.frames, axis=1) == 1).all()
    in_time = np.sort(draw.frames[:, 0])
    assert (np.diff(in_time) == clip_frames + gap).all()
    assert in_time[-1] + clip_frames - in_time[0] == span
    # Which clip of the video (0 is the earliest) is shown first, second, ...
    shown = tuple(int(n) for n in np.searchsorted(in_time, draw.frames[:, 0]))
    assert sorted(itertools.permutations(range(clips))).index(shown) == draw.label


def test_published_geometry() -> None:
    task = ClipOrder()
    assert (task.span(clip_frames=16), task.classes, task.elements) == (64, 6, 3)


def test_each_clip_has_a_crop_of_its_own_independent_of_the_order() -> None:
    large = shot(99, height=2032, width=2032)
    draws = [ClipOrder().draw(large, clip_frames=16, crop=32, rng=np.random.default_rng(n)) for n in range(500)]
    assert all(len({tuple(crop) for crop in draw.crops}) == 3 for draw in draws)
    crops = np.array([draw.crops.ravel() for draw in draws]) / 2000
    labels = np.array([draw.label for draw in draws])
    for column in crops.T:
        means = [column[labels == label].mean() for label in range(6)]
        assert np.ptp(means) < 0.2


def test_the_start_is_independent_of_the_label() -> None:
    draws = [ClipOrder().draw(shot(200), clip_frames=16, crop=32, rng=np.random.default_rng(n)) for n in range(3000)]
    starts = np.array([draw.frames.min() for draw in draws])
    labels = np.array([draw.label for draw in draws])
    assert starts.min() == 0
    assert starts.max() == 200 - 64
    means = [starts[labels == label].mean() for label in range(6)]
    assert np.ptp(means) < 10  # of 0..136; the standard error of a mean is 1.8
