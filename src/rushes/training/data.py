"""Training data: tuples and clips of I420 bytes, each a function of (seed, epoch, number) alone.

So neither the number of loader workers, nor the rank, nor an interruption changes the data.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.video.clips import centre_crop_i420, crop_i420, evenly_spaced_clips

Integers = npt.NDArray[np.int64]
Position = tuple[int, int]
"""Epoch, and number within it."""


class FrameRange(NamedTuple):
    """Consecutive frames of a segment: a shot, or the whole segment."""

    row: int
    first: int
    frames: int


class Windows:
    """The frames that each position of an epoch is drawn from: every shot as often as a window fits in it.

    So an hour of footage weighs as much in one long file as in many short ones, and no tuple crosses a cut.

    Args:
        footage: the segments.
        rows: [n] rows of segments to use.
        counts: [n] windows in each.
        span: frames of a window; shorter shots are left out. 0 takes segments whole.
        seed: of order and generators.
        samples: positions per epoch; 0 takes all windows once.

    Attributes:
        segments: number of segments that hold a window.
    """

    _CHUNK = 4096

    def __init__(
        self, footage: Footage, rows: Integers, counts: Integers, *, span: int, seed: int, samples: int = 0
    ) -> None:
        self.footage, self.span = footage, span
        # Counts per segment, not per shot: an archive has millions of shots.
        self._rows, self._ends = rows[counts > 0], np.cumsum(counts[counts > 0])
        self.segments = len(self._rows)
        self._total = int(self._ends[-1])
        self._order: tuple[int, npt.NDArray[np.uint32]] | None = None
        self.seed, self.samples = seed, samples or self._total

    @classmethod
    def of(cls, footage: Footage, rows: Integers, *, span: int, seed: int, samples: int = 0) -> "Windows":
        """Windows of `span` frames over the given rows; shorter shots are left out.

        Raises:
            UserError: no shot is long enough.
        """
        counts, longest = np.zeros(len(rows), np.int64), 0
        for begin in range(0, len(rows), cls._CHUNK):
            part = rows[begin : begin + cls._CHUNK]
            _, first, frames = footage.shots(part)
            segment = np.cumsum(first == 0) - 1
            np.add.at(counts, begin + segment, frames // span)
            longest = max(longest, int(frames.max()))
        if not counts.any():
            raise UserError(
                f"footage: no shot of {span} frames in {len(rows)} segments (the longest has {longest}): use longer "
                "videos, a higher sample.fps, or a smaller pretrain.clip_frames"
            )
        return cls(footage, rows, counts, span=span, seed=seed, samples=samples)

    def extent(self) -> dict[str, int]:
        """Positions per epoch (clips or tuples), and the segments and groups that they are from, as plain data."""
        groups = len(set(self.footage.texts("group")[self._rows]))
        return {"clips": self.samples, "segments": self.segments, "groups": groups}

    def __getitem__(self, position: Position) -> tuple[FrameRange, np.random.Generator]:
        """The frames that a position is drawn from, and its random generator."""
        epoch, number = position
        # One epoch may take several passes over the windows, or part of one.
        turn, index = divmod(epoch * self.samples + number, self._total)
        if self._order is None or self._order[0] != turn:
            order = np.arange(self._total, dtype=np.uint32)
            np.random.default_rng([self.seed, 1, turn]).shuffle(order)
            self._order = turn, order
        window = int(self._order[1][index])
        segment = int(np.searchsorted(self._ends, window, side="right"))
        row = int(self._rows[segment])
        shot = self._shot(row, window - int(self._ends[segment - 1] if segment else 0))
        return shot, np.random.default_rng([self.seed, 2, epoch, number])

    def _shot(self, row: int, window: int) -> FrameRange:
        """The shot that holds a window of a segment, counted from the segment's beginning."""
        if not self.span:
            return FrameRange(row, 0, int(self.footage.segments.frames[row]))
        _, first, frames = self.footage.shots([row])
        shot = int(np.searchsorted(np.cumsum(frames // self.span), window, side="right"))
        return FrameRange(row, int(first[shot]), int(frames[shot]))


class LabelledClips(Dataset[tuple[Tensor, int]]):
    """One random clip of a labelled segment: I420, uint8 [T, S*3/2, S], and the class number.

    An epoch takes every segment once, or `samples` of them.
    """

    def __init__(
        self,
        footage: Footage,
        rows: Integers,
        *,
        labels: tuple[str, ...],
        clip_frames: int,
        crop: int,
        seed: int,
        flip: bool = False,
        samples: int = 0,
    ) -> None:
        if not len(rows):
            raise UserError("footage: no labelled training segment: label some, or lower sample.test_share")
        self.footage, self.clip_frames, self.crop, self.flip = footage, clip_frames, crop, flip
        number = {label: index for index, label in enumerate(labels)}
        self.classes = {int(row): number[str(footage.segments.label[row])] for row in rows}
        self.windows = Windows(footage, rows, np.ones_like(rows), span=0, seed=seed, samples=samples)

    def __len__(self) -> int:
        return self.windows.samples

    def __getitem__(self, position: Position) -> tuple[Tensor, int]:
        (row, _, length), rng = self.windows[position]
        starts = self._starts(row, length)
        start = starts[rng.integers(len(starts))]
        # A segment shorter than a clip repeats its last frame, as in evaluation and serving.
        numbers = np.minimum(start + np.arange(self.clip_frames), length - 1)
        clip = crop_at(self.footage.frames(row, numbers), rng.random(2), size=self.crop)
        if self.flip and rng.random() < 0.5:
            clip = mirror(clip)
        return torch.from_numpy(clip), self.classes[row]

    def _starts(self, row: int, length: int) -> Integers:
        """First frames that a clip may have: within a shot, or anywhere where no shot is long enough."""
        _, first, frames = self.footage.shots([row])
        inside = [begin + np.arange(count - self.clip_frames + 1) for begin, count in zip(first, frames, strict=True)]
        found = np.concatenate(inside)
        return found if len(found) else np.arange(max(length - self.clip_frames, 0) + 1)


class EvenClips(Dataset[tuple[Tensor, int]]):
    """Evenly spaced clips of a whole segment, centre crop: uint8 [clips, T, S*3/2, S], and the segment's row.

    Serving selects the same clips from a file (`rushes.video.file_clips.video_clips`).
    """

    def __init__(self, footage: Footage, rows: Integers, *, clips: int, clip_frames: int, crop: int) -> None:
        self.footage, self.rows, self.clips, self.clip_frames, self.crop = footage, rows, clips, clip_frames, crop

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row, numbers = int(self.rows[index]), self.numbers(index)
        frames = centre_crop_i420(self.footage.frames(row, numbers.ravel()), size=self.crop)
        return torch.from_numpy(frames.reshape(*numbers.shape, *frames.shape[1:])), row

    def numbers(self, index: int) -> Integers:
        """Frame numbers [clips, T] of a segment."""
        length = int(self.footage.segments.frames[self.rows[index]])
        return evenly_spaced_clips(length, clips=self.clips, clip_frames=self.clip_frames)


class Batches(Sampler[list[Position]]):
    """Batches of positions from a step on, so that a resumed run gets the data that an uninterrupted one gets.

    Of `parts` processes that share each batch, all together get the same positions as one alone.
    """

    def __init__(
        self, *, samples: int, batch: int, first_step: int, last_step: int, part: int = 0, parts: int = 1
    ) -> None:
        self.samples, self.batch, self.first_step, self.last_step = samples, batch, first_step, last_step
        self.part, self.parts = part, parts

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Position]]:
        for step in range(self.first_step, self.last_step):
            size = self.batch // self.parts
            begin = step * self.batch + self.part * size
            yield [divmod(number, self.samples) for number in range(begin, begin + size)]


def few_labels(footage: Footage, rows: Integers, *, per_class: int, seed: int) -> Integers:
    """At most `per_class` of the labelled rows of each class, ascending; all rows where it is 0.

    They are spread over groups, and nested: a larger number includes the rows of a smaller one.
    """
    if not per_class:
        return rows
    labels, groups = footage.segments.label[rows], footage.texts("group")[rows]
    chosen = [
        rows[labels == label][_spread(groups[labels == label], np.random.default_rng([seed, 5, number]))[:per_class]]
        for number, label in enumerate(sorted(set(labels)))
    ]
    return np.sort(np.concatenate(chosen))


def _spread(groups: npt.NDArray[np.object_], rng: np.random.Generator) -> Integers:
    """A random order [n] in turns: one item of each group [n], then another of each, and so on."""
    order = rng.permutation(len(groups))
    earlier: dict[str, int] = {}
    turns = np.zeros(len(groups), np.int64)
    for position, item in enumerate(order):
        turns[position] = earlier[groups[item]] = earlier.get(groups[item], -1) + 1
    return order[np.argsort(turns, kind="stable")]


def crop_at(frames: npt.NDArray[np.uint8], share: npt.NDArray[np.float64], *, size: int) -> npt.NDArray[np.uint8]:
    """Crops a square of I420 frames [n, H*3/2, W] at a share (top, left; 0 to 1) of the margin; offsets are even."""
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    top, left = (
        2 * int(part * ((room - size) // 2 + 0.999)) for part, room in zip(share, (height, width), strict=True)
    )
    return crop_i420(frames, top=top, left=left, size=size)


def mirror(clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Flips I420 frames [n, S*3/2, S] left to right: the luma plane and each chroma plane."""
    size = clip.shape[2]
    flipped = clip.copy()
    flipped[:, :size] = clip[:, :size, ::-1]
    chroma = clip[:, size:].reshape(len(clip), -1, size // 2)
    flipped[:, size:] = chroma[:, :, ::-1].reshape(len(clip), -1, size)
    return flipped
