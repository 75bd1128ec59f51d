"""Pace prediction (Wang, Jiao, Liu, ECCV 2020): how fast is this clip played?"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, OneClipHead, PretextTask, Shot, random_crops


@dataclass(frozen=True, kw_only=True)
class Pace(PretextTask):
    """One clip whose frames are `stride` apart; the answer is stride - 1.

    The clip always fits in the shot: wrapping around would leave a seam that gives the label away
    (docs/methods.md#pace). The clip's centre has the same distribution at every stride, so that its position in the
    video does not give the label away either.
    """

    strides: int = 4
    """Paces: strides 1 to this many."""
    flip: bool = False
    """Mirror half of the clips."""

    def __post_init__(self) -> None:
        if not 2 <= self.strides <= 16:
            raise UserError(f"pretrain.options: strides: {self.strides} is not allowed; 2 to 16")

    @property
    def elements(self) -> int:
        """One clip."""
        return 1

    @property
    def classes(self) -> int:
        """Strides."""
        return self.strides

    def span(self, *, clip_frames: int) -> int:
        """The fastest clip must fit."""
        return (clip_frames - 1) * self.strides + 1

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a stride, a centre, a crop and, if asked for, whether it is mirrored."""
        label = int(rng.integers(self.strides))
        window = rng.integers(shot.frames - self.span(clip_frames=clip_frames) + 1)
        margin = (self.span(clip_frames=clip_frames) - 1 - (clip_frames - 1) * (label + 1)) // 2
        numbers = window + margin + np.arange(clip_frames) * (label + 1)
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        flip = self.flip and bool(rng.random() < 0.5)
        return ClipTuple(frames=numbers[None], crops=crops, label=label, flip=flip)

    def head(self, features: int) -> nn.Module:
        """A linear layer on the one clip's features."""
        return OneClipHead(features, classes=self.classes)

    def answer(self, label: int) -> str:
        """The stride: `every frame`, `every 3rd frame`."""
        ordinals = {1: "every frame", 2: "every 2nd frame", 3: "every 3rd frame"}
        return ordinals.get(label + 1, f"every {label + 1}th frame")


TASKS = {"pace": Pace}
