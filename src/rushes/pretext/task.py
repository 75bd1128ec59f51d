"""What a pretext task is made of: draw, view, head, loss.

A task never touches files. `draw` says which frames of a segment to look at, and the label falls out of it; the
loader fetches them, `view` says what the network sees of them, the backbone turns each element into features, `head`
turns the features of a tuple into an answer, and `loss` compares that with the label.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One question about a segment."""

    frames: npt.NDArray[np.int64]
    """[elements, clip_frames]: frame numbers within the segment."""
    crops: npt.NDArray[np.float64]
    """[elements, 2]: top and left of each element's crop, as a share of the room there is, 0 to 1."""
    label: int
    """The answer."""


class PretextTask(ABC):
    """Base of the tasks; a subclass is a frozen dataclass of the task's own parameters."""

    @property
    @abstractmethod
    def elements(self) -> int:
        """Clips (or frames) a tuple."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Possible answers."""

    @abstractmethod
    def span(self, *, clip_frames: int) -> int:
        """Frames that a segment must have for a draw to fit."""

    @abstractmethod
    def draw(self, *, frames: int, clip_frames: int, rng: np.random.Generator) -> Draw:
        """Draws a question about a segment of `frames` >= `span` frames."""

    @abstractmethod
    def head(self, features: int) -> nn.Module:
        """Returns the module that maps [B, elements, features] to [B, classes]."""

    def view(self, clips: Tensor) -> Tensor:
        """What the network sees of normalised clips [B, elements, 3, T, H, W]: by default, just these."""
        return clips

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of [B, classes] against [B]: cross-entropy by default."""
        return F.cross_entropy(logits, labels)
