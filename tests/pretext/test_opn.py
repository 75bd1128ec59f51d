"""OPN: 12 orders whichever way they run, frames and patches that move, and no way to tell but by looking."""

import itertools
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
from rushes.pretext.opn import ORDERS, PAIRS, Opn, spaced_frames
from rushes.training.pretext import PretextTuples
from tests.pretext.shots import shot
from tests.training.stand_in import decoded, stand_in


def one(task: Opn, of: Shot, *key: int, crop: int = 32) -> ClipTuple:
    return task.draw(of, clip_frames=1, crop=crop, rng=np.random.default_rng(key))


def many(of: Shot, count: int, *, crop: int = 32, **options: Any) -> list[ClipTuple]:
    task = Opn(**options)
    return [one(task, of, 3, n, crop=crop) for n in range(count)]


def shown_order(draw: ClipTuple) -> tuple[int, ...]:
    """The place in time, from 0, of each frame as shown."""
    return tuple(draw.frames[:, 0].argsort().argsort().tolist())


def labels(draws: list[ClipTuple]) -> npt.NDArray[np.int64]:
    return np.array([draw.label for draw in draws])


# Orders --------------------------------------------------------------------------------------------------------------


def test_the_24_orders_fall_into_12_classes_of_an_order_and_its_reverse() -> None:
    classes = [tuple(order) for order in ORDERS.tolist()]
    assert len(classes) == 12
    assert sorted(classes + [order[::-1] for order in classes]) == sorted(itertools.permutations(range(4)))


def test_the_label_is_the_class_of_the_order_shown_whichever_way_it_runs() -> None:
    number = {tuple(order): label for label, order in enumerate(ORDERS.tolist())}
    seen: dict[tuple[int, ...], int] = {}
    for draw in many(shot(80), 2400):
        order = shown_order(draw)
        assert draw.label == number.get(order, number.get(order[::-1]))
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3  # labels uniform, and both ways alike


def test_published_numbering_and_its_words() -> None:
    assert [Opn().answer(label) for label in (0, 1, 11)] == [
        "1 2 3 4 or 4 3 2 1",
        "1 3 2 4 or 4 2 3 1",
        "3 2 1 4 or 4 1 2 3",
    ]
    assert (Opn().classes, Opn().elements, Opn().chance) == (12, 4, 1 / 12)


# Frames --------------------------------------------------------------------------------------------------------------


