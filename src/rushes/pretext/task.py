"""What a pretext task is made of: draw, view, head, loss.

A task never touches files. `draw` chooses a tuple: which frames of a shot each of its elements shows, and the label
that follows from the choice. The loader decodes them, `view` transforms what the network sees, the backbone turns each
element into features, `head` turns the features of a tuple into logits, and `loss` compares these with the label.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional as F

from rushes.errors import UserError

Integers = npt.NDArray[np.int64]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Consecutive frames without a cut, as a task sees them; motion and frames are read on first use."""

    frames: int
    """Number of frames."""
    height: int
    """Of the footage, in pixels."""
    width: int
    """Of the footage, in pixels."""
    read_motion: Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]
    """Reads `motion` and `grid`."""
    read_frames: Callable[[Integers], Frames]
    """Decodes frames by number: I420 uint8 [n, H * 3/2, W]. Those of the tuple are not decoded a second time."""

    @cached_property
    def _motion(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        return self.read_motion()

    @property
    def motion(self) -> npt.NDArray[np.float32]:
        """[frames]: mean motion since the frame before, in pixels."""
        return self._motion[0]

    @property
    def grid(self) -> npt.NDArray[np.uint8]:
        """[frames, 4, 5]: motion per cell of the frame, in 1/16 pixel."""
        return self._motion[1]


@dataclass(frozen=True, kw_only=True)
class ClipTuple:
    """What a task draws: the clips of one shot that it shows together, and their label."""

    frames: Integers
    """[elements, clip_frames]: frame numbers within the shot."""
    crops: Integers
    """[elements, 2]: top and left of each element's crop in pixels, even: one crop for all frames of an element."""
    label: int
    """The right answer."""
    flip: bool = False
    """Whether all elements are mirrored, left to right."""
    channels: Integers | None = None
    """[elements]: show this channel (0 red, 1 green, 2 blue) of each element as grey; None shows colours."""


class PretextTask(ABC):
    """Base of the tasks; a subclass is a frozen dataclass of the task's own parameters."""

    clip_lengths: ClassVar[tuple[int, int | None]] = (2, None)
    """Shortest and longest element in frames: (1, 1) for tasks about single frames."""

    @property
    @abstractmethod
    def elements(self) -> int:
        """Clips (or frames) per tuple."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Possible answers."""

    @property
    def chance(self) -> float:
        """Accuracy of the best constant answer."""
        return 1 / self.classes

    @abstractmethod
    def span(self, *, clip_frames: int) -> int:
        """Frames that a shot must have for a tuple to fit."""

    @abstractmethod
    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a tuple from a shot of at least `span` frames, for a square crop of `crop` pixels."""

    @abstractmethod
    def head(self, features: int) -> nn.Module:
        """Returns the module that maps [B, elements, features] to [B, classes]."""

    def view(self, clips: Tensor) -> Tensor:
        """Transforms normalised clips [B, elements, 3, T, H, W] before the network; by default not at all."""
        return clips

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of [B, classes] against [B]: cross-entropy by default."""
        return F.cross_entropy(logits, labels)

    def answer(self, label: int) -> str:
        """The label in words, for people: by default, its number."""
        return f"answer {label + 1} of {self.classes}"

    def check(self, *, clip_frames: int) -> None:
        """Checks that the task allows elements of this length.

        Raises:
            UserError: the task is about frames and these are clips, or the reverse.
        """
        shortest, longest = self.clip_lengths
        if clip_frames < shortest or (longest is not None and clip_frames > longest):
            allowed = (
                "1: this task is about single frames, so take a network of frames"
                if longest == 1
                else f"{shortest} or more: this task is about clips, so take a network of clips"
            )
            raise UserError(f"pretrain.clip_frames: {clip_frames} is not allowed; {allowed}")


def random_crops(shot: Shot, *, crop: int, count: int, rng: np.random.Generator) -> Integers:
    """Draws `count` independent crops anywhere in the frame: top and left, even pixels, [count, 2]."""
    room = np.array([shot.height - crop, shot.width - crop])
    crops: Integers = 2 * (rng.random((count, 2)) * (room // 2 + 0.999)).astype(np.int64)
    return crops


def disorder(count: int, *, rng: np.random.Generator) -> Integers:
    """A random order of `count` numbers, 3 or more, that is neither forward nor backward: [count]."""
    assert count >= 3
    while True:
        order = rng.permutation(count)
        steps = np.diff(order)
        if (steps != 1).any() and (steps != -1).any():
            return order


class OneClipHead(nn.Module):
    """Linear classifier of the first and only element."""

    def __init__(self, features: int, *, classes: int) -> None:
        super().__init__()
        self.answer = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 1, features] -> [B, classes]."""
        logits: Tensor = self.answer(features[:, 0])
        return logits
