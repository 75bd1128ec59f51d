"""The served model as one torch module: I420 clips of several videos in, probabilities and embeddings out.

Colour conversion, normalisation, network, averaging over clips and softmax are all inside: a server only decodes
frames, so it cannot compute anything differently from training. `rushes.serving.export` writes it as ONNX.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rushes.footage.colour import i420_to_rgb


class ServingGraph(nn.Module):
    """Classifies videos, given several clips of each.

    Args:
        net: video network, `[N, 3, T, S, S]` float -> features `[N, D]`.
        head: linear layer, `[N, D]` -> logits `[N, classes]`.
        mean: of the RGB channels (0 to 1) that the network was trained with.
        std: of the same channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, net: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net, self.head = net, head
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1, 1))
        self.eval()

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Classifies I420 clips, uint8 `[V, C, T, S*3/2, S]`.

        Returns:
            probabilities `[V, classes]`: softmax of the mean over clips of the logits;
            embedding `[V, D]`: mean over clips of the features.
        """
        videos, count = clips.shape[:2]
        rgb = i420_to_rgb(clips.flatten(0, 1))
        features = self.net((rgb - self.mean) / self.std)
        logits = self.head(features)
        probabilities = logits.reshape(videos, count, -1).mean(1).softmax(-1)
        return probabilities, features.reshape(videos, count, -1).mean(1)
