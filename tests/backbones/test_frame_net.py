"""2-D networks: what they see of a clip, and CaffeNet as published."""

from typing import Any

import pytest
import torch
from torch import nn

from rushes.backbones import Backbone, make_backbone, parameter_count
from rushes.backbones.frame_net import as_channels, input_channels


def test_a_frame_is_seen_as_it_is() -> None:
    clips = torch.randn(2, 3, 1, 4, 5)
    assert torch.equal(as_channels(clips), clips[:, :, 0])
    assert input_channels(1) == 3


def test_six_frames_are_seen_as_five_differences_of_three_colours() -> None:
    clips = torch.randn(2, 3, 6, 4, 5)
    seen = as_channels(clips)
    assert seen.shape == (2, input_channels(6), 4, 5) == (2, 15, 4, 5)
    for step in range(5):
        for colour in range(3):
            assert torch.equal(seen[:, 3 * step + colour], clips[:, colour, step + 1] - clips[:, colour, step])


@pytest.mark.parametrize("name", ["caffenet_o3n", "tiny_stack"])
def test_a_stack_shows_motion_and_its_direction_only(name: str) -> None:
    torch.manual_seed(0)
    net: Backbone = make_backbone(name).eval()
    clips = torch.randn(2, 3, 6, 48, 48)
    with torch.no_grad():
        features = net(clips)
        # What stands still is not seen.
        torch.testing.assert_close(net(clips + torch.randn(2, 3, 1, 48, 48)), features, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(net(clips.flip(2)), features, rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "side", "maps", "pool", "features"),
    [
        ("caffenet_sl", 227, (256, 1, 13, 13), (256, 6, 6), 4096),
        ("caffenet_opn", 80, (256, 1, 4, 4), (256, 2, 2), 1024),
        ("caffenet_o3n", 227, (256, 1, 13, 13), (256, 6, 6), 1024),
        ("tiny_frame", 48, (128, 1, 3, 3), (128, 3, 3), 128),
    ],
)
def test_at_the_published_side_the_pool_leaves_the_published_cells(
    name: str, side: int, maps: tuple[int, ...], pool: tuple[int, ...], features: int
) -> None:
    with torch.device("meta"):  # shapes without numbers
        net: Any = make_backbone(name).eval()
        found = net.maps(torch.zeros(1, 3, net.frames, side, side))
        assert found.shape[1:] == maps
        assert net.pool[0](found.squeeze(2)).shape[1:] == pool
        assert net.pooled(found).shape == (1, features)
    # So the layers see the cells themselves, in order.
    cells = torch.rand(1, *pool)
    torch.testing.assert_close(net.pool[1:](cells), cells.flatten(1))


@pytest.mark.parametrize("side", [(40, 56), (48, 48), (112, 112)])
def test_other_sides_are_brought_to_the_same_cells(side: tuple[int, int]) -> None:
    for name in ("caffenet_opn", "tiny_frame"):
        net: Backbone = make_backbone(name).eval()
        assert net(torch.randn(2, 3, 1, *side)).shape == (2, net.features)


def test_caffenets_convolutions_are_as_published() -> None:
    for name, channels in (("caffenet_opn", 3), ("caffenet_o3n", 15)):
        with torch.device("meta"):
            convolutions = [m for m in make_backbone(name).modules() if isinstance(m, nn.Conv2d)]
        assert [m.in_channels for m in convolutions] == [channels, 96, 256, 384, 384]
        assert [m.out_channels for m in convolutions] == [96, 256, 384, 384, 256]
        assert [m.groups for m in convolutions] == [1, 2, 1, 2, 2]


def test_caffenets_norms_are_as_published() -> None:
    for name, affine, count in (("caffenet_sl", False, 5), ("caffenet_opn", True, 4)):
        with torch.device("meta"):
            modules = list(make_backbone(name).modules())
        assert sum(isinstance(m, nn.LocalResponseNorm) for m in modules) == 2
        norms = [m for m in modules if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
        assert [m.affine for m in norms] == [affine] * count
        assert [m.p for m in modules if isinstance(m, nn.Dropout)] == [0.5] * (count - 3)


def test_caffenets_weights_are_drawn_as_published() -> None:
    torch.manual_seed(0)
    modules = list(make_backbone("caffenet_sl").modules())
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            expected = 0.01 if isinstance(module, nn.Conv2d) else 0.005
            assert module.weight.std().item() == pytest.approx(expected, rel=0.02)
    biases = [m.bias for m in modules if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert [set(bias.tolist()) for bias in biases] == [{0.0}, {1.0}]


def test_shuffle_and_learns_network_has_caffenets_size() -> None:
    # Five convolutions and two layers of 4096; biases only where no batch norm follows.
    convolutions = 96 * 363 + 256 * 1200 + 384 * 2304 + 384 * 1728 + 256 * 1728 + 96 + 256
    with torch.device("meta"):
        net = make_backbone("caffenet_sl")
    assert parameter_count(net) == convolutions + 9216 * 4096 + 4096 * 4096


def test_caffenets_first_convolution_sees_grey_levels() -> None:
    torch.manual_seed(0)
    net: Any = make_backbone("caffenet_opn")
    seen = net.convolutions[:2](torch.randn(2, 3, 80, 80))
    # Variance 1 in, as the rest of the project gives it; 11x11x3 weights of .01 over a deviation of .225 x 255 levels.
    assert seen.std().item() == pytest.approx(0.225 * 255 * 0.01 * 363**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["caffenet_opn", "tiny_frame"])
def test_features_tell_where_in_the_frame_something_is(name: str) -> None:
    torch.manual_seed(0)
    net: Backbone = make_backbone(name).eval()
    maps = torch.rand(1, 128 if name == "tiny_frame" else 256, 1, 6, 6)
    with torch.no_grad():
        # A global average would not tell a picture from its mirror image.
        assert not torch.allclose(net.pooled(maps), net.pooled(maps.flip(-1)), rtol=0.1)