@given(
    gap=st.integers(0, 20),
    room=st.integers(0, 60),
    slack=st.integers(0, 200),
    moves=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_frames_are_spaced_and_within_the_window(gap: int, room: int, slack: int, moves: bool, seed: int) -> None:
    task = Opn(window=4 + 3 * gap + room, gap=gap)
    frames = task.span(clip_frames=1) + slack
    motion = np.random.default_rng(seed).pareto(0.5, frames) if moves else None
    in_time = np.sort(one(task, shot(frames, motion=motion), seed).frames[:, 0])
    assert (np.diff(in_time) > gap).all()
    assert in_time[-1] - in_time[0] < task.window


def test_a_choice_of_frames_is_as_likely_as_the_product_of_their_motion() -> None:
    motion = np.array([1, 3, 2, 0.5, 4, 1, 2], np.float32)
    spaced = [c for c in itertools.combinations(range(7), 3) if min(np.diff(c)) > 1]
    expected = np.array([motion[list(choice)].prod(dtype=np.float64) for choice in spaced])
    rng = np.random.default_rng(0)
    drawn = [tuple(spaced_frames(motion, count=3, gap=1, rng=rng).tolist()) for _ in range(6000)]
    counts = np.array([drawn.count(choice) for choice in spaced])
    assert counts.sum() == 6000
    assert stats.chisquare(counts, expected / expected.sum() * 6000).pvalue > 1e-3


def test_footage_that_stands_still_is_drawn_from_evenly() -> None:
    rng = np.random.default_rng(1)
    drawn = [tuple(spaced_frames(np.zeros(7, np.float32), count=3, gap=1, rng=rng).tolist()) for _ in range(4000)]
    counts = [drawn.count(c) for c in itertools.combinations(range(7), 3) if min(np.diff(c)) > 1]
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3
    starts = [draw.frames.min() for draw in many(shot(13), 3000, window=4, gap=0)]
    assert stats.chisquare(np.bincount(starts)).pvalue > 1e-3


def test_still_frames_are_drawn_only_where_the_gap_leaves_no_others() -> None:
    motion = np.zeros(40, np.float32)
    motion[[10, 11, 20, 30]] = 1
    rng = np.random.default_rng(2)
    for _ in range(200):
        drawn = set(spaced_frames(motion, count=4, gap=4, rng=rng).tolist())
        assert {20, 30} <= drawn
        assert len(drawn & {10, 11}) == 1


def test_windows_and_frames_that_move_are_drawn_more_often() -> None:
    alone = np.zeros(400)
    alone[300:304] = 1
    moving = [((draw.frames >= 300) & (draw.frames < 304)).sum() for draw in many(shot(400, motion=alone), 200, gap=0)]
    assert min(moving) >= 1, "a window without motion is not drawn"
    assert np.mean(np.array(moving) == 4) > 0.85, "few windows begin or end among the four"
    faster = np.where(np.arange(300) < 150, 1.0, 9.0)
    late = np.mean([draw.frames.mean() > 150 for draw in many(shot(300, motion=faster), 1000)])
    assert 0.8 < late < 0.97


# Crops ---------------------------------------------------------------------------------------------------------------


def test_all_frames_have_one_place_but_for_a_jitter_of_each() -> None:
    large = shot(80, height=200, width=240)
    for draw in many(large, 200, crop=80, jitter=0):
        assert (draw.crops == draw.crops[0]).all()
    crops = np.array([draw.crops for draw in many(large, 1500, crop=80)])
    assert (np.ptp(crops, axis=1) <= 8).all(), "two displacements of 4, which is 5 rounded down to even"
    assert np.ptp(crops, axis=1).max() == 8
    apart = crops - np.roll(crops, 1, axis=1)
    assert set(np.unique(apart).tolist()) == {-8, -6, -4, -2, 0, 2, 4, 6, 8}
    for first, second in itertools.combinations(range(4), 2):
        difference = crops[:, first] - crops[:, second]
        assert abs(np.corrcoef(difference.T)[0, 1]) < 0.1, "down and across are displaced independently"


def test_a_jitter_that_would_leave_the_patch_is_dropped() -> None:
    """With nothing moving, the patch is in the middle: pixels 50 to 150 of 200, so crops begin at 50 to 70."""
    crops = np.array([draw.crops for draw in many(shot(80, height=200, width=200), 2000, crop=80)])
    assert (crops.min(), crops.max()) == (50, 70)


def test_the_place_is_anywhere_in_the_patch() -> None:
    """With nothing moving, the patch is in the middle: 100 pixels of a crop of 80, 50 from the edge of 200."""
    crops = np.array([draw.crops[0] for draw in many(shot(80, height=200, width=200), 3000, crop=80, jitter=0)])
    for column in crops.T:
        places, counts = np.unique(column, return_counts=True)
        assert places.tolist() == list(range(50, 72, 2))
        assert stats.chisquare(counts).pvalue > 1e-3


def test_the_patch_is_where_most_moves_while_the_frames_last() -> None:
    motion = np.zeros(60)
    motion[[20, 28, 36, 44]] = 1
    grid = np.zeros((60, 4, 5), np.uint8)
    grid[:20, 0, 0] = grid[45:, 0, 0] = 255  # before the first frame and after the last
    grid[20:45, 3, 4] = 9
    moving = shot(60, height=200, width=240, motion=motion, grid=grid)
    crops = np.array([draw.crops for draw in many(moving, 200, crop=80, gap=7)]).reshape(-1, 2)
    assert crops.min(axis=0).tolist() == [200 - 100, 240 - 100]
    assert crops.max(axis=0).tolist() == [200 - 80, 240 - 80]


@pytest.mark.parametrize(("height", "width"), [(80, 80), (80, 90), (98, 82), (100, 400)])
def test_the_patch_of_small_footage_is_all_of_it(height: int, width: int) -> None:
    draws = many(shot(80, height=height, width=width), 400, crop=80)
    crops = np.array([draw.crops for draw in draws]).reshape(-1, 2)
    assert (crops % 2 == 0).all()
    assert (crops[:, 0].min(), crops[:, 0].max()) == (0, height - 80)
    if width < 100:
        assert (crops[:, 1].min(), crops[:, 1].max()) == (0, width - 80)


@given(half=st.integers(8, 114), room=st.tuples(st.integers(0, 90), st.integers(0, 90)), seed=st.integers(0, 2**32))
def test_crops_are_inside_the_picture_at_even_places(half: int, room: tuple[int, int], seed: int) -> None:
    crop, spare = 2 * half, 2 * np.array(room)
    grid = np.random.default_rng(seed).integers(0, 256, (60, 4, 5), dtype=np.uint8)
    draw = one(Opn(), shot(60, height=crop + spare[0], width=crop + spare[1], grid=grid), seed, crop=crop)
    assert (draw.crops % 2 == 0).all()
    assert (draw.crops >= 0).all()
    assert (draw.crops <= spare).all()


# What else is changed ------------------------------------------------------------------------------------------------


def test_flips_are_the_tuples_and_channels_the_frames() -> None:
    draws = many(shot(80), 2000)
    assert stats.binomtest(sum(draw.flip for draw in draws), 2000, 0.5).pvalue > 1e-3
    channels = np.array([draw.channels for draw in draws])
    assert channels.shape == (2000, 4)
    for first, second in itertools.combinations(range(4), 2):
        together = np.bincount(3 * channels[:, first] + channels[:, second], minlength=9)
        assert stats.chisquare(together).pvalue > 1e-3
    assert not any(draw.flip for draw in many(shot(80), 100, flip=False))
    assert all(draw.channels is None for draw in many(shot(80), 20, split_channels=False))


def test_nothing_but_the_order_depends_on_the_label() -> None:
    draws = many(shot(150, height=100, width=120, motion=np.linspace(0, 1, 150)), 4000)
    label = labels(draws)
    seen = np.array([[*np.sort(draw.frames[:, 0]), *draw.crops.ravel()] for draw in draws])
    for values in seen.T:
        assert stats.kruskal(*(values[label == n] for n in range(12))).pvalue > 1e-4
    coins = np.array([[draw.flip, *np.array(draw.channels)] for draw in draws])
    for values in coins.T.astype(np.int64):
        table = np.zeros((12, 3))
        np.add.at(table, (label, values), 1)
        assert stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue > 1e-4


def test_a_tuple_as_the_network_gets_it_is_four_grey_frames_of_one_shot() -> None:
    footage = stand_in(lengths=[100], height=40, width=48, cuts={0: [30]})
    data = PretextTuples(footage, np.array([0]), task=Opn(), clip_frames=1, crop=32, seed=0, samples=20)
    for number in range(20):
        clips, label = data[0, number]
        assert clips.shape == (4, 1, 48, 32)
        assert (clips[:, :, 32:] == 128).all()
        assert 0 <= label < 12
    assert all((numbers >= 30).all() for _, numbers in decoded(footage)), "the first shot is too short"


# Network -------------------------------------------------------------------------------------------------------------


def test_the_published_head() -> None:
    head = Opn().head(1024)
    assert [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)] == [(512, 2048), (12, 3072)]
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.5]
    assert PAIRS == ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))


