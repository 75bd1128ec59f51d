"""What the loop is fed: windows by length, batches that resume, crops, mirrors."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.pretext import make_task
from rushes.steps.train import _long_enough
from rushes.training.data import Batches, EvenClips, LabelledClips, Windows, crop_at, mirror
from rushes.training.pretext import PretextTuples
from rushes.video.clips import centre_crop_i420, crop_i420, evenly_spaced_clips
from tests.pretext.shots import shot
from tests.training.stand_in import decoded, stand_in

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=12)


def rows_of_epoch(windows: Windows, epoch: int) -> list[int]:
    return [windows[epoch, number][0].row for number in range(windows.samples)]


@given(lengths=lengths, span=st.integers(1, 100), seed=st.integers(0, 99))
def test_each_epoch_sees_a_segment_as_often_as_a_window_fits_in_it(lengths: list[int], span: int, seed: int) -> None:
    footage = stand_in(lengths=lengths)
    rows = np.arange(len(lengths))
    if max(lengths) < span:
        with pytest.raises(UserError, match=f"no shot of {span} frames in {len(rows)} segments.*has {max(lengths)}"):
            Windows.of(footage, rows, span=span, seed=seed)
        return
    windows = Windows.of(footage, rows, span=span, seed=seed)
    expected = [row for row in rows for _ in range(lengths[row] // span)]
    for epoch in (0, 1, 5):
        assert sorted(rows_of_epoch(windows, epoch)) == expected


def test_no_row_at_all_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="in 0 segments"):
        Windows.of(stand_in(lengths=[9]), np.array([], dtype=np.int64), span=4, seed=0)


def test_epochs_and_seeds_differ_in_order() -> None:
    footage = stand_in(lengths=[100] * 20)
    orders = [
        rows_of_epoch(Windows.of(footage, np.arange(20), span=50, seed=seed), epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


@given(samples=st.integers(1, 40), count=st.integers(1, 9))
def test_any_number_of_samples_goes_round_the_rows_evenly(samples: int, count: int) -> None:
    windows = Windows.of(stand_in(lengths=[10] * count), np.arange(count), span=10, seed=3, samples=samples)
    epochs = 2 * count
    seen = np.bincount([row for epoch in range(epochs) for row in rows_of_epoch(windows, epoch)], minlength=count)
    assert (seen == samples * epochs / count).all()


def test_a_sample_is_a_function_of_its_place_not_of_what_was_asked_before() -> None:
    def windows() -> Windows:
        return Windows.of(stand_in(lengths=[100] * 7), np.arange(7), span=30, seed=5, samples=13)

    asked = windows()
    places = [(epoch, number) for epoch in range(3) for number in range(13)]
    in_order = {place: (asked[place][0], asked[place][1].random()) for place in places}
    again = windows()
    for place in reversed(places):
        assert (again[place][0], again[place][1].random()) == in_order[place]
    assert len({draw for _, draw in in_order.values()}) == len(places)


@given(samples=st.integers(1, 30), batch=st.integers(1, 8), cut=st.integers(0, 20), steps=st.integers(0, 20))
def test_batches_from_a_step_on_are_the_rest_of_all_batches(samples: int, batch: int, cut: int, steps: int) -> None:
    whole = list(Batches(samples=samples, batch=batch, first_step=0, last_step=cut + steps))
    rest = Batches(samples=samples, batch=batch, first_step=cut, last_step=cut + steps)
    assert whole[cut:] == list(rest)
    assert len(rest) == steps
    assert [place for places in whole for place in places] == [
        divmod(number, samples) for number in range((cut + steps) * batch)
    ]


# Crops and mirrors ---------------------------------------------------------------------------------------------------


def coordinates(height: int, width: int) -> npt.NDArray[np.uint8]:
    """One frame whose luma is its column plus twice its row, and whose chroma is its column, and its row."""
    y = (np.arange(width) + 2 * np.arange(height)[:, None]) % 251
    u = np.broadcast_to(np.arange(width // 2), (height // 2, width // 2))
    v = np.broadcast_to(np.arange(height // 2)[:, None], (height // 2, width // 2))
    return np.concatenate([y.ravel(), u.ravel(), v.ravel()]).astype(np.uint8).reshape(1, height * 3 // 2, width)


sides = st.integers(8, 40).map(lambda half: 2 * half)
shares = st.floats(0, 1)


@given(height=sides, width=sides, size=st.integers(4, 8).map(lambda half: 2 * half), top=shares, left=shares)
def test_a_crop_lies_inside_at_even_offsets(height: int, width: int, size: int, top: float, left: float) -> None:
    crop = crop_at(coordinates(height, width), np.array([top, left]), size=size)
    assert crop.shape == (1, size * 3 // 2, size)
    # Chroma says where the crop was cut: its columns and rows are its offsets, which are even by construction.
    chroma = crop[0, size:].reshape(2, size // 2, size // 2)
    at_left, at_top = 2 * int(chroma[0, 0, 0]), 2 * int(chroma[1, 0, 0])
    assert 0 <= at_top <= height - size
    assert 0 <= at_left <= width - size
    assert (crop == crop_i420(coordinates(height, width), top=at_top, left=at_left, size=size)).all()
    assert crop[0, 0, 0] == (at_left + 2 * at_top) % 251


def test_every_offset_is_about_equally_likely() -> None:
    frame = coordinates(24, 32)
    rng = np.random.default_rng(0)
    crops = [crop_at(frame, rng.random(2), size=16)[0, 16:].reshape(2, 8, 8) for _ in range(4500)]
    tops, lefts = np.bincount([c[1, 0, 0] for c in crops]), np.bincount([c[0, 0, 0] for c in crops])
    assert (len(tops), len(lefts)) == (5, 9)
    assert tops.min() > 800
    assert lefts.min() > 400


@pytest.mark.parametrize("size", [16, 18, 42, 56])
def test_a_mirror_flips_the_picture_and_undoes_itself(size: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (3, size * 3 // 2, size), dtype=np.uint8)
    assert (mirror(mirror(clip)) == clip).all()
    rgb, flipped = (i420_to_rgb(torch.from_numpy(frames)) for frames in (clip, mirror(clip)))
    torch.testing.assert_close(flipped, rgb.flip(-1), rtol=0, atol=0)
    assert not torch.equal(flipped, rgb)


# Datasets ------------------------------------------------------------------------------------------------------------


def test_tuples_are_the_tasks_frames_cropped() -> None:
    footage = stand_in(lengths=[60, 80, 20])
    task = make_task("clip_order", {"clips": 2, "gap": 3})
    data = PretextTuples(footage, np.arange(3), task=task, clip_frames=8, crop=16, seed=4)
    assert len(data) == 60 // 19 + 80 // 19 + 20 // 19 and data.too_short == 0
    short = stand_in(lengths=[60, 18, 40], cuts={2: [18, 30]})
    assert PretextTuples(short, np.arange(3), task=task, clip_frames=8, crop=16, seed=4).too_short == 2
    for number in range(len(data)):
        clips, label = data[2, number]
        assert clips.shape == (2, 8, 24, 16)
        assert clips.dtype == torch.uint8
        (row, first, count), rng = data.windows[2, number]
        assert (first, count) == (0, footage.segments.frames[row])
        draw = task.draw(shot(count, height=24, width=32), clip_frames=8, crop=16, rng=rng)
        assert label == draw.label
        for clip, numbers, (top, left) in zip(clips, draw.frames, draw.crops.tolist(), strict=True):
            assert (clip.numpy() == crop_i420(footage.frames(row, numbers), top=top, left=left, size=16)).all()


def test_validation_asks_about_segments_with_a_long_shot() -> None:
    footage = stand_in(lengths=[60, 10, 80, 40], cuts={3: [20]}, height=16, width=16)
    rows = _long_enough(footage, 30)
    assert rows.tolist() == [0, 2]
    data = PretextTuples(footage, rows, task=make_task("pace", {"strides": 4}), clip_frames=8, crop=16, seed=1)
    assert len(data) == 60 // 29 + 80 // 29 and data[0, 0][0].shape == (1, 8, 24, 16)


def crosses(footage: Footage, row: int, numbers: npt.NDArray[np.int64]) -> bool:
    """Whether frames lie in more than one shot."""
    _, first, _ = footage.shots([row])
    return len(np.unique(np.searchsorted(first, numbers, side="right"))) > 1


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    places=st.lists(st.integers(1, 199), max_size=12),
)
def test_no_tuple_and_no_clip_crosses_a_cut(lengths: list[int], seed: int, places: list[int]) -> None:
    count = len(lengths)
    cuts = {row: sorted({p for p in places if p < lengths[row] and p % count == row}) for row in range(count)}
    footage = stand_in(lengths=lengths, cuts=cuts, height=16, width=16)
    rows = np.arange(len(lengths))
    _, _, shots = footage.shots(rows)
    task = make_task("pace", {"strides": 2})
    if shots.max() >= task.span(clip_frames=4):
        tuples = PretextTuples(footage, rows, task=task, clip_frames=4, crop=16, seed=seed)
        for number in range(min(len(tuples), 20)):
            tuples[seed, number]
        assert not any(crosses(footage, row, numbers) for row, numbers in decoded(footage))
    clips = LabelledClips(footage, rows, labels=("a", "b"), clip_frames=8, crop=16, seed=seed)
    for number in range(len(clips)):
        clips[seed, number]
    seen = decoded(footage)
    long_enough = {int(row) for row, shot in zip(*(footage.shots(rows)[n] for n in (0, 2)), strict=True) if shot >= 8}
    assert not any(crosses(footage, row, numbers) for row, numbers in seen if row in long_enough)
    assert len(seen) == len(lengths), "segments without a long shot are seen all the same"


def test_a_segment_shorter_than_a_clip_repeats_its_last_frame() -> None:
    footage = stand_in(lengths=[5, 30], height=16, width=16)
    data = LabelledClips(footage, np.arange(2), labels=("a", "b"), clip_frames=8, crop=16, seed=0)
    clips = {label: clip for clip, label in (data[0, number] for number in range(2))}
    assert (clips[0].numpy() == footage.frames(0, np.array([0, 1, 2, 3, 4, 4, 4, 4]))).all()


def test_labelled_clips_carry_their_segments_class_and_move_about() -> None:
    footage = stand_in(lengths=[40] * 6, height=16, width=16)
    rows = np.array([1, 2, 5])
    data = LabelledClips(footage, rows, labels=("a", "b"), clip_frames=4, crop=16, seed=0)
    first_frames = set()
    for epoch in range(30):
        labels = [data[epoch, number][1] for number in range(3)]
        assert sorted(labels) == [0, 1, 1]
        first_frames.add(data[epoch, 0][0][0].numpy().tobytes())
    assert len(first_frames) > 20


def test_half_of_the_clips_are_mirrored_where_asked_and_none_otherwise() -> None:
    footage = stand_in(lengths=[4] * 2, height=16, width=16)

    def mirrored(flip: bool) -> float:
        data = LabelledClips(footage, np.arange(2), labels=("a", "b"), clip_frames=4, crop=16, seed=0, flip=flip)
        straight = [footage.frames(row, np.arange(4)) for row in range(2)]
        found = []
        for epoch in range(200):
            clip, label = data[epoch, 0]
            same = (clip.numpy() == straight[label]).all()
            assert same or (clip.numpy() == mirror(straight[label])).all()
            found.append(not same)
        return float(np.mean(found))

    assert mirrored(False) == 0
    assert 0.35 < mirrored(True) < 0.65


def test_no_labelled_segment_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no labelled training segment"):
        LabelledClips(
            stand_in(lengths=[9]), np.array([], dtype=np.int64), labels=("a", "b"), clip_frames=4, crop=16, seed=0
        )


@given(length=st.integers(1, 60), clips=st.integers(1, 10), clip_frames=st.integers(1, 16))
def test_even_clips_are_servings_clips(length: int, clips: int, clip_frames: int) -> None:
    footage = stand_in(lengths=[3, length], height=18, width=20)
    found, row = EvenClips(footage, np.array([1]), clips=clips, clip_frames=clip_frames, crop=16)[0]
    everything = footage.frames(1, np.arange(length))
    numbers = evenly_spaced_clips(length, clips=clips, clip_frames=clip_frames)
    assert row == 1
    assert (found.numpy() == centre_crop_i420(everything, size=16)[numbers]).all()
