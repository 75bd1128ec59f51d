"""Shuffle and Learn: only the middle frame tells, 3 of 4 tuples are wrong, and nothing else knows the label."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from rushes.errors import UserError
from rushes.pretext import ClipTuple, Shot
from rushes.pretext.shuffle_and_learn import ShuffleAndLearn
from tests.pretext.shots import shot


def one(task: ShuffleAndLearn, of: Shot, *key: int) -> ClipTuple:
    return task.draw(of, clip_frames=1, crop=32, rng=np.random.default_rng(key))


def many(of: Shot, count: int, **options: Any) -> list[ClipTuple]:
    task = ShuffleAndLearn(**({"similarity": 0.0} | options))
    return [one(task, of, 5, n) for n in range(count)]


def labels(draws: list[ClipTuple]) -> npt.NDArray[np.int64]:
    return np.array([draw.label for draw in draws])


def ends(draw: ClipTuple) -> tuple[int, int]:
    """b and d."""
    first, last = sorted((int(draw.frames[0, 0]), int(draw.frames[2, 0])))
    return first, last


def pair(of: Shot, *key: int, **options: Any) -> tuple[ClipTuple, ClipTuple]:
    """A wrong tuple and a right one of the same candidates: the label is drawn after them."""
    wrong, right = (one(ShuffleAndLearn(negatives=share, **options), of, *key) for share in (1 - 1e-9, 1e-9))
    assert (wrong.label, right.label) == (0, 1)
    return wrong, right


# Tuples --------------------------------------------------------------------------------------------------------------


@given(tau_max=st.integers(2, 70), tau_min=st.integers(1, 20), slack=st.integers(0, 200), seed=st.integers(0, 2**32))
def test_the_middle_lies_between_the_ends_or_well_outside(tau_max: int, tau_min: int, slack: int, seed: int) -> None:
    task = ShuffleAndLearn(tau_max=tau_max, tau_min=tau_min, similarity=0)
    draw = one(task, shot(task.span(clip_frames=1) + slack), seed)
    (b, d), middle = ends(draw), int(draw.frames[1, 0])
    assert max(2, tau_max // 2) <= d - b <= tau_max
    if draw.label:
        assert b < middle < d
    else:
        assert middle <= b - tau_min or middle >= d + tau_min
    assert draw.frames.max() - draw.frames.min() < task.span(clip_frames=1)


@given(seed=st.integers(0, 2**32), tau_max=st.integers(2, 40), tau_min=st.integers(1, 10))
def test_right_and_wrong_tuples_of_one_draw_differ_in_the_middle_alone(seed: int, tau_max: int, tau_min: int) -> None:
    wrong, right = pair(shot(300), seed, tau_max=tau_max, tau_min=tau_min, similarity=0.0)
    assert ends(wrong) == ends(right)
    assert (wrong.crops == right.crops).all()
    b, d = ends(right)
    assert b < right.frames[1, 0] < d
    assert not b <= wrong.frames[1, 0] <= d


@pytest.mark.parametrize("negatives", [0.75, 0.3])
def test_the_share_of_wrong_tuples_is_the_one_asked_for(negatives: float) -> None:
    wrong = (labels(many(shot(120), 4000, negatives=negatives)) == 0).sum()
    assert stats.binomtest(int(wrong), 4000, negatives).pvalue > 1e-3
    assert ShuffleAndLearn(negatives=negatives).chance == max(negatives, 1 - negatives)


def test_tuples_run_both_ways_and_middles_come_from_both_sides() -> None:
    draws = many(shot(120), 4000)
    for label in (0, 1):
        shown = [draw.frames[:, 0] for draw in draws if draw.label == label]
        forward = sum(frames[0] < frames[2] for frames in shown)
        assert stats.binomtest(int(forward), len(shown), 0.5).pvalue > 1e-3
    before = sum(draw.frames[1, 0] < draw.frames[[0, 2]].min() for draw in draws if not draw.label)
    assert stats.binomtest(int(before), int((labels(draws) == 0).sum()), 0.5).pvalue > 1e-3


def test_wrong_middles_lie_as_far_before_as_behind() -> None:
    wrong = [draw for draw in many(shot(300), 3000) if not draw.label]
    ways = np.array([[ends(draw)[0] - draw.frames[1, 0], draw.frames[1, 0] - ends(draw)[1]] for draw in wrong])
    before, behind = (side[side > 0] for side in ways.T)
    assert stats.ks_2samp(before, behind).pvalue > 1e-3
    assert (before.min(), behind.min()) == (15, 15)


def test_ends_and_crop_are_independent_of_the_label() -> None:
    draws = many(shot(150, height=512, width=640), 4000)
    right = labels(draws) == 1
    for values in np.array([[*ends(draw), ends(draw)[1] - ends(draw)[0], *draw.crops[0]] for draw in draws]).T:
        assert stats.ks_2samp(values[right], values[~right]).pvalue > 1e-3


def test_the_three_frames_have_one_crop_and_nothing_else_is_changed() -> None:
    draws = many(shot(120), 300)
    assert all((draw.crops == draw.crops[0]).all() for draw in draws)
    assert len({tuple(draw.crops[0]) for draw in draws}) > 100
    assert not any(draw.flip or draw.channels is not None for draw in draws)


# Motion --------------------------------------------------------------------------------------------------------------


def halves(draws: list[ClipTuple], frames: int) -> tuple[int, int]:
    """How many tuples have their ends' middle in the first half, and of how many."""
    return sum(sum(ends(draw)) / 2 < (frames - 1) / 2 for draw in draws), len(draws)


