"""What only pretraining needs: the tuples of a pretext task, and backbone plus the task's head.

A module of its own, so that the digests of fine-tuning and evaluation do not cover `rushes.pretext`.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rushes.backbones import make_backbone
from rushes.backbones.resnet3d import ResNet3D
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.pretext.task import PretextTask
from rushes.training.data import Place, Windows, crop_at
from rushes.training.networks import normalise


class PretextTuples(Dataset[tuple[Tensor, int]]):
    """Questions of a pretext task: I420 clips, uint8 [E, T, S*3/2, S], and the answer."""

    def __init__(
        self, footage: Footage, rows: npt.NDArray[np.int64], *, task: PretextTask, clip_frames: int, crop: int,
        seed: int, samples: int = 0,
    ) -> None:  # fmt: skip
        self.footage, self.task, self.clip_frames, self.crop = footage, task, clip_frames, crop
        span = task.span(clip_frames=clip_frames)
        self.windows = Windows.of(footage, rows, span=span, seed=seed, samples=samples)

    def __len__(self) -> int:
        return self.windows.samples

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        (row, first, count), rng = self.windows[place]
        draw = self.task.draw(frames=count, clip_frames=self.clip_frames, rng=rng)
        frames = self.footage.frames(row, first + draw.frames.ravel())
        elements = frames.reshape(*draw.frames.shape, *frames.shape[1:])
        clips = [crop_at(clip, share, size=self.crop) for clip, share in zip(elements, draw.crops, strict=True)]
        return torch.from_numpy(np.stack(clips)), draw.label


class PretextNet(nn.Module):
    """Backbone and the task's head.

    The elements of a tuple are folded into the batch, so that batch norm sees them together (methods.md, trap 8).
    """

    def __init__(self, task: PretextTask, *, backbone: str) -> None:
        super().__init__()
        self.task = task
        self.backbone: ResNet3D = make_backbone(backbone)
        self.head = task.head(self.backbone.features)

    def forward(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [B, E, T, S*3/2, S] -> logits [B, classes]."""
        seen = self.task.view(normalise(i420_to_rgb(clips)))
        features = self.backbone(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        logits: Tensor = self.head(features)
        return logits
