"""The row of random weights has batch norm's statistics of the footage, and nothing else of it."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rushes.backbones import BACKBONES, Backbone, make_backbone
from rushes.evaluation.features import clip_means
from rushes.evaluation.probes import linear_probe, nearest_neighbour
from rushes.footage.colour import i420_to_rgb
from rushes.progress import NullProgress
from rushes.training.calibration import calibrate, random_backbone
from rushes.training.data import EvenClips
from rushes.training.networks import normalise
from tests.training.stand_in import stand_in

CPU = torch.device("cpu")


def clips(*, segments: int = 24) -> EvenClips:
    footage = stand_in(lengths=[30] * segments, height=32, width=32)
    return EvenClips(footage, footage.select(), clips=2, clip_frames=8, crop=32)


def features(net: Backbone, data: EvenClips) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    bar = NullProgress().bar("test", total=len(data), unit="segments")
    found = clip_means(data, {"net": lambda i420: net(normalise(i420_to_rgb(i420)))}, device=CPU, batch=16, bar=bar)
    return found["net"]


def rescaled(net: Backbone, factor: float) -> Backbone:
    """The same random weights with every convolution's output larger by a factor, and other initial statistics."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.mul_(factor)
            if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.add_(0.3)
                module.running_var.mul_(factor)
    return other


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_two_random_networks_of_another_scale_get_the_same_probe(factor: float) -> None:
    data = clips()
    torch.manual_seed(1)
    net = make_backbone("tiny_r3d").eval()
    other = rescaled(net, factor).eval()
    classes = np.arange(len(data)) % 3
    assert not np.allclose(features(net, data), features(other, data), rtol=0.1), "they differ before"
    for one in (net, other):
        calibrate(one, data, device=CPU)
    mine, theirs = features(net, data), features(other, data)
    np.testing.assert_allclose(theirs, mine, rtol=0.02, atol=0.02 * float(mine.std()))
    half = len(data) // 2
    for predict in (lambda *a: linear_probe(*a, c=1.0), nearest_neighbour):
        expected = predict(mine[:half], classes[:half], mine[half:])
        assert (predict(theirs[:half], classes[:half], theirs[half:]) == expected).all()


def test_the_statistics_are_those_of_the_clips() -> None:
    data = clips(segments=8)  # one batch
    torch.manual_seed(2)
    net = make_backbone("tiny_r3d")
    first = next(module for module in net.modules() if isinstance(module, _BatchNorm))
    inputs: list[Tensor] = []
    first.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    calibrate(net, data, device=CPU)
    (seen,) = inputs
    over = [axis for axis in range(seen.dim()) if axis != 1]
    assert first.running_mean is not None and first.running_var is not None
    torch.testing.assert_close(first.running_mean, seen.mean(dim=over))
    torch.testing.assert_close(first.running_var, seen.var(dim=over))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_weights_and_settings_of_every_backbone_stay(name: str) -> None:
    torch.manual_seed(3)
    plain = make_backbone(name)
    side, frames = max(32, plain.least_side + plain.least_side % 2), plain.frames or max(plain.least_frames, 4)
    footage = stand_in(lengths=[30] * 3, height=side, width=side)
    net = random_backbone(name, seed=3, footage=footage, clip_frames=frames, crop=side, device=CPU)
    assert not net.training
    for (key, expected), found in zip(plain.named_parameters(), net.parameters(), strict=True):
        assert torch.equal(expected, found), key
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert [m.momentum for m in layers] == [m.momentum for m in plain.modules() if isinstance(m, _BatchNorm)]
    assert all(int(m.num_batches_tracked or 0) == 1 for m in layers)


def test_it_is_a_function_of_seed_and_footage() -> None:
    footage = stand_in(lengths=[30] * 6, height=32, width=32)
    runs = [
        random_backbone("tiny_r3d", seed=seed, footage=footage, clip_frames=8, crop=32, device=CPU).state_dict()
        for seed in (5, 5, 6)
    ]
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())
    assert not all(torch.equal(value, runs[2][key]) for key, value in runs[0].items())
