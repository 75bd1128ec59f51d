"""A plugin: which clip of the batch is from the same shot? (InfoNCE; docs/methods.md#contrast-and-temporal-transforms).

An example of logits that span the batch: the head compares clips of different tuples. README.md has the commands.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, PretextTask, Shot, random_crops


@dataclass(frozen=True, kw_only=True)
class Contrast(PretextTask):
    """Two clips of one shot, each with its own start and crop: alike, and unlike the clips of the batch's other tuples.

    Two tuples of a batch may be from one video, or even overlap; they count as unlike all the same. The logits of a
    tuple are the similarities of its first clip to the second clip of every tuple, its own first: so the label is
    always 0, and there are as many answers as tuples in the batch.
    """

    temperature: float = 0.07
    """Divides the cosine similarities."""
    projected: int = 128
    """Length of the vectors that are compared."""
    gap: int = 0
    """Smallest number of frames between the first frames of the two clips."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UserError(f"pretrain.options: temperature: {self.temperature} is not allowed; above 0")
        if self.projected < 1:
            raise UserError(f"pretrain.options: projected: {self.projected} is not allowed; 1 or more")
        if self.gap < 0:
            raise UserError(f"pretrain.options: gap: {self.gap} is not allowed; 0 or more frames")

    @property
    def elements(self) -> int:
        """Two clips."""
        return 2

    @property
    def classes(self) -> int:
        """One per tuple; how many tuples a batch has is not known here."""
        return 1

    @property
    def chance(self) -> float:
        """1 / batch, which is not known here."""
        return 0.0

    def span(self, *, clip_frames: int) -> int:
        """Both clips."""
        return clip_frames + self.gap

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws where each clip begins, which of them is shown first, and a crop for each."""
        room = shot.frames - clip_frames - self.gap + 1
        starts = np.sort(rng.integers(room, size=2)) + np.array([0, self.gap])
        frames = rng.permutation(starts)[:, None] + np.arange(clip_frames)
        return ClipTuple(frames=frames, crops=random_crops(shot, crop=crop, count=2, rng=rng), label=0)

    def head(self, features: int) -> nn.Module:
        """Projection and similarities."""
        return SimilarityHead(features, projected=self.projected, temperature=self.temperature)

    def answer(self, label: int) -> str:
        """The two clips belong together."""
        return "one shot"


class SimilarityHead(nn.Module):
    """Two layers, then cosine similarities between tuples."""

    def __init__(self, features: int, *, projected: int, temperature: float) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projected))
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """[B, 2, features] -> [B, B]: similarities to the tuple's own second clip, then to those of the others."""
        first, second = F.normalize(self.project(features), dim=2).unbind(1)
        similarity = first @ second.T / self.temperature
        numbers = torch.arange(len(features), device=features.device)
        return similarity.gather(1, (numbers[:, None] + numbers) % len(features))


TASKS = {"contrast": Contrast}
