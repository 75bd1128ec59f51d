"""Residual input: what moves instead of what is there (facts: methods.md)."""

import torch
from torch import Tensor


def residual(clips: Tensor) -> Tensor:
    """((x[t+1] - x[t]) + 1) / 2 of clips [N, 3, T, H, W], T at least 2; the last one twice, so that T stays.

    The published formula keeps pictures of 0 to 1 within 0 to 1. Here x is what every backbone gets, of about unit
    variance: the same but for a constant factor on the differences.
    """
    differences = clips[:, :, 1:] - clips[:, :, :-1]
    return (torch.cat([differences, differences[:, :, -1:]], dim=2) + 1) / 2
