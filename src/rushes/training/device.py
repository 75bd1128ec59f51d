"""The device that a recipe names."""

import torch

from rushes.errors import UserError


def pick_device(name: str, *, local: int | None = None) -> torch.device:
    """`auto` is the first GPU, or the CPU; of several processes that train together, `local` names the GPU of each.

    Raises:
        UserError: the device is unknown, or a GPU that is missing.
    """
    if name == "auto":
        return pick_device("cuda" if torch.cuda.is_available() else "cpu", local=local)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {name!r} is not available (torch sees no CUDA device): use device cpu, or auto")
    if name == "cuda" and local is not None:
        return torch.device("cuda", local)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: {name!r} is not a device; auto, cpu, cuda or cuda:N") from error
