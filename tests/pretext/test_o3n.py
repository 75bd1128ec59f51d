"""Odd one out: the odd clip differs by the order of its frames and by nothing else."""

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from rushes.errors import UserError
from rushes.pretext import ClipTuple
from rushes.pretext.o3n import O3N, sum_of_differences
from rushes.pretext.task import disorder
from tests.pretext.shots import shot


def drawn(task: O3N, *, count: int, frames: int = 60, clip_frames: int = 6) -> list[ClipTuple]:
    return [
        task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=np.random.default_rng([5, n]))
        for n in range(count)
    ]


@given(
    elements=st.integers(2, 8),
    stride=st.integers(1, 4),
    clip_frames=st.integers(3, 17),
    slack=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
def test_one_clip_is_out_of_order_and_every_clip_has_frames_a_stride_apart(
    elements: int, stride: int, clip_frames: int, slack: int, seed: int
) -> None:
    task = O3N(elements=elements, stride=stride)
    span = task.span(clip_frames=clip_frames)
    draw = task.draw(shot(span + slack), clip_frames=clip_frames, crop=32, rng=np.random.default_rng(seed))
    assert (np.diff(np.sort(draw.frames, axis=1), axis=1) == stride).all()
    forward = (np.diff(draw.frames, axis=1) == stride).all(axis=1)
    assert np.flatnonzero(~forward).tolist() == [draw.label]
    backward = (np.diff(draw.frames, axis=1) == -stride).all(axis=1)
    assert not backward.any()
    assert draw.frames.min() >= 0
    assert draw.frames.max() - draw.frames.min() < span


def test_published_geometry() -> None:
    task = O3N()
    assert (task.elements, task.classes, task.span(clip_frames=6)) == (6, 6, 9)


def test_every_order_but_forward_and_backward_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(tuple(disorder(4, rng=rng).tolist()) for _ in range(22 * 200))
    assert len(counts) == 22
    assert (0, 1, 2, 3) not in counts
    assert (3, 2, 1, 0) not in counts
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_the_place_of_the_odd_one_is_uniform() -> None:
    labels = [draw.label for draw in drawn(O3N(), count=3000)]
    assert stats.chisquare(np.bincount(labels, minlength=6)).pvalue > 1e-4


def test_the_odd_one_begins_where_any_other_might() -> None:
    draws = drawn(O3N(), count=4000, frames=18, clip_frames=12)
    starts = np.array([draw.frames.min(axis=1) for draw in draws])
    labels = np.array([draw.label for draw in draws])
    odd = starts[np.arange(len(draws)), labels]
    # Each clip by itself: 7 places in a window that never moves, since the shot is no longer.
    for column in (odd, *starts.T):
        assert stats.chisquare(np.bincount(column, minlength=7)).pvalue > 1e-4
    # And beside the others: neither the earliest nor the latest more often than its turn.
    others = np.array([np.delete(row, label) for row, label in zip(starts, labels, strict=True)])
    earlier, later = (odd[:, None] < others).mean(), (odd[:, None] > others).mean()
    assert abs(earlier - later) < 0.04  # the standard error is below .01


def test_all_clips_share_one_crop_which_says_nothing() -> None:
    draws = drawn(O3N(), count=2000)
    assert all(len({tuple(crop) for crop in draw.crops}) == 1 for draw in draws)
    assert len({tuple(draw.crops[0]) for draw in draws}) > 200
    labels = np.array([draw.label for draw in draws])
    for column in np.array([draw.crops[0] for draw in draws]).T:
        assert stats.f_oneway(*(column[labels == label] for label in range(6))).pvalue > 1e-3


@pytest.mark.parametrize("elements", [2, 3, 6])
def test_the_sum_of_differences_is_over_all_pairs(elements: int) -> None:
    features = torch.randn(4, elements, 7)
    expected = torch.zeros(4, 7)
    for i in range(elements):
        for j in range(i + 1, elements):
            expected += features[:, j] - features[:, i]
    torch.testing.assert_close(sum_of_differences(features), expected)


def test_six_clips_count_as_published_and_an_odd_number_hides_one() -> None:
    assert sum_of_differences(torch.eye(6)[None]).tolist() == [[-5, -3, -1, 1, 3, 5]]
    assert sum_of_differences(torch.eye(5)[None])[0, 2] == 0
    with pytest.raises(UserError, match=r"elements: 5 is not allowed with fusion differences, .* cancels out"):
        O3N(elements=5, fusion="differences")
    assert O3N(elements=5, fusion="concat").classes == 5


@pytest.mark.parametrize(("fusion", "width"), [("concat", 6 * 16), ("differences", 16)])
def test_the_answer_depends_on_which_clip_is_which(fusion: Literal["concat", "differences"], width: int) -> None:
    head = O3N(fusion=fusion).head(16).eval()
    shapes = [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(512, width), (6, 512)]
    features = torch.randn(1, 6, 16)
    swapped = features[:, [0, 1, 3, 2, 4, 5]]
    assert not torch.allclose(head(features), head(swapped))


def test_clips_of_two_frames_have_no_disorder() -> None:
    with pytest.raises(UserError, match=r"pretrain.clip_frames: 2 is not allowed; 3 or more"):
        O3N().check(clip_frames=2)


def test_the_answer_in_words() -> None:
    assert O3N().answer(2) == "clip 3 is out of order"
