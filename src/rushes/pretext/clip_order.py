"""Clip order prediction, VCOP (Xu et al., CVPR 2019): in which order were these clips?"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, PretextTask, Shot, random_crops


@dataclass(frozen=True, kw_only=True)
class ClipOrder(PretextTask):
    """Clips of consecutive frames, a gap apart, shuffled; the answer is the position in time of each, 1 the earliest.

    The label is the index of the permutation in lexicographical order, and a permutation and its reverse are two
    classes, as in the released code; each clip has a crop of its own (docs/methods.md#vcop).
    """

    clips: int = 3
    """Clips per tuple."""
    gap: int = 8
    """Frames left out between two clips."""

    def __post_init__(self) -> None:
        if not 2 <= self.clips <= 5:
            raise UserError(f"pretrain.options: clips: {self.clips} is not allowed; 2 to 5 (clips! classes)")
        if self.gap < 0:
            raise UserError(f"pretrain.options: gap: {self.gap} is not allowed; 0 or more frames")

    @property
    def elements(self) -> int:
        """Clips per tuple."""
        return self.clips

    @property
    def classes(self) -> int:
        """Orders of the clips."""
        return math.factorial(self.clips)

    def span(self, *, clip_frames: int) -> int:
        """All clips and the gaps between them: 64 frames for 3 x 16, gap 8."""
        return self.clips * clip_frames + (self.clips - 1) * self.gap

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a start, an order, and a crop for each clip."""
        start = rng.integers(shot.frames - self.span(clip_frames=clip_frames) + 1)
        label = int(rng.integers(self.classes))
        starts = start + np.array(self._order(label)) * (clip_frames + self.gap)
        crops = random_crops(shot, crop=crop, count=self.clips, rng=rng)
        return ClipTuple(frames=starts[:, None] + np.arange(clip_frames), crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """Pairs of clips share a layer; their outputs together name the order."""
        return PairwiseHead(features, elements=self.clips, classes=self.classes)

    def answer(self, label: int) -> str:
        """The position in time of each clip as shown, 1 the earliest: `2 3 1`."""
        return " ".join(str(position + 1) for position in self._order(label))

    def _order(self, label: int) -> tuple[int, ...]:
        """The position in time, from 0, of each clip as shown."""
        return next(itertools.islice(itertools.permutations(range(self.clips)), label, None))


class PairwiseHead(nn.Module):
    """Every pair (i < j) concatenated -> shared fully connected layer -> all pairs concatenated -> classes."""

    def __init__(self, features: int, *, elements: int, classes: int, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.pairs = list(itertools.combinations(range(elements), 2))
        self.pair = nn.Sequential(nn.Linear(2 * features, hidden), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.order = nn.Linear(hidden * len(self.pairs), classes)

    def forward(self, features: Tensor) -> Tensor:
        """[B, elements, features] -> [B, classes]."""
        pairs = [self.pair(torch.cat([features[:, i], features[:, j]], dim=1)) for i, j in self.pairs]
        logits: Tensor = self.order(self.dropout(torch.cat(pairs, dim=1)))
        return logits


TASKS = {"clip_order": ClipOrder}
