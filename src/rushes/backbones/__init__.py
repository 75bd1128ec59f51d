"""Video networks: [N, 3, T, H, W] float in, [N, features] out.

What every network is to the rest of the project (`Backbone`):

- `features`: length of the features;
- `frames`: the clip length T that the network takes; 1 for networks of frames, None for any;
- `maps(clips)`: its last convolutional activations, [N, C, t, h, w];
- `forward(clips)`: the features, [N, features];
- `check(frames=, height=, width=)`, which both call: a UserError that says what is needed where clips do not fit.

A frame is a clip of one frame everywhere; a network that sees differences of frames, or a stack of them, makes them
itself. A network consists of plain tensor operations on fixed T, H and W, since it is exported to ONNX.

To add one, write its module here, and end it with `BACKBONES = {"my_net": MyNet}`: that is what a recipe's
`pretrain.backbone` names. Or write a plugin (`rushes.plugins`).
"""

from torch import nn

from rushes import plugins
from rushes.backbones.backbone import Backbone
from rushes.errors import UserError

__all__ = ["BACKBONES", "Backbone", "make_backbone", "parameter_count"]

BACKBONES = plugins.built_in("backbone")
"""Names of the networks of this package's modules."""


def make_backbone(name: str) -> Backbone:
    """Builds a network with random weights, drawn from torch's global generator.

    Args:
        name: one of `BACKBONES` or a plugin's.

    Raises:
        UserError: unknown name, or a plugin that is no backbone.
    """
    net = plugins.load("backbone", name)()
    if not isinstance(net, Backbone):
        raise UserError(
            f"pretrain.backbone: {name!r} makes a {type(net).__name__}; expected a rushes.backbones.Backbone"
        )
    return net


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