def test_footage_that_stands_still_is_drawn_from_evenly() -> None:
    assert stats.binomtest(*halves(many(shot(301), 3000), 301), 0.5).pvalue > 1e-3
    starts = [ends(draw)[0] for draw in many(shot(13), 6000, tau_max=2, tau_min=1)]
    assert stats.chisquare(np.bincount(np.array(starts) - 1)).pvalue > 1e-3  # b = 1 + start: 9 windows of 5 frames


def test_windows_that_move_are_drawn_more_often() -> None:
    motion = np.where(np.arange(300) < 150, 1.0, 9.0)
    first, count = halves(many(shot(300, motion=motion), 2000), 300)
    assert 0.1 < first / count < 0.3
    alone = np.zeros(300)
    alone[200] = 1
    # 200 lies in every window drawn, so no end is further from it than a window.
    assert all(abs(end - 200) < 91 for draw in many(shot(300, motion=alone), 500) for end in ends(draw))


# Looks ---------------------------------------------------------------------------------------------------------------


def grey(levels: npt.ArrayLike, *, height: int = 56, width: int = 76) -> npt.NDArray[np.uint8]:
    """I420 frames of one grey each."""
    pictures = np.full((len(np.asarray(levels)), height * 3 // 2, width), 128, np.uint8)
    pictures[:, :height] = np.asarray(levels, np.uint8)[:, None, None]
    return pictures


SMALL: dict[str, Any] = {"tau_max": 8, "tau_min": 3}


def test_a_middle_that_looks_like_the_right_one_is_not_taken() -> None:
    # Frames are black or white at random: half of the outsiders look like c.
    levels = np.where(np.random.default_rng(0).random(200) < 0.5, 30, 220)
    of = shot(200, pictures=grey(levels))
    alike = {
        similarity: np.mean(
            [
                levels[wrong.frames[1, 0]] == levels[right.frames[1, 0]]
                for wrong, right in (pair(of, n, similarity=similarity, **SMALL) for n in range(400))
            ]
        )
        for similarity in (0.0, 10.0)
    }
    assert alike[0.0] > 0.4
    assert alike[10.0] < 0.03  # both alike in four tries: 1/4 ** 4
    # The candidates do not depend on the label, so neither do the shares.
    draws = many(of, 3000, similarity=10.0, **SMALL)
    assert stats.binomtest(int((labels(draws) == 0).sum()), 3000, 0.75).pvalue > 1e-3


@pytest.mark.parametrize(("difference", "told_apart"), [(2, False), (5, True)])
def test_alike_is_measured_in_squared_rgb_levels(difference: int, told_apart: bool) -> None:
    """2 levels of luma are 5.4 squared RGB levels, not above 10; 5 are 34."""
    levels = 100 + difference * (np.arange(100) % 2)
    of = shot(100, pictures=grey(levels))
    unlike = [
        levels[wrong.frames[1, 0]] != levels[right.frames[1, 0]]
        for wrong, right in (pair(of, n, similarity=10.0, **SMALL) for n in range(400))
    ]
    assert np.mean(unlike) > 0.95 if told_apart else 0.3 < np.mean(unlike) < 0.7


def looks(of: Shot, *key: int) -> int:
    """How often a draw looks at the pictures."""
    asked: list[npt.NDArray[np.int64]] = []

    def pictures(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        asked.append(numbers)
        return of.read_frames(numbers)

    draw = one(ShuffleAndLearn(**SMALL), replace(of, read_frames=pictures), *key)
    assert set(draw.frames.ravel().tolist()) <= set(asked[-1].tolist()), "what was looked at last is what is taken"
    return len(asked)


def test_footage_in_which_all_looks_alike_is_taken_after_a_few_tries() -> None:
    still = shot(100, pictures=grey(np.full(100, 90)))
    assert {looks(still, n) for n in range(50)} == {4}
    draws = many(still, 1200, similarity=10.0, **SMALL)
    assert stats.binomtest(int((labels(draws) == 0).sum()), 1200, 0.75).pvalue > 1e-3
    before = sum(draw.frames[1, 0] < draw.frames[[0, 2]].min() for draw in draws if not draw.label)
    assert stats.binomtest(int(before), int((labels(draws) == 0).sum()), 0.5).pvalue > 1e-3


def test_only_the_crop_is_looked_at() -> None:
    pictures = grey(np.full(100, 90))
    pictures[:, :56, :2] = np.random.default_rng(0).integers(16, 235, (100, 56, 2))
    tall = shot(100, pictures=pictures)
    tries = {n: (looks(tall, n), one(ShuffleAndLearn(similarity=0, **SMALL), tall, n).crops[0, 1]) for n in range(300)}
    assert {count for count, left in tries.values() if left == 0} == {1}
    assert {count for count, left in tries.values() if left > 0} == {4}


# Network -------------------------------------------------------------------------------------------------------------


def test_the_head_is_one_layer_on_three_frames_in_their_order() -> None:
    head = ShuffleAndLearn().head(4096)
    assert [tuple(p.shape) for p in head.parameters()] == [(2, 3 * 4096), (2,)]
    features = torch.randn(1, 3, 4096)
    assert not torch.allclose(head(features), head(features.flip(1)))


def test_the_last_layer_is_drawn_as_released() -> None:
    torch.manual_seed(0)
    last = [m for m in ShuffleAndLearn().head(4096).modules() if isinstance(m, nn.Linear)][-1]
    assert last.weight.abs().max().item() == pytest.approx((3 / (3 * 4096)) ** 0.5, rel=0.01)
    assert (last.bias == 0).all()


@pytest.mark.parametrize(("hidden", "adds_up"), [(0, True), (64, False)])
def test_only_a_hidden_layer_relates_the_middle_to_the_ends(hidden: int, adds_up: bool) -> None:
    """Without one, another middle changes the answer by as much whatever the ends."""
    head = ShuffleAndLearn(hidden=hidden).head(16).eval()
    middles, ends_ = torch.randn(2, 16), torch.randn(2, 2, 16)
    answers = [[head(torch.stack([first, middle, last])[None]) for middle in middles] for first, last in ends_]
    changes = [other - one for one, other in answers]
    assert torch.allclose(changes[0], changes[1], atol=1e-5) == adds_up


def test_a_network_of_clips_is_refused() -> None:
    with pytest.raises(UserError, match="clip_frames: 16 is not allowed; 1: this task is about single frames"):
        ShuffleAndLearn().check(clip_frames=16)


def test_published_geometry() -> None:
    task = ShuffleAndLearn()
    assert (task.span(clip_frames=1), task.classes, task.elements, task.chance) == (91, 2, 3, 0.75)
