"""The contract that every backbone keeps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rushes.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of a published state dict mapped to a backbone's; all are prefixes of keys."""

    ours: Mapping[str, str]
    """Theirs to ours."""
    dropped: tuple[str, ...] = ()
    """Theirs that are not loaded, such as a classifier's."""
    random: tuple[str, ...] = ()
    """Ours without a counterpart, which keep their random weights."""


class Backbone(nn.Module, ABC):
    """A video network: [N, 3, T, H, W] float, of about zero mean and unit variance, in; [N, features] out.

    A subclass computes `activations`, and overrides `pooled` where the features are not their mean.

    Args:
        features: length of the features.
        frames: the clip length T that it takes: 1 for a network of single frames; None for any.
        least_frames: shortest clip, where any length is allowed.
        least_side: smallest height and width that leave one cell, in pixels.
    """

    torchvision: Names | None = None
    """Names in torchvision's file of weights for this network, where there is one."""

    def __init__(
        self, *, features: int, frames: int | None = None, least_frames: int = 1, least_side: int = 16
    ) -> None:
        super().__init__()
        self.features = features
        self.frames = frames
        self.least_frames = least_frames
        self.least_side = least_side

    @abstractmethod
    def activations(self, clips: Tensor) -> Tensor:
        """Last convolutional activations of clips that `check` allows: [N, 3, T, H, W] -> [N, C, t, h, w]."""

    def pooled(self, maps: Tensor) -> Tensor:
        """Features of these activations: [N, C, t, h, w] -> [N, features]."""
        return maps.mean(dim=(2, 3, 4))

    def maps(self, clips: Tensor) -> Tensor:
        """Returns the last convolutional activations: [N, 3, T, H, W] -> [N, C, t, h, w].

        Raises:
            UserError: see `check`.
        """
        self.check(frames=clips.shape[2], height=clips.shape[3], width=clips.shape[4])
        return self.activations(clips)

    def forward(self, clips: Tensor) -> Tensor:
        """Returns features: [N, 3, T, H, W] -> [N, features].

        Raises:
            UserError: see `check`.
        """
        return self.pooled(self.maps(clips))

    def check(self, *, frames: int, height: int, width: int) -> None:
        """Checks that clips of this geometry fit.

        Raises:
            UserError: another number of frames than the network takes, or too few pixels per side.
        """
        if self.frames is not None and frames != self.frames:
            raise UserError(f"pretrain.clip_frames: {frames} is not allowed; this backbone takes {self.frames}")
        if frames < self.least_frames:
            raise UserError(f"pretrain.clip_frames: {frames} is not allowed; this backbone needs {self.least_frames}")
        if min(height, width) < self.least_side:
            raise UserError(
                f"pretrain.crop: {height}x{width} is not allowed; this backbone needs {self.least_side} pixels per side"
            )
