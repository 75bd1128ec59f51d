"""The plugin of temporal transformations: each as specified, equally fast on the whole, and at the same position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from examples.temporal_transforms import TRANSFORMS, TemporalTransforms
from rushes.errors import UserError
from tests.pretext.shots import shot


@given(
    stride=st.integers(2, 6),
    speeds=st.integers(1, 3),
    clip_frames=st.integers(3, 20),
    slack=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
def test_each_label_is_its_transformation_at_its_speed(
    stride: int, speeds: int, clip_frames: int, slack: int, seed: int
) -> None:
    task = TemporalTransforms(stride=stride, speeds=speeds)
    span = task.span(clip_frames=clip_frames)
    draw = task.draw(shot(span + slack), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    speed, transform = divmod(draw.label, 4)
    (numbers,), step = draw.frames, stride * 2**speed
    steps = np.diff(numbers)
    assert numbers.min() >= 0
    assert numbers.max() < span + slack
    # Not one frame twice as fast on the whole: a clip covers as much time whatever was done to it.
    covered = step * (clip_frames // 2 if TRANSFORMS[transform] == "forward_backward" else clip_frames - 1)
    assert np.ptp(numbers) == covered
    match TRANSFORMS[transform]:
        case "none":
            assert (steps == step).all()
        case "forward_backward":
            assert (steps == np.where(np.arange(clip_frames - 1) < clip_frames // 2, step, -step)).all()
        case "shuffle":
            assert (np.diff(np.sort(numbers)) == step).all()
            assert (steps != step).any()
            assert (steps != -step).any()
        case "warp":
            assert (steps > 0).all()
            assert (steps != step).any()


def test_warped_clips_are_uneven_in_every_way() -> None:
    task = TemporalTransforms()
    found = set()
    for n in range(4000):
        draw = task.draw(shot(9), clip_frames=5, crop=32, rng=np.random.default_rng(n))
        if draw.label == TRANSFORMS.index("warp"):
            found.add(tuple(draw.frames[0, 1:-1].tolist()))
    # Any 3 of the 7 numbers between first and last, but for the even 2, 4, 6.
    assert len(found) == 34


def test_the_clips_centre_and_crop_are_independent_of_the_label() -> None:
    task = TemporalTransforms(speeds=2)
    draws = [task.draw(shot(150), clip_frames=16, crop=32, rng=np.random.default_rng([7, n])) for n in range(8000)]
    labels = np.array([draw.label for draw in draws])
    centres = np.array([(draw.frames.min() + draw.frames.max()) / 2 for draw in draws])
    for label in range(1, 8):
        assert stats.ks_2samp(centres[labels == 0], centres[labels == label]).pvalue > 1e-3
    for column in np.array([draw.crops[0] for draw in draws]).T:
        assert stats.f_oneway(*(column[labels == label] for label in range(8))).pvalue > 1e-3


def test_two_frames_cannot_be_transformed() -> None:
    with pytest.raises(UserError, match=r"pretrain.clip_frames: 2 is not allowed; 3 or more"):
        TemporalTransforms().check(clip_frames=2)


def test_the_answer_in_words() -> None:
    assert TemporalTransforms().answer(2) == "shuffle"
    assert TemporalTransforms(speeds=2).answer(7) == "warp, stride 4"


@pytest.mark.parametrize(
    ("options", "words"), [({"stride": 1}, "stride: 1 is not allowed; 2 to 16"), ({"speeds": 5}, "speeds: 5 is not")]
)
def test_a_mistake_in_the_options_is_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        TemporalTransforms(**options)
