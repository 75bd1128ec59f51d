"""What only pretraining needs: the tuples of a pretext task, and backbone plus the task's head.

A module of its own, so that the digests of fine-tuning and evaluation do not cover `rushes.pretext`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rushes.backbones import Backbone, make_backbone
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.pretext.task import PretextTask
from rushes.training.data import Place, Stretch, Windows, crop_at
from rushes.training.networks import normalise

_ROOM = 2  # length of a window that several draws share, in spans of the task


class PretextTuples(Dataset[tuple[Tensor, int]]):
    """Questions of a pretext task: I420 clips, uint8 [E, T, S*3/2, S], and the answer.

    Args:
        footage: where the frames are.
        rows: segments to draw from.
        task: the task.
        clip_frames: frames of an element.
        crop: side of the square that is cut from each frame.
        seed: everything follows from it.
        samples: questions an epoch; 0 takes as many as there are windows.
        draws: questions asked in a row about the same window, twice as long as the task needs, which is decoded once.
    """

    def __init__(
        self, footage: Footage, rows: npt.NDArray[np.int64], *, task: PretextTask, clip_frames: int, crop: int,
        seed: int, samples: int = 0, draws: int = 1,
    ) -> None:  # fmt: skip
        self.footage, self.task, self.clip_frames, self.crop = footage, task, clip_frames, crop
        self.seed, self.draws, self.span = seed, draws, task.span(clip_frames=clip_frames)
        self.windows = Windows.of(footage, rows, span=self.span, seed=seed, samples=samples)
        self.samples, self.windows.samples = self.windows.samples, -(-self.windows.samples // draws)
        self._decoded: tuple[Stretch, npt.NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return self.samples

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_decoded": None}

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        epoch, number = place
        stretch, rng = self.windows[epoch, number // self.draws]
        if self.draws > 1:
            stretch = _narrowed(stretch, frames=_ROOM * self.span, rng=rng)
            rng = np.random.default_rng([self.seed, 3, epoch, number])
        draw = self.task.draw(frames=stretch.frames, clip_frames=self.clip_frames, rng=rng)
        frames = self._frames(stretch, draw.frames.ravel())
        elements = frames.reshape(*draw.frames.shape, *frames.shape[1:])
        clips = [crop_at(clip, share, size=self.crop) for clip, share in zip(elements, draw.crops, strict=True)]
        return torch.from_numpy(np.stack(clips)), draw.label

    def _frames(self, stretch: Stretch, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        if self.draws == 1:
            return self.footage.frames(stretch.row, stretch.first + numbers)
        if self._decoded is None or self._decoded[0] != stretch:
            stop = stretch.first + stretch.frames
            self._decoded = stretch, self.footage.window(stretch.row, stretch.first, stop)
        return self._decoded[1][numbers]


def _narrowed(stretch: Stretch, *, frames: int, rng: np.random.Generator) -> Stretch:
    """A part of the stretch at a random place, of at most so many frames."""
    frames = min(frames, stretch.frames)
    return Stretch(stretch.row, stretch.first + int(rng.integers(stretch.frames - frames + 1)), frames)


class PretextNet(nn.Module):
    """Backbone and the task's head.

    The elements of a tuple are folded into the batch, so that batch norm sees them together (methods.md, trap 8).
    """

    def __init__(self, task: PretextTask, *, backbone: str) -> None:
        super().__init__()
        self.task = task
        self.backbone: Backbone = make_backbone(backbone)
        self.head = task.head(self.backbone.features)

    def forward(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [B, E, T, S*3/2, S] -> logits [B, classes]."""
        seen = self.task.view(normalise(i420_to_rgb(clips)))
        features = self.backbone(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        logits: Tensor = self.head(features)
        return logits
