"""OPN, sequence sorting (Lee, Huang, Singh, Yang, ICCV 2017): what is the order of these four frames?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.pretext.task import ClipTuple, Integers, PretextTask, Shot
from rushes.video.windows import busiest_patch, draw_window

_CANONICAL = ("1234", "1324", "1342", "1243", "1423", "1432", "2134", "2143", "2314", "3124", "3142", "3214")
ORDERS = np.array([[int(frame) - 1 for frame in order] for order in _CANONICAL])
"""[12, 4]: the frame shown at each position, per class; each stands for its reverse too (docs/methods.md#opn)."""
PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))
"""Pairs of positions in the order in which the released network concatenates them."""

_CROP = 80  # pixels: the published crop, of which patch and jitter are shares
_PATCH = 100


@dataclass(frozen=True, kw_only=True)
class Opn(PretextTask):
    """Four frames in one of 4!/2 orders: an order and its reverse are one class.

    Window and frames are drawn by their motion, and the crop lies in the patch that moves most. Shortcuts are removed
    as in the paper: all frames have the same crop but for a jitter of each, and each shows one channel, drawn for it
    alone (docs/methods.md#opn).
    """

    clip_lengths: ClassVar[tuple[int, int | None]] = (1, 1)

    window: int = 60
    """Frames from which the four are drawn. Not published."""
    gap: int = 4
    """Frames left out between two drawn ones, at least. Not published."""
    jitter: int = 5
    """Largest shift of each frame's crop in pixels, for a crop of 80; in proportion for others; even."""
    flip: bool = True
    """Mirror half of the tuples."""
    split_channels: bool = True
    """Show one colour channel of each frame as grey."""

    def __post_init__(self) -> None:
        if self.gap < 0:
            raise UserError(f"pretrain.options: gap: {self.gap} is not allowed; 0 or more frames")
        least = 4 + 3 * self.gap
        if self.window < least:
            raise UserError(
                f"pretrain.options: window: {self.window} is not allowed; {least} or more, for 4 frames and the gaps "
                f"of {self.gap} between them"
            )
        if self.jitter < 0:
            raise UserError(f"pretrain.options: jitter: {self.jitter} is not allowed; 0 (none) or more pixels")

    @property
    def elements(self) -> int:
        """Frames per tuple."""
        return 4

    @property
    def classes(self) -> int:
        """Orders, a reversed one being the same."""
        return len(ORDERS)

    def span(self, *, clip_frames: int) -> int:
        """The window."""
        return self.window

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws frames and crops, then an order and its direction, on which nothing before depends."""
        start = draw_window(shot.motion, span=self.window, rng=rng)
        frames = start + spaced_frames(shot.motion[start : start + self.window], count=4, gap=self.gap, rng=rng)
        crops = self._crops(shot, frames, crop=crop, rng=rng)
        flip = self.flip and bool(rng.random() < 0.5)
        channels = rng.integers(3, size=4) if self.split_channels else None
        label = int(rng.integers(self.classes))
        shown = frames[ORDERS[label]]
        if rng.random() < 0.5:
            shown = shown[::-1]
        return ClipTuple(frames=shown[:, None], crops=crops, label=label, flip=flip, channels=channels)

    def _crops(self, shot: Shot, frames: Integers, *, crop: int, rng: np.random.Generator) -> Integers:
        """One crop within the patch that moves most from the first frame to the last, and a jitter of each: [4, 2].

        The patch has 5/4 of the crop's side, or as much as the frame has.
        """
        frame = np.array([shot.height, shot.width])
        patch = np.minimum(crop * _PATCH // _CROP // 2 * 2, frame)
        height, width = (patch / frame).tolist()
        share = np.array(busiest_patch(shot.grid[frames[0] : frames[-1] + 1], height=height, width=width))
        corner = 2 * (share * (frame - patch) / 2).astype(np.int64)
        shared = corner + 2 * rng.integers((patch - crop) // 2 + 1)
        reach = self.jitter * crop // _CROP // 2
        moved = shared + 2 * rng.integers(-reach, reach + 1, size=(4, 2))
        # As released: down or across, a frame whose jitter would leave the patch keeps the shared crop.
        crops: Integers = np.where((moved >= corner) & (moved <= corner + patch - crop), moved, shared)
        return crops

    def head(self, features: int) -> nn.Module:
        """Pairs of frames share a layer; their outputs together name the order."""
        return SortingHead(features, classes=self.classes)

    def answer(self, label: int) -> str:
        """The positions in time of the frames as shown, 1 the earliest: `1 3 2 4 or 4 2 3 1`."""
        order = " ".join(_CANONICAL[label])
        return f"{order} or {order[::-1]}"


class SortingHead(nn.Module):
    """Pairs of four elements -> one fully connected layer for all -> concatenated -> classes (paper, figure 4).

    Each pair has statistics, scale and shift of its own in batch norm, and weights are drawn as in the released network
    (docs/methods.md#opn).
    """

    def __init__(self, features: int, *, classes: int, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        width = hidden * len(PAIRS)
        self.pair = nn.Linear(2 * features, hidden, bias=False)
        self.normed = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
        self.order = nn.Linear(width, classes)
        for layer in (self.pair, self.order):
            nn.init.normal_(layer.weight, std=0.005)
        nn.init.ones_(self.order.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 4, features] -> [B, classes]."""
        pairs = torch.stack([features[:, pair].flatten(1) for pair in PAIRS], dim=1)
        logits: Tensor = self.order(self.normed(self.pair(pairs).flatten(1)))
        return logits


def spaced_frames(magnitude: npt.NDArray[np.float32], *, count: int, gap: int, rng: np.random.Generator) -> Integers:
    """Numbers of `count` frames, rising, with at least `gap` frames left out between two: int64 `[count]`.

    The probability of each allowed selection is proportional to the product of its frames' motion; where nothing moves,
    all are equally likely.

    Args:
        magnitude: [n], each frame's motion; n is at least count + (count - 1) * gap.
        count: number of frames.
        gap: frames left out between two.
        rng: generator.
    """
    weights = magnitude.astype(np.float64)
    # A millionth: selections with fewer still frames always come first.
    weights = weights / weights.max() + 1e-6 if weights.max() > 0 else np.ones(len(weights))
    # ways[k][n]: the sum, over all selections of k frames from frame n on, of the products of their weights.
    ways = [np.ones(len(weights) + gap + 2)]
    for _ in range(count):
        first = weights * ways[-1][gap + 1 :][: len(weights)]
        ways.append(np.append(np.cumsum(first[::-1])[::-1], np.zeros(gap + 2)))
    chosen: list[int] = []
    for left in range(count, 0, -1):
        start = chosen[-1] + gap + 1 if chosen else 0
        first = weights[start:] * ways[left - 1][start + gap + 1 :][: len(weights) - start]
        chosen.append(start + int(rng.choice(len(first), p=first / first.sum())))
    return np.array(chosen, dtype=np.int64)


TASKS = {"opn": Opn}