def test_each_pair_has_statistics_of_its_own_and_all_share_a_layer() -> None:
    head = Opn().head(8)
    (norm,) = [m for m in head.modules() if isinstance(m, nn.BatchNorm1d)]
    outputs: list[torch.Tensor] = []
    norm.register_forward_hook(lambda module, args, output: outputs.append(output))
    # The frames of a pair differ by a constant, from pair to pair by another: only statistics per pair take it away.
    head(torch.randn(500, 4, 8) + torch.tensor([0.0, 10.0, 200.0, 3000.0])[:, None])
    pairs = outputs[0].reshape(-1, len(PAIRS), 512)
    torch.testing.assert_close(pairs.mean(dim=0), torch.zeros(len(PAIRS), 512), atol=1e-2, rtol=0)


def test_weights_are_drawn_as_released() -> None:
    torch.manual_seed(0)
    layers = [m for m in Opn().head(1024).modules() if isinstance(m, nn.Linear)]
    assert all(layer.weight.std().item() == pytest.approx(0.005, rel=0.02) for layer in layers)
    assert (layers[1].bias == 1).all()


def test_each_pair_is_put_together_from_its_own_frames() -> None:
    head = Opn().head(2).eval()
    seen: list[torch.Tensor] = []
    linear = next(m for m in head.modules() if isinstance(m, nn.Linear))
    linear.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    head(torch.arange(16.0).reshape(2, 4, 2))
    first = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [0, 1, 4, 5], [2, 3, 6, 7], [0, 1, 6, 7]]
    assert seen[0].tolist() == [first, [[n + 8 for n in pair] for pair in first]]


def test_a_network_of_clips_is_refused() -> None:
    with pytest.raises(UserError, match="clip_frames: 16 is not allowed; 1: this task is about single frames"):
        Opn().check(clip_frames=16)
