"""C3D with batch norm, as VCOP uses it (Xu et al., CVPR 2019, released code; docs/methods.md#vcop)."""

import torch
from torch import Tensor, nn

from rushes.backbones.backbone import Backbone

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class C3D(Backbone):
    """Eight 3x3x3 convolutions, each with batch norm and ReLU; global average pool -> 512 features, 27.7 M parameters.

    Max pools of 1x2x2 and three times 2x2x2 lie between the five stages: clips need 8 frames and 16 pixels per side;
    16 frames of 112 pixels (published) leave maps of 512x2x7x7. The released convolutions have biases, which batch
    norm cancels: they are left out. Weights are drawn as PyTorch does, as in the released code.
    """

    def __init__(self) -> None:
        super().__init__(features=STAGES[-1][-1], least_frames=8)
        layers: list[nn.Module] = []
        before = 3
        for stage, widths in enumerate(STAGES):
            if stage > 0:
                layers.append(nn.MaxPool3d((1, 2, 2) if stage == 1 else 2))
            for width in widths:
                layers += [nn.Conv3d(before, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
                before = width
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last_3d)

    def activations(self, clips: Tensor) -> Tensor:
        """Fifth stage, before any pooling: [N, 3, T, H, W] -> [N, 512, T // 8, H // 16, W // 16]."""
        activations: Tensor = self.layers(clips.contiguous(memory_format=torch.channels_last_3d))
        return activations


BACKBONES = {"c3d": C3D}
