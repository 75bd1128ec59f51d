"""Temporal transformations (Jenni, Meishvili, Favaro, ECCV 2020): what has been done to this clip's time?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from rushes.errors import UserError
from rushes.pretext.task import Draw, Integers, OneClipHead, PretextTask, Shot, disorder, random_crops

TRANSFORMS = ("none", "forward_backward", "shuffle", "warp")


@dataclass(frozen=True, kw_only=True)
class Transforms(PretextTask):
    """One clip: as it was, forwards and back again, shuffled, or warped; the answer also names its speed, if asked.

    Frames of a clip at speed number s (from 0) are `stride` * 2**s apart, but for a warped clip: its first and last
    frames are those of an even one and the rest is drawn in between, so that it is as fast on the whole and only
    uneven. The clip never wraps around, and its centre has the same distribution whatever the answer, as in `pace`.
    The answer is one label, speed number * 4 + place in `TRANSFORMS`; the paper has a loss for each. A shuffled clip is
    neither forward nor backward.
    """

    clip_lengths: ClassVar[tuple[int, int | None]] = (3, None)

    stride: int = 2
    """Frames from one frame of the slowest clip to the next; at least 2, or nothing could be uneven."""
    speeds: int = 1
    """Speeds to tell apart, each twice the one before; 1 asks for the transformation alone."""

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

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> Draw:
        """Draws an answer, a centre and a crop."""
        label = int(rng.integers(self.classes))
        speed, transform = divmod(label, len(TRANSFORMS))
        numbers = _TRANSFORM[TRANSFORMS[transform]](clip_frames, self.stride << speed, rng)
        span = self.span(clip_frames=clip_frames)
        window = rng.integers(shot.frames - span + 1)
        margin = (span - 1 - int(numbers.max())) // 2
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        return Draw(frames=(window + margin + numbers)[None], crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """A linear layer on the one clip's features."""
        return OneClipHead(features, classes=self.classes)

    def answer(self, label: int) -> str:
        """The transformation, and the stride where several speeds are told apart: `shuffle, stride 4`."""
        speed, transform = divmod(label, len(TRANSFORMS))
        return TRANSFORMS[transform] + (f", stride {self.stride << speed}" if self.speeds > 1 else "")


# Each of these: clip length, stride and generator -> frame numbers [frames] from 0.


def _even(frames: int, stride: int, rng: np.random.Generator) -> Integers:
    return np.arange(frames) * stride


def _forward_backward(frames: int, stride: int, rng: np.random.Generator) -> Integers:
    turn = frames // 2
    return (turn - np.abs(np.arange(frames) - turn)) * stride


def _shuffled(frames: int, stride: int, rng: np.random.Generator) -> Integers:
    return disorder(frames, rng=rng) * stride


def _warped(frames: int, stride: int, rng: np.random.Generator) -> Integers:
    assert frames >= 3 and stride >= 2
    last = (frames - 1) * stride
    while True:
        inner = 1 + rng.choice(last - 1, frames - 2, replace=False)
        numbers = np.sort(np.concatenate([[0, last], inner]))
        if (np.diff(numbers) != stride).any():
            return numbers


_TRANSFORM = dict(zip(TRANSFORMS, (_even, _forward_backward, _shuffled, _warped), strict=True))
