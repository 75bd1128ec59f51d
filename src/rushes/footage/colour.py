"""I420 bytes to RGB: one batched tensor operation, on the device that the bytes are on.

Footage, clips and requests are I420 (12 bits per pixel: a full luma plane, two chroma planes of half the side) in
BT.601 limited range, the defaults here. Networks take RGB. Only this module converts one into the other: data loaders
leave the bytes alone, and the exported ONNX graph has the same operations.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Weights:
    """Shares of red, green and blue in luma; `red_v` = 2 - 2 `red` and `blue_u` = 2 - 2 `blue`, exact in decimals."""

    red: float
    green: float
    blue: float
    red_v: float
    blue_u: float


_WEIGHTS = {
    "bt601": _Weights(0.299, 0.587, 0.114, red_v=1.402, blue_u=1.772),
    "bt709": _Weights(0.2126, 0.7152, 0.0722, red_v=1.5748, blue_u=1.8556),
}


def i420_to_rgb(frames: Tensor, *, matrix: Literal["bt601", "bt709"] = "bt601", full_range: bool = False) -> Tensor:
    """Converts I420 frames; chroma is upsampled by repetition.

    Args:
        frames: uint8 `[..., T, H*3/2, W]`, H and W even: H rows of luma, then the bytes of U and of V.
        matrix: of ITU-R BT.601 or BT.709.
        full_range: whether Y, U and V span 0..255; else Y is in 16..235, U and V in 16..240 (around 128 either way).

    Returns:
        float32 `[..., 3, T, H, W]` in 0..1.
    """
    weights = _WEIGHTS[matrix]
    black, luma_scale, chroma_scale = (0, 1.0, 1.0) if full_range else (16, 255 / 219, 255 / 224)
    red_v = chroma_scale * weights.red_v
    green_u = -chroma_scale * weights.blue_u * weights.blue / weights.green
    green_v = -chroma_scale * weights.red_v * weights.red / weights.green
    blue_u = chroma_scale * weights.blue_u
    luma, blue, red = _planes(frames, black)
    colour = torch.stack((red_v * red, green_u * blue + green_v * red, blue_u * blue), dim=-4)
    return (luma_scale * luma.unsqueeze(-4) + _doubled(colour)).clamp(0, 255) / 255


def _planes(frames: Tensor, black: int) -> tuple[Tensor, Tensor, Tensor]:
    """Luma `[..., T, H, W]` above black, U and V `[..., T, H/2, W/2]` around 0, as float32."""
    height, width = frames.shape[-2] * 2 // 3, frames.shape[-1]
    # The chroma planes are cut from the flat bytes: with H not a multiple of 4, U ends in the middle of a row.
    flat = frames.flatten(-2)
    area, quarter = height * width, height * width // 4
    lead = flat.shape[:-1]
    luma = flat[..., :area].reshape(*lead, height, width)
    blue = flat[..., area : area + quarter].reshape(*lead, height // 2, width // 2)
    red = flat[..., area + quarter :].reshape(*lead, height // 2, width // 2)
    return luma.float() - black, blue.float() - 128, red.float() - 128


def _doubled(planes: Tensor) -> Tensor:
    """Every pixel of `[..., H, W]` repeated over 2x2."""
    *lead, height, width = planes.shape
    return planes[..., :, None, :, None].expand(*lead, height, 2, width, 2).reshape(*lead, height * 2, width * 2)
