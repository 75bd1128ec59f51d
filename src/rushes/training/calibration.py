"""Random weights whose batch norm has seen the footage: the fair row to compare frozen pretrained weights with.

Pretraining leaves two things in a network: weights, and the mean and variance of every batch norm over the footage.
Random weights with the initial statistics (mean 0, variance 1) lack both, so part of what looks like learning is only
the scale of their features. Statistics need no label and no gradient; only the weights then differ.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from rushes.backbones import Backbone, make_backbone
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.training.data import EvenClips
from rushes.training.networks import normalise

SEGMENTS, CLIPS = 64, 4
"""At most so many segments, evenly spaced, and clips of each."""
_BATCH = 8  # segments


def random_backbone(
    name: str, *, seed: int, footage: Footage, clip_frames: int, crop: int, device: torch.device
) -> Backbone:
    """The random weights that pretraining with this seed begins with, with batch norm's statistics from the footage.

    Args:
        name: of the backbone.
        seed: of the weights.
        footage: its unlabelled and training segments are used; the test segments where there are no others.
        clip_frames: T, frames of a clip.
        crop: side of the square crop in pixels.
        device: where the statistics are computed.

    Returns:
        The network, in evaluation mode, on the device.
    """
    torch.manual_seed(seed)
    net = make_backbone(name).to(device)
    rows = footage.select("unlabelled", "train")
    rows = _spread(rows if len(rows) else footage.select(), SEGMENTS)
    calibrate(net, EvenClips(footage, rows, clips=CLIPS, clip_frames=clip_frames, crop=crop), device=device)
    return net


@torch.no_grad()
def calibrate(net: Backbone, data: EvenClips, *, device: torch.device) -> None:
    """Replaces the statistics of every batch norm by their mean over batches of clips; leaves `net` in evaluation mode.

    Each layer normalises by the batch meanwhile, as in training, so that the layers after it see what they will see.
    A network without batch norm stays as it is.
    """
    net.eval()
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momentum = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    for clips, _ in DataLoader(data, batch_size=_BATCH) if layers else ():
        net(normalise(i420_to_rgb(clips.flatten(0, 1).to(device))))
    for layer, before in zip(layers, momentum, strict=True):
        layer.momentum = before
    net.eval()


def _spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)]
