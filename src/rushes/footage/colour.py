"""I420 bytes to RGB: one batched tensor operation on whatever device the bytes are on.

Footage, clips and requests are I420 (12 bits a pixel: a full luma plane, two chroma planes of half the side) in
BT.601 limited range. Networks see RGB. This is the only place that turns one into the other: data loaders leave the
bytes alone, and the exported ONNX graph holds these same operations.
"""

import torch
from torch import Tensor

# BT.601, limited range: Y in 16..235, U and V in 16..240 around 128.
LUMA = 255 / 219
RED_V = 255 / 224 * 1.402
GREEN_U = -255 / 224 * 1.772 * 0.114 / 0.587
GREEN_V = -255 / 224 * 1.402 * 0.299 / 0.587
BLUE_U = 255 / 224 * 1.772


def i420_to_rgb(frames: Tensor) -> Tensor:
    """Converts I420 frames; chroma is upsampled by repetition.

    Args:
        frames: uint8 `[..., T, H*3/2, W]`, H and W even: H rows of luma, then the bytes of U and of V.

    Returns:
        float32 `[..., 3, T, H, W]` in 0..1.
    """
    luma, blue, red = _planes(frames)
    colour = torch.stack((RED_V * red, GREEN_U * blue + GREEN_V * red, BLUE_U * blue), dim=-4)
    return (LUMA * luma.unsqueeze(-4) + _doubled(colour)).clamp(0, 255) / 255


def _planes(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Luma `[..., T, H, W]` above black, U and V `[..., T, H/2, W/2]` around 0, as float32."""
    height, width = frames.shape[-2] * 2 // 3, frames.shape[-1]
    # The chroma planes are cut from the flat bytes: with H not a multiple of 4, U ends in the middle of a row.
    flat = frames.flatten(-2)
    area, quarter = height * width, height * width // 4
    lead = flat.shape[:-1]
    luma = flat[..., :area].reshape(*lead, height, width)
    blue = flat[..., area : area + quarter].reshape(*lead, height // 2, width // 2)
    red = flat[..., area + quarter :].reshape(*lead, height // 2, width // 2)
    return luma.float() - 16, blue.float() - 128, red.float() - 128


def _doubled(planes: Tensor) -> Tensor:
    """Every pixel of `[..., H, W]` repeated over 2x2."""
    *lead, height, width = planes.shape
    return planes[..., :, None, :, None].expand(*lead, height, 2, width, 2).reshape(*lead, height * 2, width * 2)
