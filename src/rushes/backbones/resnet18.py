"""torchvision's R3D-18 and R(2+1)D-18 (Tran et al., CVPR 2018): two blocks per stage, where VCOP has one."""

from typing import Literal

import torch
from torch import Tensor, nn

from rushes.backbones.backbone import Backbone, Names

_PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")


class ResNet18(Backbone):
    """torchvision's network without its classifier: global average pool -> 512 features, any clip length.

    Layers keep torchvision's names and initialisation (Kaiming, normal). Its Kinetics weights fit; they expect a mean
    of .43 .39 .38 and a standard deviation of .23 .22 .22, close to the input of every backbone here.
    """

    torchvision = Names(ours={f"{part}.": f"{part}." for part in _PARTS}, dropped=("fc.",))

    def __init__(self, name: Literal["r3d_18", "r2plus1d_18"]) -> None:
        from torchvision.models import video  # a second to import, for these two networks only

        super().__init__(features=512, least_frames=2)
        net: nn.Module = {"r3d_18": video.r3d_18, "r2plus1d_18": video.r2plus1d_18}[name](weights=None)
        for part in _PARTS:
            self.add_module(part, net.get_submodule(part))
        self.to(memory_format=torch.channels_last_3d)

    def activations(self, clips: Tensor) -> Tensor:
        """Last block: [N, 3, T, H, W] -> [N, 512, T / 8, H / 16, W / 16], rounded up."""
        activations = clips.contiguous(memory_format=torch.channels_last_3d)
        for part in self.children():
            activations = part(activations)
        return activations


BACKBONES = {
    "r3d_18": lambda: ResNet18("r3d_18"),
    "r2plus1d_18": lambda: ResNet18("r2plus1d_18"),
}
