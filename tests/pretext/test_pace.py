"""Pace: the label is the stride, the clip never wraps, and its place gives nothing away."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rushes.pretext import ClipTuple
from rushes.pretext.pace import Pace
from tests.pretext.shots import shot


@given(
    strides=st.integers(2, 16), clip_frames=st.integers(2, 20), slack=st.integers(0, 100), seed=st.integers(0, 2**32)
)
def test_frames_are_a_stride_apart_and_never_wrap(strides: int, clip_frames: int, slack: int, seed: int) -> None:
    task = Pace(strides=strides)
    frames = task.span(clip_frames=clip_frames) + slack
    draw = task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    assert (np.diff(draw.frames[0]) == draw.label + 1).all()
    assert draw.frames.min() >= 0
    assert draw.frames.max() < frames


def test_the_clips_centre_is_independent_of_the_label() -> None:
    task = Pace(strides=4)
    draws = [task.draw(shot(150), clip_frames=16, crop=32, rng=np.random.default_rng([7, n])) for n in range(8000)]
    labels = np.array([draw.label for draw in draws])
    centres = np.array([(draw.frames.min() + draw.frames.max()) / 2 for draw in draws])
    for label in range(1, 4):
        assert stats.ks_2samp(centres[labels == 0], centres[labels == label]).pvalue > 1e-3
    # The test has the power to see a draw that starts, rather than centres, every stride alike.
    starts = centres - 7.5 * (labels + 1)
    assert stats.ks_2samp(starts[labels == 0], starts[labels == 3]).pvalue < 1e-3


def test_the_crop_is_independent_of_the_label() -> None:
    draws = [Pace().draw(shot(99), clip_frames=16, crop=32, rng=np.random.default_rng(n)) for n in range(2000)]
    labels = np.array([draw.label for draw in draws])
    for column in np.array([draw.crops[0] for draw in draws]).T:
        assert stats.f_oneway(*(column[labels == label] for label in range(4))).pvalue > 1e-3


def drawn(flip: bool, seed: int) -> ClipTuple:
    rng = np.random.default_rng(seed)
    return Pace(flip=flip).draw(shot(80, height=40, width=60), clip_frames=8, crop=32, rng=rng)


def test_half_of_the_clips_are_mirrored_where_asked_and_nothing_else_changes() -> None:
    plain, mirrored = ([drawn(flip, seed) for seed in range(400)] for flip in (False, True))
    assert not any(one.flip for one in plain)
    assert 150 < sum(one.flip for one in mirrored) < 250
    for one, other in zip(plain, mirrored, strict=True):
        assert (one.frames == other.frames).all() and (one.crops == other.crops).all() and one.label == other.label
