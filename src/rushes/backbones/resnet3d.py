"""R3D and R(2+1)D with one basic block per stage, as VCOP uses them (Xu et al., CVPR 2019; docs/methods.md#vcop).

Not R3D-18: four stages of one block each, 14.4 M parameters. R(2+1)D factors every convolution, the 1x1x1 shortcuts
too, into a spatial and a temporal one with as many parameters as the full kernel would have.
"""

import torch
from torch import Tensor, nn

from rushes.backbones.backbone import Backbone

Size = tuple[int, int, int]


class ResNet3D(Backbone):
    """Stem (stride 1, 2, 2; no pooling), four stages, global average pool.

    Args:
        factored: (2+1)D convolutions instead of full 3-D ones.
        widths: channels of the four stages; the last is the length of the features.
        stem_kernel: spatial side of the stem's kernel; 7 as published, smaller for small frames.
        differences: see the differences of successive frames (T - 1 of them) instead of the frames.
    """

    def __init__(
        self,
        *,
        factored: bool,
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        stem_kernel: int = 7,
        differences: bool = False,
    ) -> None:
        super().__init__(features=widths[-1], least_frames=2)
        self.differences = differences
        kernel = (3, stem_kernel, stem_kernel)
        self.stem = nn.Sequential(
            _conv(3, widths[0], kernel=kernel, stride=(1, 2, 2), factored=factored),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.Sequential(
            *(
                BasicBlock(before, after, stride=1 if stage == 0 else 2, factored=factored)
                for stage, (before, after) in enumerate(zip(inputs, widths, strict=True))
            )
        )
        # Channels last: a fifth to a third faster in training, on CPUs as on GPUs.
        self.to(memory_format=torch.channels_last_3d)

    def activations(self, clips: Tensor) -> Tensor:
        """Returns the last stage's activations: [N, 3, T, H, W] -> [N, features, t, h, w]."""
        if self.differences:
            clips = clips[:, :, 1:] - clips[:, :, :-1]
        activations: Tensor = self.stages(self.stem(clips.contiguous(memory_format=torch.channels_last_3d)))
        return activations


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions round a shortcut; a stride of 2 halves time, height and width."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, factored: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(inputs, outputs, kernel=(3, 3, 3), stride=(stride,) * 3, factored=factored),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
            _conv(outputs, outputs, kernel=(3, 3, 3), stride=(1, 1, 1), factored=factored),
            nn.BatchNorm3d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _conv(inputs, outputs, kernel=(1, 1, 1), stride=(stride,) * 3, factored=factored),
                nn.BatchNorm3d(outputs),
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, t, h, w] -> [N, outputs, t/stride, h/stride, w/stride]."""
        result: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return result


def _conv(inputs: int, outputs: int, *, kernel: Size, stride: Size, factored: bool) -> nn.Module:
    """A bias-free convolution that keeps the size at stride 1, full or factored into space and time."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    if not factored:
        return nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    t, h, w = kernel
    middle = t * h * w * inputs * outputs // (h * w * inputs + t * outputs)
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, h, w), stride=(1, *stride[1:]), padding=(0, *padding[1:]), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (t, 1, 1), stride=(stride[0], 1, 1), padding=(padding[0], 0, 0), bias=False),
    )


BACKBONES = {
    "r3d": lambda: ResNet3D(factored=False),
    "r2plus1d": lambda: ResNet3D(factored=True),
    "tiny_r3d": lambda: ResNet3D(factored=False, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
    "tiny_r2plus1d": lambda: ResNet3D(factored=True, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
}
