"""Shuffle and Learn (Misra, Zitnick, Hebert, ECCV 2016): are these three frames in their order of time?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.footage.colour import i420_to_rgb
from rushes.pretext.task import ClipTuple, Integers, PretextTask, Shot, random_crops
from rushes.video.clips import crop_i420
from rushes.video.windows import draw_window

_TRIES = 4
A, B, C, D, E = range(5)


@dataclass(frozen=True, kw_only=True)
class ShuffleAndLearn(PretextTask):
    """Three frames, of five candidates a < b < c < d < e: (b, c, d) is in order, (b, a, d) and (b, e, d) are not.

    The label is 1 for a tuple in order, 0 for one that is not; either is shown backwards half of the time. Right and
    wrong tuples begin and end with the same frames, so that only the middle one differs
    (docs/methods.md#shuffle-and-learn). The candidates come from a window drawn by its motion. One crop for the three
    frames: the released code crops nothing.
    """

    clip_lengths: ClassVar[tuple[int, int | None]] = (1, 1)

    tau_max: int = 60
    """Largest distance from b to d in frames; the smallest is half of it."""
    tau_min: int = 15
    """Smallest distance from a to b, and from d to e, in frames."""
    negatives: float = 0.75
    """Share of tuples that are out of order."""
    similarity: float = 10.0
    """Mean squared difference of two crops' RGB values (0 to 255) up to which a or e looks like c and is rejected.

    0 compares no frames. The published threshold could not be read; this one is about what coding alone changes.
    """
    hidden: int = 0
    """Width of a hidden layer in the head; 0 is the published head, a linear layer.

    The linear layer adds up scores of single frames, and no such sum says that one frame lies between two others.
    """

    def __post_init__(self) -> None:
        if self.tau_max < 2:
            raise UserError(f"pretrain.options: tau_max: {self.tau_max} is not allowed; 2 or more frames")
        if self.tau_min < 1:
            raise UserError(f"pretrain.options: tau_min: {self.tau_min} is not allowed; 1 or more frames")
        if not 0 < self.negatives < 1:
            raise UserError(f"pretrain.options: negatives: {self.negatives} is not allowed; between 0 and 1")
        if self.similarity < 0:
            raise UserError(f"pretrain.options: similarity: {self.similarity} is not allowed; 0 (off) or more")
        if self.hidden < 0:
            raise UserError(f"pretrain.options: hidden: {self.hidden} is not allowed; 0 (none) or more")

    @property
    def elements(self) -> int:
        """Frames per tuple."""
        return 3

    @property
    def classes(self) -> int:
        """Out of order, in order."""
        return 2

    @property
    def chance(self) -> float:
        """Accuracy of always giving the more frequent answer."""
        return max(self.negatives, 1 - self.negatives)

    def span(self, *, clip_frames: int) -> int:
        """From a to e at most: 91 frames for 60 and 15."""
        return self.tau_min + self.tau_max + self.tau_min + 1

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a crop and five candidates, then a label on which nothing before depends, then the tuple.

        Where both a and e look like c, all candidates are drawn again, whatever the label; after the last of a few
        tries they are taken as they are, so that still footage has the same share of each label.
        """
        corner = random_crops(shot, crop=crop, count=1, rng=rng)
        for _ in range(_TRIES):
            candidates = self._candidates(shot, rng)
            outsiders = self._outsiders(shot, candidates, corner=corner[0], crop=crop)
            if outsiders:
                break
        label = int(rng.random() >= self.negatives)
        middle = C if label else rng.choice(outsiders or [A, E])
        frames = candidates[[B, middle, D]]
        if rng.random() < 0.5:
            frames = frames[::-1]
        return ClipTuple(frames=frames[:, None], crops=corner.repeat(3, axis=0), label=label)

    def _candidates(self, shot: Shot, rng: np.random.Generator) -> Integers:
        """a, b, c, d, e: frame numbers within a window of the span, [5]."""
        window = draw_window(shot.motion, span=self.span(clip_frames=1), rng=rng)
        between = rng.integers(max(2, self.tau_max // 2), self.tau_max + 1)
        slack = self.tau_max - between
        b = self.tau_min + rng.integers(slack + 1)
        d = b + between
        a = rng.integers(b - self.tau_min + 1)
        c = rng.integers(b + 1, d)
        e = rng.integers(d + self.tau_min, self.span(clip_frames=1))
        return window + np.array([a, b, c, d, e])

    def _outsiders(self, shot: Shot, candidates: Integers, *, corner: Integers, crop: int) -> list[int]:
        """Those of a and e that do not look like c, within the crop."""
        if not self.similarity:
            return [A, E]
        # All five at once: they are decoded in one go, and the tuple is among them.
        compared = shot.read_frames(candidates)[[A, E, C]]
        frames = crop_i420(compared, top=int(corner[0]), left=int(corner[1]), size=crop)
        rgb = 255 * i420_to_rgb(torch.from_numpy(frames))  # [3, 3, crop, crop]
        differences = (rgb[:, :2] - rgb[:, 2:]).square().mean(dim=(0, 2, 3))
        return [outsider for outsider, far in zip((A, E), differences > self.similarity, strict=True) if far]

    def head(self, features: int) -> nn.Module:
        """The features of the three frames, concatenated -> optional hidden layer -> linear layer."""
        return ConcatenatedHead(features, elements=self.elements, classes=self.classes, hidden=self.hidden)

    def answer(self, label: int) -> str:
        """In order or not."""
        return "in order" if label else "out of order"


class ConcatenatedHead(nn.Module):
    """Classifier of all elements' features together: linear, or with one hidden layer."""

    def __init__(self, features: int, *, elements: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        width = elements * features
        layers = [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()] if hidden else []
        last = nn.Linear(hidden or width, classes)
        nn.init.uniform_(last.weight, -((3 / last.in_features) ** 0.5), (3 / last.in_features) ** 0.5)
        nn.init.zeros_(last.bias)
        self.order = nn.Sequential(*layers, last)

    def forward(self, features: Tensor) -> Tensor:
        """[B, elements, features] -> [B, classes]."""
        logits: Tensor = self.order(features.flatten(1))
        return logits


TASKS = {"shuffle_and_learn": ShuffleAndLearn}
