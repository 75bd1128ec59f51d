"""Input statistics of every network, and the classifier: backbone plus head, on I420 clips as they are stored."""

import torch
from torch import Tensor, nn

from rushes.backbones import Backbone, make_backbone
from rushes.footage.colour import i420_to_rgb

MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)
"""Of the input, per RGB channel (0 to 1): the grey-level statistics that video networks commonly assume [?]."""


def normalise(rgb: Tensor) -> Tensor:
    """RGB 0 to 1, [..., 3, T, H, W], to roughly zero mean and unit variance."""
    mean = torch.tensor(MEAN, device=rgb.device, dtype=rgb.dtype)[:, None, None, None]
    std = torch.tensor(STD, device=rgb.device, dtype=rgb.dtype)[:, None, None, None]
    return (rgb - mean) / std


class Classifier(nn.Module):
    """Backbone and one linear layer over the actions."""

    def __init__(self, *, backbone: str, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone: Backbone = make_backbone(backbone)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.features, classes)

    def freeze_backbone(self) -> None:
        """From now on only the linear layer trains; the backbone keeps its weights and batch norm's statistics."""
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        """Sets the mode of all that trains; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [N, T, S*3/2, S] -> logits [N, classes]."""
        logits: Tensor = self.head(self.dropout(self.features(clips)))
        return logits

    def features(self, clips: Tensor) -> Tensor:
        """I420 clips, uint8 [N, T, S*3/2, S] -> pooled features [N, features]."""
        features: Tensor = self.backbone(normalise(i420_to_rgb(clips)))
        return features
