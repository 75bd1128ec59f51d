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
from rushes.pretext.task import ClipTuple, PretextTask, Shot
from rushes.training.data import FrameRange, Position, Windows, mirror
from rushes.training.networks import normalise
from rushes.video.clips import crop_i420

Integers = npt.NDArray[np.int64]
Frames = npt.NDArray[np.uint8]


class PretextTuples(Dataset[tuple[Tensor, int]]):
    """Tuples of a pretext task by (epoch, number): I420 clips, uint8 [E, T, S*3/2, S], and the label.

    Args:
        footage: the segments.
        rows: [n] rows of segments to draw from.
        task: the task.
        clip_frames: frames of an element.
        crop: side of the square crop in pixels.
        seed: of windows and tuples.
        samples: tuples per epoch; 0 takes as many as there are windows.

    Attributes:
        span: frames that a shot must have.
        too_short: number of rows without such a shot, which are left out.
    """

    def __init__(
        self,
        footage: Footage,
        rows: Integers,
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

    def __getitem__(self, position: Position) -> tuple[Tensor, int]:
        found = self.decoded(position)
        return found.clips, found.drawn.label

    def decoded(self, position: Position) -> "DecodedTuple":
        """The tuple of a position (epoch, number), with the frames that it shows."""
        source, rng = self.windows[position]
        read_frames = _FrameReader(self.footage, source)
        drawn = self.task.draw(self._shot(source, read_frames), clip_frames=self.clip_frames, crop=self.crop, rng=rng)
        clips = render(drawn, read_frames(drawn.frames.ravel()), crop=self.crop)
        return DecodedTuple(source=source, drawn=drawn, clips=torch.from_numpy(clips))

    def _shot(self, source: FrameRange, read_frames: Callable[[Integers], Frames]) -> Shot:
        row, first, frames = source
        segments = self.footage.segments

        def read_motion() -> tuple[npt.NDArray[np.float32], Frames]:
            magnitude, grid = self.footage.motion(row)
            return magnitude[first : first + frames], grid[first : first + frames]

        return Shot(
            frames=frames,
            height=int(segments.height[row]),
            width=int(segments.width[row]),
            read_motion=read_motion,
            read_frames=read_frames,
        )


class DecodedTuple(NamedTuple):
    """A tuple with its clips."""

    source: FrameRange
    """The shot; the frame numbers of `drawn` count from its first frame."""
    drawn: ClipTuple
    clips: Tensor
    """I420, uint8 [E, T, S*3/2, S]."""


class _FrameReader:
    """Frames of a shot by number, each decoded once."""

    def __init__(self, footage: Footage, source: FrameRange) -> None:
        self.footage, self.source = footage, source
        self.known: dict[int, Frames] = {}

    def __call__(self, numbers: Integers) -> Frames:
        if self.known:
            return self._remembered(numbers)
        found = self.footage.frames(self.source.row, self.source.first + numbers)
        self.known = dict(zip(numbers.tolist(), found, strict=True))
        return found

    def _remembered(self, numbers: Integers) -> Frames:
        missing = np.array(sorted(set(numbers.tolist()) - set(self.known)), dtype=np.int64)
        if len(missing):
            found = self.footage.frames(self.source.row, self.source.first + missing)
            self.known |= dict(zip(missing.tolist(), found, strict=True))
        return np.stack([self.known[number] for number in numbers.tolist()])


def render(drawn: ClipTuple, frames: Frames, *, crop: int) -> Frames:
    """Crops a tuple's I420 frames [E * T, H*3/2, W], mirrors them, splits channels: [E, T, S*3/2, S]."""
    elements = frames.reshape(*drawn.frames.shape, *frames.shape[1:])
    clips = np.stack(
        [
            crop_i420(clip, top=top, left=left, size=crop)
            for clip, (top, left) in zip(elements, drawn.crops.tolist(), strict=True)
        ]
    )
    if drawn.flip:
        clips = np.stack([mirror(clip) for clip in clips])
    if drawn.channels is not None:
        clips = np.stack([one_channel(clip, channel) for clip, channel in zip(clips, drawn.channels, strict=True)])
    return clips


def one_channel(clip: Frames, channel: int) -> Frames:
    """Shows one channel of I420 frames [n, S*3/2, S] (0 red, 1 green, 2 blue) as grey, rounded to 8 bits."""
    rgb = i420_to_rgb(torch.from_numpy(clip))  # [3, n, S, S]
    grey = np.full_like(clip, 128)
    grey[:, : clip.shape[2]] = np.rint(16 + 219 * rgb[channel].numpy())
    return grey


class PretextNet(nn.Module):
    """Backbone and the task's head.

    The elements of a tuple are folded into the batch, so that batch norm sees them together (docs/methods.md#trap-8).

    Args:
        task: the pretext task, whose head it has.
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
