"""Whether a device computes bfloat16 natively, and training in it: weights and their updates stay in float32."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Precision = Literal["bf16", "fp32"]


def pick_precision(name: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
    """The precision that a recipe names; `auto` is bf16 where the device computes it natively."""
    if name != "auto":
        return name
    return "bf16" if computes_bf16(device) else "fp32"


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; elsewhere they are emulated, and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Private, and in every torch since 2.6; a torch without them is taken for a CPU without them.
        queries = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
        return any(query() for query in queries if query is not None)
    return False


@contextlib.contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within it, convolutions and products of matrices are computed in the precision."""
    if precision == "fp32":
        yield
        return
    apart = _TimePaddedApart() if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16), apart:
        yield


class _TimePaddedApart(TorchFunctionMode):
    """Pads clips in time before a convolution instead of in it.

    On CPUs, torch (2.14, oneDNN) computes the gradient of the weights of a bfloat16 conv3d from memory that nobody
    wrote where clips are shorter than the kernel: 2 frames under 3, as in the last stage of every 3-D network here.
    Padded apart, it is right.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.conv3d:
            return func(*args, **(kwargs or {}))
        return _conv3d(*args, **(kwargs or {}))


def _conv3d(
    clips: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    *rest: Any,
    **more: Any,
) -> Tensor:
    if not isinstance(padding, str):
        time, height, width = (padding,) * 3 if isinstance(padding, int) else padding
        if time and clips.shape[2] < weight.shape[2]:
            clips, padding = F.pad(clips, (0, 0, 0, 0, time, time)), (0, height, width)
    return torch.conv3d(clips, weight, bias, stride, padding, *rest, **more)
