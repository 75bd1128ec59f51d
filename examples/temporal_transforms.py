"""A plugin: which change of time does this clip show? (docs/methods.md#contrast-and-temporal-transforms).

README.md has the commands.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, OneClipHead, PretextTask, Shot, disorder, random_crops

Integers = npt.NDArray[np.int64]
TRANSFORMS = ("none", "forward_backward", "shuffle", "warp")


@dataclass(frozen=True, kw_only=True)
class TemporalTransforms(PretextTask):
    """One clip: as it was, forwards and back again, shuffled, or warped; with several speeds the label has both.

    The frames of a clip at speed number s (from 0) are `stride` * 2**s apart. A warped clip has the first and the last
    frame of an even one and random frames in between, so that it is as fast on the whole and only uneven. The clip's
    centre has the same distribution for every label. The label is speed number * 4 + index in `TRANSFORMS`; the paper
    has a loss for each. A shuffled clip is neither forward nor backward.
    """

    clip_lengths: ClassVar[tuple[int, int | None]] = (3, None)

    stride: int = 2
    """Frames from one frame of the slowest clip to the next; at least 2, or no clip could be uneven."""
    speeds: int = 1
    """Number of speeds, each twice the one before; with 1 the label is the transformation alone."""

    def __post_init__(self) -> None:
        if not 2 <= self.stride <= 16:
            raise UserError(f"pretrain.options: stride: {self.stride} is not allowed; 2 to 16 frames")
        if not 1 <= self.speeds <= 4:
            raise UserError(f"pretrain.options: speeds: {self.speeds} is not allowed; 1 to 4")

    @property
    def elements(self) -> int:
        """One clip."""
        return 1

    @property
    def classes(self) -> int:
        """Transformations at each speed."""
        return len(TRANSFORMS) * self.speeds

    def span(self, *, clip_frames: int) -> int:
        """The fastest clip must fit: 31 frames for 16 at stride 2."""
        return (clip_frames - 1) * (self.stride << self.speeds - 1) + 1

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a label, a centre and a crop."""
        label = int(rng.integers(self.classes))
        speed, transform = divmod(label, len(TRANSFORMS))
        numbers = transformed(TRANSFORMS[transform], frames=clip_frames, stride=self.stride << speed, rng=rng)
        span = self.span(clip_frames=clip_frames)
        window = rng.integers(shot.frames - span + 1)
        margin = (span - 1 - int(numbers.max())) // 2
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        return ClipTuple(frames=(window + margin + numbers)[None], crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """A linear layer on the one clip's features."""
        return OneClipHead(features, classes=self.classes)

    def answer(self, label: int) -> str:
        """The transformation, and the stride where there are several speeds: `shuffle, stride 4`."""
        speed, transform = divmod(label, len(TRANSFORMS))
        return TRANSFORMS[transform] + (f", stride {self.stride << speed}" if self.speeds > 1 else "")


def transformed(transform: str, *, frames: int, stride: int, rng: np.random.Generator) -> Integers:
    """Frame numbers [frames], from 0, of a clip after a transformation of `TRANSFORMS`."""
    even = np.arange(frames)
    match transform:
        case "none":
            return even * stride
        case "forward_backward":
            turn = frames // 2
            return (turn - np.abs(even - turn)) * stride
        case "shuffle":
            return disorder(frames, rng=rng) * stride
        case _:
            return _warped(frames, stride, rng)


def _warped(frames: int, stride: int, rng: np.random.Generator) -> Integers:
    last = (frames - 1) * stride
    while True:
        inner = 1 + rng.choice(last - 1, frames - 2, replace=False)
        numbers: Integers = np.sort(np.concatenate([[0, last], inner]))
        if (np.diff(numbers) != stride).any():
            return numbers


TASKS = {"temporal_transforms": TemporalTransforms}
