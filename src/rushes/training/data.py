"""What the loop is fed: tuples and clips of I420 bytes, each a function of (seed, epoch, sample number) alone.

So neither the number of loader workers, nor the rank, nor an interruption changes what is seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.video.clips import centre_crop_i420, crop_i420, evenly_spaced_clips

Place = tuple[int, int]
"""Epoch and sample number."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Which segment each sample of an epoch looks at: every segment as often as a window fits in it.

    So an hour of footage weighs as much in one long file as in many short ones.
    """

    rows: npt.NDArray[np.int64]
    """[n] row of the index for each of an epoch's n samples, before shuffling."""
    seed: int
    samples: int
    """Samples an epoch."""
    _order: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, footage: Footage, rows: npt.NDArray[np.int64], *, span: int, seed: int, samples: int = 0) -> "Windows":
        """Windows of `span` frames over the given rows; shorter segments are left out.

        Raises:
            UserError: no segment is long enough.
        """
        lengths = footage.segments.frames[rows]
        fitting = rows[lengths >= span]
        if not len(fitting):
            longest = int(lengths.max()) if len(lengths) else 0
            raise UserError(
                f"footage: no segment of {span} frames among {len(rows)} (the longest has {longest}): use longer "
                "videos, a higher sample.fps, or a smaller pretrain.clip_frames"
            )
        counts = footage.segments.frames[fitting] // span
        every = np.repeat(fitting, counts)
        return cls(rows=every, seed=seed, samples=samples or len(every))

    def __getitem__(self, place: Place) -> tuple[int, np.random.Generator]:
        """The row that a sample looks at, and the generator of its draws."""
        epoch, number = place
        # Several passes over the rows when an epoch asks for more samples than there are windows, and the reverse.
        turn, position = divmod(epoch * self.samples + number, len(self.rows))
        if turn not in self._order:
            self._order.clear()
            self._order[turn] = np.random.default_rng([self.seed, 1, turn]).permutation(self.rows)
        return int(self._order[turn][position]), np.random.default_rng([self.seed, 2, epoch, number])


class LabelledClips(Dataset[tuple[Tensor, int]]):
    """One random clip of a labelled segment: I420, uint8 [T, S*3/2, S], and the class number."""

    def __init__(
        self, footage: Footage, rows: npt.NDArray[np.int64], *, labels: tuple[str, ...], clip_frames: int, crop: int,
        seed: int, flip: bool = False,
    ) -> None:  # fmt: skip
        if not len(rows):
            raise UserError("footage: no labelled training segment: label some, or lower sample.test_share")
        self.footage, self.clip_frames, self.crop, self.flip = footage, clip_frames, crop, flip
        number = {label: index for index, label in enumerate(labels)}
        self.classes = {int(row): number[str(footage.segments.label[row])] for row in rows}
        self.windows = Windows(rows=rows, seed=seed, samples=len(rows))

    def __len__(self) -> int:
        return self.windows.samples

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        row, rng = self.windows[place]
        length = int(self.footage.segments.frames[row])
        start = rng.integers(max(length - self.clip_frames, 0) + 1)
        # A segment shorter than a clip repeats its last frame, as in evaluation and serving.
        numbers = np.minimum(start + np.arange(self.clip_frames), length - 1)
        clip = crop_at(self.footage.frames(row, numbers), rng.random(2), size=self.crop)
        if self.flip and rng.random() < 0.5:
            clip = mirror(clip)
        return torch.from_numpy(clip), self.classes[row]


class EvenClips(Dataset[tuple[Tensor, int]]):
    """The clips that stand for a whole segment: evenly spaced, centre crop, uint8 [clips, T, S*3/2, S], and its row.

    The same selection as serving makes (`rushes.video.clips.video_clips`), on footage instead of a file.
    """

    def __init__(
        self, footage: Footage, rows: npt.NDArray[np.int64], *, clips: int, clip_frames: int, crop: int
    ) -> None:
        self.footage, self.rows, self.clips, self.clip_frames, self.crop = footage, rows, clips, clip_frames, crop

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = int(self.rows[index])
        length = int(self.footage.segments.frames[row])
        numbers = evenly_spaced_clips(length, clips=self.clips, clip_frames=self.clip_frames)
        frames = centre_crop_i420(self.footage.frames(row, numbers.ravel()), size=self.crop)
        return torch.from_numpy(frames.reshape(*numbers.shape, *frames.shape[1:])), row


class Batches(Sampler[list[Place]]):
    """Batches of places from a step on: what makes a resumed run see what an uninterrupted one would have seen."""

    def __init__(self, *, samples: int, batch: int, first_step: int, last_step: int) -> None:
        self.samples, self.batch, self.first_step, self.last_step = samples, batch, first_step, last_step

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Place]]:
        for step in range(self.first_step, self.last_step):
            yield [divmod(number, self.samples) for number in range(step * self.batch, (step + 1) * self.batch)]


def crop_at(frames: npt.NDArray[np.uint8], share: npt.NDArray[np.float64], *, size: int) -> npt.NDArray[np.uint8]:
    """Cuts a square of I420 frames [n, H*3/2, W] at a share (top, left; 0 to 1) of the room; offsets are even."""
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    top, left = (
        2 * int(part * ((room - size) // 2 + 0.999)) for part, room in zip(share, (height, width), strict=True)
    )
    return crop_i420(frames, top=top, left=left, size=size)


def mirror(clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Flips I420 frames [n, S*3/2, S] left to right: whole rows of luma, each chroma plane by itself."""
    size = clip.shape[2]
    flipped = clip.copy()
    flipped[:, :size] = clip[:, :size, ::-1]
    chroma = clip[:, size:].reshape(len(clip), -1, size // 2)
    flipped[:, size:] = chroma[:, :, ::-1].reshape(len(clip), -1, size)
    return flipped
