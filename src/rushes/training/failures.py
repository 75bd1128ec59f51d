"""What torch says of memory that is not enough and of workers that were killed, as an error that says what to do."""

import contextlib
import re
import traceback
from collections.abc import Iterator

import torch

from rushes.config import TrainingConfig
from rushes.errors import RushesError


@contextlib.contextmanager
def in_one_line(plan: TrainingConfig) -> Iterator[None]:
    """Turns them into errors of ours, in whatever line torch raises them."""
    try:
        yield
    except RuntimeError as error:
        message = _too_large(error, plan) or _killed_worker(error)
        if message is None:
            raise
        traceback.clear_frames(error.__traceback__)  # lets go of the loader, which ends its other workers
        raise RushesError(message) from error


def _too_large(error: RuntimeError, plan: TrainingConfig) -> str | None:
    on_gpu, text = isinstance(error, torch.OutOfMemoryError), str(error)
    if not on_gpu and "can't allocate memory" not in text:
        return None
    parts, more = f" in {plan.accumulate} parts" if plan.accumulate > 1 else "", 2 * plan.accumulate
    return (
        f"training: the {'GPU' if on_gpu else 'machine'} has too little memory for a batch of {plan.batch}{parts}: "
        f"--SECTION.accumulate {more} computes it in {more} parts, --SECTION.precision bf16 takes less, too; or lower "
        "batch"
    )


def _killed_worker(error: RuntimeError) -> str | None:
    found = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", str(error))
    if found is None:
        return None
    return (
        f"training: loader worker {found[1]} {found[2].rstrip('. ')}, mostly for want of memory: "
        "lower workers, or give the machine more; the same command goes on from the last checkpoint"
    )
