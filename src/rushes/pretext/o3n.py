"""Odd one out, O3N (Fernando, Bilen, Gavves, Gould, CVPR 2017): which of these clips has its frames in disorder?"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, PretextTask, Shot, disorder, random_crops

Fusion = Literal["concat", "differences"]


@dataclass(frozen=True, kw_only=True)
class O3N(PretextTask):
    """Clips of one short window, one of them out of order; the answer is its position in the tuple.

    The clips overlap: each begins anywhere in the first third of a window half as long again as a clip (the paper's
    constrained consecutive sampling; docs/methods.md#o3n, and the share is unverified). The odd one begins where any
    other might, shows frames as far apart, and differs only in their order. That order is neither forward nor
    backward: backward is valid motion, often the same as forward (a hand that waves), and telling it apart is the task
    `arrow_of_time`. All clips share one crop, so that only time differs between them.

    A network of frame stacks sees the differences of successive frames, the paper's best encoding; a 3-D network sees
    the clips themselves.
    """

    clip_lengths: ClassVar[tuple[int, int | None]] = (3, None)

    elements: int = 6
    """Clips per tuple, the odd one included."""
    fusion: Fusion = "concat"
    """How the clips' features v are combined: concatenated, or the sum over i < j of v_j - v_i."""
    stride: int = 1
    """Frames from one frame of a clip to the next."""

    def __post_init__(self) -> None:
        if not 2 <= self.elements <= 16:
            raise UserError(f"pretrain.options: elements: {self.elements} is not allowed; 2 to 16")
        if self.fusion == "differences" and self.elements % 2:
            raise UserError(
                f"pretrain.options: elements: {self.elements} is not allowed with fusion differences, in which the "
                "middle one of an odd number cancels out: take an even number, or fusion concat"
            )
        if self.stride < 1:
            raise UserError(f"pretrain.options: stride: {self.stride} is not allowed; 1 or more frames")

    @property
    def classes(self) -> int:
        """Positions of the odd one."""
        return self.elements

    def span(self, *, clip_frames: int) -> int:
        """One and a half clips: 9 frames for 6."""
        length = self._length(clip_frames)
        return length + length // 2

    def _length(self, clip_frames: int) -> int:
        return (clip_frames - 1) * self.stride + 1

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a window, where in it each clip begins, the odd one, its order, and one crop for all."""
        span = self.span(clip_frames=clip_frames)
        window = rng.integers(shot.frames - span + 1)
        starts = window + rng.integers(span - self._length(clip_frames) + 1, size=self.elements)
        frames = starts[:, None] + np.arange(clip_frames) * self.stride
        label = int(rng.integers(self.elements))
        frames[label] = frames[label, disorder(clip_frames, rng=rng)]
        crops = random_crops(shot, crop=crop, count=1, rng=rng).repeat(self.elements, axis=0)
        return ClipTuple(frames=frames, crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """The clips' features fused, a hidden layer, and one output per position."""
        return OddOneOutHead(features, elements=self.elements, fusion=self.fusion)

    def answer(self, label: int) -> str:
        """Which clip: `clip 3 is out of order`."""
        return f"clip {label + 1} is out of order"


class OddOneOutHead(nn.Module):
    """Fusion -> fully connected layer -> ReLU -> dropout -> positions.

    Width and dropout are not published: they are those of VCOP's head.
    """

    def __init__(
        self, features: int, *, elements: int, fusion: Fusion, hidden: int = 512, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.fuse = sum_of_differences if fusion == "differences" else _concatenated
        self.hidden = nn.Linear(features if fusion == "differences" else features * elements, hidden)
        self.dropout = nn.Dropout(dropout)
        self.position = nn.Linear(hidden, elements)

    def forward(self, features: Tensor) -> Tensor:
        """[B, elements, features] -> [B, elements]."""
        logits: Tensor = self.position(self.dropout(self.hidden(self.fuse(features)).relu()))
        return logits


def sum_of_differences(features: Tensor) -> Tensor:
    """The sum over i < j of v_j - v_i: [B, elements, features] -> [B, features].

    That is a weighted sum: 6 elements count -5, -3, -1, 1, 3 and 5 (docs/methods.md#o3n).
    """
    count = features.shape[1]
    weights = 2 * torch.arange(count, device=features.device, dtype=features.dtype) - (count - 1)
    return torch.einsum("bef,e->bf", features, weights)


def _concatenated(features: Tensor) -> Tensor:
    return features.flatten(1)


TASKS = {"o3n": O3N}
