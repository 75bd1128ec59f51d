"""The networks: as large as published, no dead parameter, the shapes that the rest relies on."""

import pytest
import torch
from torch import nn
from torchvision.models import video

from rushes.backbones import BACKBONES, make_backbone, parameter_count
from rushes.errors import UserError


@pytest.mark.parametrize(
    ("name", "millions", "exact"),
    [
        ("r3d", 14.4, 14_361_792),
        ("r2plus1d", 14.4, 14_365_303),
        ("tiny_r3d", 0.9, 900_528),
        ("tiny_r2plus1d", 0.9, 901_839),
    ],
)
def test_parameters_are_as_many_as_published(name: str, millions: float, exact: int) -> None:
    count = parameter_count(make_backbone(name))
    assert round(count / 1e6, 1) == millions
    assert count == exact


def test_r3d_is_torchvisions_with_one_block_a_stage() -> None:
    block, conv, stem = video.resnet.BasicBlock, video.resnet.Conv3DSimple, video.resnet.BasicStem
    theirs = video.resnet.VideoResNet(block, [conv] * 4, [1, 1, 1, 1], stem)
    theirs.fc = nn.Identity()
    assert parameter_count(theirs) == parameter_count(make_backbone("r3d"))


def test_the_factored_stem_has_83_middle_channels() -> None:
    stem = make_backbone("r2plus1d").stem
    spatial = next(m for m in stem.modules() if isinstance(m, nn.Conv3d))
    assert (spatial.out_channels, spatial.kernel_size, spatial.stride) == (83, (1, 7, 7), (1, 2, 2))


@pytest.mark.parametrize("name", ["r2plus1d", "tiny_r2plus1d"])
def test_every_convolution_is_factored_the_shortcuts_too(name: str) -> None:
    for module in make_backbone(name).modules():
        if isinstance(module, nn.Conv3d):
            t, h, w = module.kernel_size
            assert t == 1 or (h, w) == (1, 1)
            assert module.bias is None


def test_stages_downsample_as_published() -> None:
    net = make_backbone("r3d").eval()
    with torch.no_grad():
        clip = torch.randn(1, 3, 16, 112, 112)
        assert net.stem(clip).shape == (1, 64, 16, 56, 56)
        maps = net.maps(clip)
    assert maps.shape == (1, 512, 2, 7, 7)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    net = make_backbone(name)
    features = net(torch.randn(2, 3, 8, 32, 32))
    assert features.shape == (2, net.features)
    (features * torch.randn_like(features)).sum().backward()
    dead = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("name", ["tiny_r3d", "tiny_r2plus1d"])
@pytest.mark.parametrize("side", [16, 40, 48, 56])
def test_tiny_networks_take_small_clips_of_any_number(name: str, side: int) -> None:
    net = make_backbone(name).eval()
    with torch.no_grad():
        both = net(torch.cat([torch.full((1, 3, 8, side, side), 0.5), torch.randn(2, 3, 8, side, side)]))
        alone = net(torch.full((1, 3, 8, side, side), 0.5))
    assert both.shape == (3, 128)
    # In evaluation mode a clip's features do not depend on its neighbours.
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


def test_networks_see_time() -> None:
    torch.manual_seed(0)
    clip = torch.randn(1, 3, 8, 40, 40)
    for name in ("tiny_r3d", "tiny_r2plus1d"):
        net = make_backbone(name).eval()
        assert not torch.allclose(net(clip), net(clip.flip(2)), atol=1e-4)


def test_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return make_backbone("tiny_r3d").state_dict()

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="'r3d18' is not known; one of r3d, r2plus1d"):
        make_backbone("r3d18")
