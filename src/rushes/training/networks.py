"""Backbone plus head, for the pretext task and for the labelled actions; both read I420 clips as they are stored."""

import torch
from torch import Tensor, nn

from rushes.backbones import make_backbone
from rushes.backbones.resnet3d import ResNet3D
from rushes.footage.colour import i420_to_rgb
from rushes.pretext.task import PretextTask

MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)
"""Of the input, per RGB channel (0 to 1): the grey-level statistics that video networks commonly assume [?]."""


def normalise(rgb: Tensor) -> Tensor:
    """RGB 0 to 1, [..., 3, T, H, W], to roughly zero mean and unit variance."""
    mean = torch.tensor(MEAN, device=rgb.device, dtype=rgb.dtype)[:, None, None, None]
    std = torch.tensor(STD, device=rgb.device, dtype=rgb.dtype)[:, None, None, None]
    return (rgb - mean) / std


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


class Classifier(nn.Module):
    """Backbone and one linear layer over the actions."""

    def __init__(self, *, backbone: str, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone: ResNet3D = make_backbone(backbone)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.features, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [N, T, S*3/2, S] -> logits [N, classes]."""
        logits: Tensor = self.head(self.dropout(self.features(clips)))
        return logits

    def features(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [N, T, S*3/2, S] -> pooled features [N, features]."""
        features: Tensor = self.backbone(normalise(i420_to_rgb(clips)))
        return features
