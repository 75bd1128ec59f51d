"""Video networks: [N, 3, T, H, W] float in, [N, features] out.

`BACKBONES` is the list of what a recipe's `pretrain.backbone` may name. To add one, write its module here and add a
line to the dict.
"""

from collections.abc import Callable

from torch import nn

from rushes.backbones.resnet3d import ResNet3D
from rushes.errors import UserError

BACKBONES: dict[str, Callable[[], ResNet3D]] = {
    "r3d": lambda: ResNet3D(factored=False),
    "r2plus1d": lambda: ResNet3D(factored=True),
    "tiny_r3d": lambda: ResNet3D(factored=False, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
    "tiny_r2plus1d": lambda: ResNet3D(factored=True, widths=(16, 32, 64, 128), stem_kernel=5, differences=True),
}


def make_backbone(name: str) -> ResNet3D:
    """Builds a network with random weights, drawn from torch's global generator.

    Raises:
        UserError: unknown name.
    """
    if name not in BACKBONES:
        raise UserError(f"pretrain.backbone: {name!r} is not known; one of {', '.join(BACKBONES)}")
    return BACKBONES[name]()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
