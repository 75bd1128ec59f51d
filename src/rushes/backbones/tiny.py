"""A small 2-D network, for frames of about 48 pixels on a CPU."""

import itertools

from torch import nn

from rushes.backbones.frame_net import FrameNet, input_channels

WIDTHS = (16, 32, 64, 128)


def tiny_frame_net(*, frames: int = 1) -> FrameNet:
    """Four convolutions of stride 2, 5x5 and then 3x3, and one fully connected layer of 128 over 3x3 cells.

    As in CaffeNet, the layer knows where each cell is: the order of frames shows in where things are. At 48 pixels the
    cells are the maps, at other sizes (16 pixels at least) averages or repetitions of them. Weights are drawn as
    PyTorch does.

    Args:
        frames: clip length: 1, or more for a stack of differences.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((input_channels(frames), *WIDTHS)):
        kernel = 3 if layers else 5
        convolution = nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    cells, features = 3, WIDTHS[-1]
    connected = (nn.Linear(features * cells * cells, features, bias=False), nn.BatchNorm1d(features), nn.ReLU())
    return FrameNet(
        nn.Sequential(*layers),
        nn.Identity(),
        nn.Sequential(*connected),
        features=features,
        frames=frames,
        cells=cells,
    )


BACKBONES = {
    "tiny_frame": tiny_frame_net,
    "tiny_stack": lambda: tiny_frame_net(frames=6),
}
