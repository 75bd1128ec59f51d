"""Residual input: a network's name with a suffix, its weights as they are."""

import pytest
import torch

from rushes.backbones import BACKBONES, Backbone, make_backbone, parameter_count
from rushes.backbones.residual import residual
from rushes.errors import UserError


def test_differences_are_brought_to_the_middle_and_the_last_is_repeated() -> None:
    clips = torch.tensor([0.0, 1.0, 0.5, 0.25]).view(1, 1, 4, 1, 1) * torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1, 1)
    found = residual(clips)
    assert found.shape == (1, 3, 4, 1, 1)
    assert found[0, :, :, 0, 0].tolist() == [
        [1.0, 0.25, 0.375, 0.375],
        [0.0, 0.75, 0.625, 0.625],
        [0.5, 0.5, 0.5, 0.5],
    ]


def test_each_pixel_is_compared_with_itself() -> None:
    clips = torch.randn(2, 3, 5, 4, 6)
    found = residual(clips)
    for step in range(4):
        torch.testing.assert_close(found[:, :, step], (clips[:, :, step + 1] - clips[:, :, step] + 1) / 2)


def test_the_network_behind_it_is_the_same_and_takes_the_same_weights() -> None:
    torch.manual_seed(0)
    plain: Backbone = make_backbone("r3d").eval()
    torch.manual_seed(0)
    net: Backbone = make_backbone("r3d+residual").eval()
    assert (net.features, net.frames, net.least_side) == (plain.features, plain.frames, plain.least_side)
    assert parameter_count(net) == parameter_count(plain)
    state = net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    net.load_state_dict(plain.state_dict())
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected, maps = plain(residual(clips)), plain.maps(residual(clips))
        torch.testing.assert_close(net(clips), expected)
        torch.testing.assert_close(net.maps(clips), maps)
        assert not torch.allclose(plain(clips), expected, rtol=1e-2)
        # What stands still is not seen.
        torch.testing.assert_close(net(clips + torch.randn(2, 3, 1, 32, 32)), expected, rtol=1e-3, atol=1e-4)
    assert not plain.residual_input


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_of_more_than_one_frame_has_it(name: str) -> None:
    with torch.device("meta"):
        plain: Backbone = make_backbone(name)
        if plain.frames == 1:
            with pytest.raises(UserError, match=rf"{name}\+residual: one frame has no differences: use {name}"):
                make_backbone(f"{name}+residual")
            return
        net: Backbone = make_backbone(f"{name}+residual").eval()
        least = max(plain.least_frames, 2)
        frames, side = net.frames or least, net.least_side
        assert net(torch.zeros(2, 3, frames, side, side)).shape == (2, net.features)
        with pytest.raises(UserError, match=r"pretrain.clip_frames: 1 is not allowed"):
            net(torch.zeros(2, 3, 1, side, side))


def test_another_suffix_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"suffix 'flow' of 'r3d' is not known; r3d\+residual, or r3d"):
        make_backbone("r3d+flow")
    with pytest.raises(UserError, match=r"suffix '' of 'r3d' is not known"):
        make_backbone("r3d+")
    with pytest.raises(UserError, match=r"'r3d18' is not known"):
        make_backbone("r3d18+residual")
