"""CaffeNet as Shuffle and Learn, OPN and O3N use it (docs/methods.md#shuffle-and-learn, #opn, #o3n)."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from rushes.backbones.backbone import Names
from rushes.backbones.frame_net import FrameNet, input_channels

GREY_LEVELS = 57.375
"""Of 255, a standard deviation: the published weights and learning rates are for inputs of 0 to 255 less the mean."""

ALEXNET = Names(
    ours={
        "features.0.": "convolutions.1.",
        "features.3.": "convolutions.5.",
        "features.6.weight": "convolutions.9.weight",
        "features.8.weight": "convolutions.12.weight",
        "features.10.weight": "convolutions.15.weight",
    },
    dropped=("features.6.bias", "features.8.bias", "features.10.bias", "classifier."),
    random=("convolutions.10.", "convolutions.13.", "convolutions.16.", "connected."),
)
"""Convolutions as torchvision's AlexNet numbers them. Its own weights have other widths (64, 192, ...) and do not fit:
this is for CaffeNet's published weights under those names. Biases that batch norm cancels are dropped."""


def caffenet(
    *,
    frames: int = 1,
    cells: int = 6,
    connected: Sequence[int] = (4096, 4096),
    affine: bool = True,
    conv2_bias: float = 0.0,
) -> FrameNet:
    """Five convolutions, two with local response norm and three with batch norm; fully connected layers.

    Frames need 39 pixels per side. Pools round up, as Caffe's do: 227 pixels leave 6x6 cells, 80 leave 2x2. Weights
    are drawn as in both released codes: normal, standard deviation .01 (fully connected .005), biases 0. Biases that
    batch norm cancels are left out.

    Args:
        frames: clip length: 1, or more for a stack of differences.
        cells: side of the grid of cells that the fully connected layers see.
        connected: widths of the fully connected layers, each with batch norm, ReLU and dropout .5.
        affine: whether batch norm has a scale and a shift.
        conv2_bias: initial biases of the second convolution.
    """
    net = FrameNet(
        _convolutions(input_channels(frames), affine=affine, conv2_bias=conv2_bias),
        _pool(),
        _connected((256 * cells * cells, *connected), affine=affine),
        features=connected[-1],
        frames=frames,
        cells=cells,
        least_side=39,
    )
    net.torchvision = ALEXNET
    return net


def _convolutions(channels: int, *, affine: bool, conv2_bias: float) -> nn.Sequential:
    return nn.Sequential(
        _Scale(GREY_LEVELS),
        _gaussian(nn.Conv2d(channels, 96, 11, stride=4), std=0.01),
        *(nn.ReLU(), _pool(), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)),
        _gaussian(nn.Conv2d(96, 256, 5, padding=2, groups=2), std=0.01, bias=conv2_bias),
        *(nn.ReLU(), _pool(), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)),
        *_convolution(256, 384, groups=1, affine=affine),
        *_convolution(384, 384, groups=2, affine=affine),
        *_convolution(384, 256, groups=2, affine=affine),
    )


def _connected(widths: Sequence[int], *, affine: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [_gaussian(nn.Linear(before, after, bias=False), std=0.005)]
        layers += [nn.BatchNorm1d(after, affine=affine), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers)


class _Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _convolution(inputs: int, outputs: int, *, groups: int, affine: bool) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)
    return _gaussian(convolution, std=0.01), nn.BatchNorm2d(outputs, affine=affine), nn.ReLU()


def _gaussian(layer: nn.Conv2d | nn.Linear, *, std: float, bias: float = 0.0) -> nn.Module:
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


BACKBONES = {
    "caffenet_sl": lambda: caffenet(affine=False, conv2_bias=1.0),
    "caffenet_opn": lambda: caffenet(cells=2, connected=(1024,)),
    # Width and norm of the fully connected layer are not published: OPN's.
    "caffenet_o3n": lambda: caffenet(frames=6, connected=(1024,)),
}
