"""The arrow of time (Wei et al., CVPR 2018, as one clip and two answers): is this clip played backwards?"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, OneClipHead, PretextTask, Shot, random_crops


@dataclass(frozen=True, kw_only=True)
class ArrowOfTime(PretextTask):
    """One clip, every other time reversed; the answer is 0 forwards, 1 backwards (docs/methods.md#arrow-of-time)."""

    stride: int = 1
    """Frames from one frame of the clip to the next."""

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise UserError(f"pretrain.options: stride: {self.stride} is not allowed; 1 or more frames")

    @property
    def elements(self) -> int:
        """One clip."""
        return 1

    @property
    def classes(self) -> int:
        """Forwards and backwards."""
        return 2

    def span(self, *, clip_frames: int) -> int:
        """The clip: 16 frames for 16 at stride 1."""
        return (clip_frames - 1) * self.stride + 1

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a start, a direction and a crop."""
        start = rng.integers(shot.frames - self.span(clip_frames=clip_frames) + 1)
        numbers = start + np.arange(clip_frames) * self.stride
        label = int(rng.integers(2))
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        return ClipTuple(frames=(numbers[::-1] if label else numbers)[None], crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """A linear layer on the one clip's features."""
        return OneClipHead(features, classes=self.classes)

    def answer(self, label: int) -> str:
        """`forwards` or `backwards`."""
        return ("forwards", "backwards")[label]


TASKS = {"arrow_of_time": ArrowOfTime}
