"""What only pretraining needs: the tuples of a pretext task, and backbone plus the task's head.

A module of its own, so that the digests of fine-tuning and evaluation do not cover `rushes.pretext`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rushes.backbones import Backbone, make_backbone
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.pretext.task import Draw, PretextTask, Shot
from rushes.training.data import Place, Stretch, Windows, mirror
from rushes.training.networks import normalise
from rushes.video.clips import crop_i420

Integers = npt.NDArray[np.int64]
Pictures = npt.NDArray[np.uint8]


class PretextTuples(Dataset[tuple[Tensor, int]]):
    """Questions of a pretext task: I420 clips, uint8 [E, T, S*3/2, S], and the answer.

    Args:
        footage: where the frames are.
        rows: segments to draw from.
        task: the task.
        clip_frames: frames of an element.
        crop: side of the square that is cut from each frame.
        seed: everything follows from it.
        samples: questions an epoch; 0 takes as many as there are windows.

    Attributes:
        span: frames that a shot must have.
        too_short: how many of the rows have no such shot, and are not asked about.
    """

    def __init__(
        self,
        footage: Footage,
        rows: npt.NDArray[np.int64],
        *,
        task: PretextTask,
        clip_frames: int,
        crop: int,
        seed: int,
        samples: int = 0,
    ) -> None:
        task.check(clip_frames=clip_frames)
        self.footage, self.task, self.clip_frames, self.crop = footage, task, clip_frames, crop
        self.span = task.span(clip_frames=clip_frames)
        self.windows = Windows.of(footage, rows, span=self.span, seed=seed, samples=samples)
        self.too_short = len(rows) - self.windows.segments

    def __len__(self) -> int:
        return self.windows.samples

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        question = self.question(place)
        return question.clips, question.draw.label

    def question(self, place: Place) -> "Question":
        """The sample of a place (epoch, number), with where it is from."""
        stretch, rng = self.windows[place]
        pictures = _Pictures(self.footage, stretch)
        draw = self.task.draw(self._shot(stretch, pictures), clip_frames=self.clip_frames, crop=self.crop, rng=rng)
        frames = pictures(draw.frames.ravel())
        return Question(stretch=stretch, draw=draw, clips=torch.from_numpy(shown(draw, frames, crop=self.crop)))

    def _shot(self, stretch: Stretch, pictures: Callable[[Integers], Pictures]) -> Shot:
        row, first, frames = stretch
        segments = self.footage.segments

        def motion() -> tuple[npt.NDArray[np.float32], Pictures]:
            magnitude, grid = self.footage.motion(row)
            return magnitude[first : first + frames], grid[first : first + frames]

        return Shot(
            frames=frames,
            height=int(segments.height[row]),
            width=int(segments.width[row]),
            read_motion=motion,
            pictures=pictures,
        )


class Question(NamedTuple):
    """A sample, and where it is from."""

    stretch: Stretch
    """The frame numbers of the draw count from its first frame."""
    draw: Draw
    clips: Tensor
    """I420, uint8 [E, T, S*3/2, S]."""


class _Pictures:
    """Frames of a stretch by number, each decoded once."""

    def __init__(self, footage: Footage, stretch: Stretch) -> None:
        self.footage, self.stretch = footage, stretch
        self.known: dict[int, Pictures] = {}

    def __call__(self, numbers: Integers) -> Pictures:
        if self.known:
            return self._remembered(numbers)
        found = self.footage.frames(self.stretch.row, self.stretch.first + numbers)
        self.known = dict(zip(numbers.tolist(), found, strict=True))
        return found

    def _remembered(self, numbers: Integers) -> Pictures:
        lacking = np.array(sorted(set(numbers.tolist()) - set(self.known)), dtype=np.int64)
        if len(lacking):
            found = self.footage.frames(self.stretch.row, self.stretch.first + lacking)
            self.known |= dict(zip(lacking.tolist(), found, strict=True))
        return np.stack([self.known[number] for number in numbers.tolist()])


def shown(draw: Draw, frames: Pictures, *, crop: int) -> Pictures:
    """A question as pictures: I420 frames [E * T, H*3/2, W] cropped, mirrored and split: [E, T, S*3/2, S]."""
    elements = frames.reshape(*draw.frames.shape, *frames.shape[1:])
    clips = np.stack(
        [
            crop_i420(clip, top=top, left=left, size=crop)
            for clip, (top, left) in zip(elements, draw.crops.tolist(), strict=True)
        ]
    )
    if draw.flip:
        clips = np.stack([mirror(clip) for clip in clips])
    if draw.channels is not None:
        clips = np.stack([one_channel(clip, channel) for clip, channel in zip(clips, draw.channels, strict=True)])
    return clips


def one_channel(clip: Pictures, channel: int) -> Pictures:
    """Shows one channel of I420 frames [n, S*3/2, S] (0 red, 1 green, 2 blue) as grey, rounded to 8 bits."""
    rgb = i420_to_rgb(torch.from_numpy(clip))  # [3, n, S, S]
    grey = np.full_like(clip, 128)
    grey[:, : clip.shape[2]] = np.rint(16 + 219 * rgb[channel].numpy())
    return grey


class PretextNet(nn.Module):
    """Backbone and the task's head.

    The elements of a tuple are folded into the batch, so that batch norm sees them together (methods.md, trap 8).

    Args:
        task: the task.
        backbone: name of the network.
    """

    def __init__(self, task: PretextTask, *, backbone: str) -> None:
        super().__init__()
        self.task = task
        self.backbone: Backbone = make_backbone(backbone)
        self.head = task.head(self.backbone.features)

    def forward(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [B, E, T, S*3/2, S] -> logits [B, classes]."""
        seen = self.task.view(normalise(i420_to_rgb(clips)))
        features = self.backbone(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        logits: Tensor = self.head(features)
        return logits
