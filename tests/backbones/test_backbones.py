"""The networks: as large as published, no dead parameter, the shapes that the rest relies on."""

from typing import Any

import pytest
import torch
from torch import nn

from rushes.backbones import BACKBONES, Backbone, make_backbone, parameter_count
from rushes.errors import UserError


@pytest.mark.parametrize(
    ("name", "millions", "exact"),
    [
        ("r3d", 14.4, 14_361_792),
        ("r2plus1d", 14.4, 14_365_303),
        ("c3d", 27.7, 27_658_688),
        ("r3d_18", 33.2, 33_166_272),
        ("r2plus1d_18", 31.3, 31_300_125),
        ("tiny_r3d", 0.9, 900_528),
        ("tiny_r2plus1d", 0.9, 901_839),
        ("tiny_frame", 0.2, 246_160),
        ("tiny_stack", 0.3, 250_960),
    ],
)
def test_parameters_are_as_many_as_published(name: str, millions: float, exact: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        count = parameter_count(make_backbone(name))
    assert round(count / 1e6, 1) == millions
    assert count == exact


def test_r3d_computes_what_torchvisions_with_one_block_a_stage_does() -> None:
    from torchvision.models import video  # here: it takes seconds, in every process that collects this file

    block, conv, stem = video.resnet.BasicBlock, video.resnet.Conv3DSimple, video.resnet.BasicStem
    theirs = video.resnet.VideoResNet(block, [conv] * 4, [1, 1, 1, 1], stem)
    theirs.fc = nn.Identity()
    ours: Backbone = make_backbone("r3d").eval()
    assert parameter_count(theirs) == parameter_count(ours)
    # Layers come in the same order under other names.
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs.eval()(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_torchvisions_own_are_wrapped_with_their_names_and_numbers(name: str) -> None:
    from torchvision.models import video

    theirs = getattr(video, name)().eval()
    theirs.fc = nn.Identity()
    ours: Backbone = make_backbone(name).eval()
    ours.load_state_dict(theirs.state_dict())
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips), rtol=1e-4, atol=1e-5)


def test_names_of_stored_weights_stay() -> None:
    for name in ("r3d", "r2plus1d", "tiny_r3d", "tiny_r2plus1d"):
        inside = ".0" if "plus" in name else ""  # the spatial half of a factored convolution
        keys = set(make_backbone(name).state_dict())
        assert len(keys) == (144 if "plus" in name else 72)
        assert {f"stem.0{inside}.weight", f"stages.3.residual.3{inside}.weight"} < keys
        assert {f"stages.1.shortcut.0{inside}.weight", "stages.3.shortcut.1.running_var"} < keys


def test_the_factored_stem_has_83_middle_channels() -> None:
    net: Any = make_backbone("r2plus1d")
    stem = net.stem
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
    net: Any = make_backbone("r3d").eval()
    with torch.no_grad():
        clip = torch.randn(1, 3, 16, 112, 112)
        assert net.stem(clip).shape == (1, 64, 16, 56, 56)
        maps = net.maps(clip)
    assert maps.shape == (1, 512, 2, 7, 7)


def test_c3d_leaves_the_maps_that_vcop_retrieves_by() -> None:
    with torch.device("meta"):
        maps = make_backbone("c3d").maps(torch.zeros(1, 3, 16, 112, 112))
    assert maps.shape == (1, 512, 2, 7, 7)
    assert nn.functional.max_pool3d(maps, (1, 2, 2)).numel() == 9216


def smallest_clips(net: Backbone, *, clips: int = 2) -> torch.Tensor:
    """Random clips of the least length and side that the network takes."""
    return torch.randn(clips, 3, net.frames or net.least_frames, net.least_side, net.least_side)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_keeps_the_contract(name: str) -> None:
    net: Backbone = make_backbone(name).eval()
    clips = smallest_clips(net, clips=3)
    with torch.no_grad():
        maps, features, alone = net.maps(clips), net(clips), net(clips[1:2])
    assert maps.ndim == 5
    assert all(side >= 1 for side in maps.shape[2:])
    assert features.shape == (3, net.features)
    # In evaluation mode a clip's features do not depend on its neighbours.
    torch.testing.assert_close(features[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_training_step_gives_every_parameter_a_gradient_and_the_same_one_again(name: str) -> None:
    torch.manual_seed(0)
    net: Backbone = make_backbone(name).train()
    side = max(32, net.least_side)
    clips, weights = torch.randn(4, 3, net.frames or 8, side, side), torch.randn(4, net.features)
    one, again = gradients(net, clips, weights), gradients(net, clips, weights)
    sizes = {key: gradient.square().mean().sqrt().item() for key, gradient in one.items()}
    # A bias that batch norm takes away has rounding errors for a gradient.
    assert [key for key, _ in net.named_parameters() if sizes.get(key, 0) < 1e-4 * max(sizes.values())] == []
    assert all(torch.equal(one[key], again[key]) for key in one)


def gradients(net: Backbone, clips: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the features."""
    net.zero_grad()
    torch.manual_seed(1)  # dropout
    (net(clips) * weights).sum().backward()
    return {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", BACKBONES)
def test_clips_that_do_not_fit_are_an_error_that_says_what_is_needed(name: str) -> None:
    with torch.device("meta"):
        net: Backbone = make_backbone(name)
        frames, side = net.frames or net.least_frames, net.least_side
        with pytest.raises(UserError, match=rf"pretrain.crop: {side}x{side - 1} .* needs {side} pixels"):
            net(torch.zeros(2, 3, frames, side, side - 1))
        with pytest.raises(UserError, match=rf"pretrain.clip_frames: {frames - 1} .* (takes|needs) {frames}$"):
            net.maps(torch.zeros(2, 3, frames - 1, side, side))
        longer = torch.zeros(2, 3, frames + 1, side, side)
        if net.frames is None:
            assert net(longer).shape == (2, net.features)
        else:
            with pytest.raises(UserError, match=f"this backbone takes {net.frames}$"):
                net(longer)


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


def frames_of(name: str) -> int | None:
    with torch.device("meta"):
        return make_backbone(name).frames


@pytest.mark.parametrize("name", [name for name in BACKBONES if frames_of(name) != 1])
def test_networks_of_clips_see_the_direction_of_time(name: str) -> None:
    torch.manual_seed(0)
    net: Backbone = make_backbone(name).train()
    side = max(32, net.least_side)
    clips = torch.randn(3, 3, net.frames or 8, side, side)
    with torch.no_grad():
        net(clips)  # batch norm with statistics of its own
        forwards, backwards = net.eval()(clips), net(clips.flip(2))
    assert (forwards - backwards).abs().max() > 1e-3 * forwards.abs().max()


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        state: dict[str, torch.Tensor] = make_backbone(name).state_dict()
        return state

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'r3d18' is not known; one of c3d, .*, r3d, r2plus1d, "):
        make_backbone("r3d18")
