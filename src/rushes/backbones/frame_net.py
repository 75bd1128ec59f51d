"""2-D networks as backbones: one frame, or a stack of differences of successive frames."""

from torch import Tensor, nn

from rushes.backbones.backbone import Backbone


def input_channels(frames: int) -> int:
    """Channels that a network of clips of this length sees: 3 of a frame, 15 of 6 frames (5 RGB differences)."""
    return 3 if frames == 1 else 3 * (frames - 1)


def as_channels(clips: Tensor) -> Tensor:
    """A frame as it is, or the differences of successive frames as channels.

    [N, 3, 1, H, W] -> [N, 3, H, W]; [N, 3, T, H, W] -> [N, (T - 1) * 3, H, W], difference by difference.
    """
    if clips.shape[2] == 1:
        return clips[:, :, 0]
    return (clips[:, :, 1:] - clips[:, :, :-1]).transpose(1, 2).flatten(1, 2)


class FrameNet(Backbone):
    """2-D convolutions, a pool, and fully connected layers that see a grid of cells.

    The grid is fixed, so that weights do not depend on the size of frames: at the published size `pool` leaves exactly
    these cells; at other sizes cells are averaged or repeated.

    Args:
        convolutions: [N, channels, H, W] -> [N, C, h, w]; for `channels` see `input_channels`.
        pool: applied to the activations before the grid.
        connected: [N, C * cells * cells] -> [N, features].
        features: length of the features.
        frames: clip length: 1, or more for a stack of differences.
        cells: side of the grid.
        least_side: smallest height and width that leave one cell, in pixels.
    """

    def __init__(
        self,
        convolutions: nn.Module,
        pool: nn.Module,
        connected: nn.Module,
        *,
        features: int,
        frames: int,
        cells: int,
        least_side: int = 16,
    ) -> None:
        super().__init__(features=features, frames=frames, least_side=least_side)
        self.convolutions = convolutions
        self.pool = nn.Sequential(pool, nn.AdaptiveAvgPool2d(cells), nn.Flatten())
        self.connected = connected

    def activations(self, clips: Tensor) -> Tensor:
        """Last convolution, before the pool: [N, 3, frames, H, W] -> [N, C, 1, h, w]."""
        activations: Tensor = self.convolutions(as_channels(clips))
        return activations.unsqueeze(2)

    def pooled(self, maps: Tensor) -> Tensor:
        """Fully connected layers over the cells: [N, C, 1, h, w] -> [N, features]."""
        features: Tensor = self.connected(self.pool(maps.squeeze(2)))
        return features
