"""Video networks: [N, 3, T, H, W] float in, [N, features] out.

`BACKBONES` is the list of what a recipe's `pretrain.backbone` may name. The contract (`Backbone`):

- `features`: length of the features;
- `frames`: the clip length T that the network takes; 1 for networks of frames, None for any;
- `maps(clips)`: its last convolutional activations, [N, C, t, h, w];
- `forward(clips)`: the features, [N, features];
- `check(frames=, height=, width=)`, which both call: a UserError that says what is needed where clips do not fit.

To the rest of the project a frame is a clip of one frame, and what a network makes of its frames (differences, a stack
of them) is its own business. A network consists of plain tensor operations on fixed T, H and W: it is exported to ONNX.

To add one, write its module here and add a line to the dict; or write a plugin (`rushes.plugins`).
"""

from collections.abc import Callable

from torch import nn

from rushes import plugins
from rushes.backbones.backbone import Backbone
from rushes.backbones.c3d import C3D
from rushes.backbones.caffenet import caffenet
from rushes.backbones.resnet3d import ResNet3D
from rushes.backbones.resnet18 import ResNet18
from rushes.backbones.tiny import tiny_picture_net
from rushes.errors import UserError

__all__ = ["BACKBONES", "Backbone", "make_backbone", "parameter_count"]

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "r3d": lambda: ResNet3D(factored=False),
    "r2plus1d": lambda: ResNet3D(factored=True),
    "c3d": C3D,
    "r3d_18": lambda: ResNet18("r3d_18"),
    "r2plus1d_18": lambda: ResNet18("r2plus1d_18"),
    "caffenet_sl": lambda: caffenet(affine=False, conv2_bias=1.0),
    "caffenet_opn": lambda: caffenet(cells=2, connected=(1024,)),
    # Width and norm of the fully connected layer are not published: OPN's.
    "caffenet_o3n": lambda: caffenet(frames=6, connected=(1024,)),
    "tiny_r3d": lambda: ResNet3D(factored=False, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
    "tiny_r2plus1d": lambda: ResNet3D(factored=True, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
    "tiny_frame": tiny_picture_net,
    "tiny_stack": lambda: tiny_picture_net(frames=6),
}


def make_backbone(name: str) -> Backbone:
    """Builds a network with random weights, drawn from torch's global generator.

    Args:
        name: one of `BACKBONES` or a plugin's.

    Raises:
        UserError: unknown name, or a plugin that is no backbone.
    """
    net = plugins.look_up("backbone", name, BACKBONES)()
    if not isinstance(net, Backbone):
        raise UserError(
            f"pretrain.backbone: {name!r} makes a {type(net).__name__}; expected a rushes.backbones.Backbone"
        )
    return net


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
