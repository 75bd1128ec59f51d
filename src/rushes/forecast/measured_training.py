"""The cost of a tuple in pretraining on this machine, measured in a few steps.

costs = tuple_costs(footage, pretrain=recipe.pretrain, seed=0, flops=1e11)
"""

import dataclasses
import resource
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rushes.config import PretrainConfig
from rushes.footage.reader import Footage
from rushes.pretext import make_task
from rushes.progress import Bar, NullProgress
from rushes.training.device import pick_device
from rushes.training.loop import fit
from rushes.training.pretext import PretextNet, PretextTuples

_STEP_FLOPS = 2e11  # at most, per step on a CPU: seconds
_STEPS = 4  # the first is not counted
_DECODED = 32  # tuples that are decoded to measure it

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TupleCosts:
    """What training takes per tuple."""

    device: str
    """Where it was measured."""
    batch: int
    core_seconds: Doubles
    """[steps]: core-seconds, drawing and decoding included."""
    seconds: Doubles
    """[steps]: wall-clock seconds of the same."""


def decode_seconds(footage: Footage, *, pretrain: PretrainConfig, seed: int) -> float:
    """Core-seconds to draw and decode a tuple.

    Raises:
        UserError: no shot of the footage is long enough for the task.
    """
    data = _tuples(footage, pretrain, seed=seed)
    for index in range(2):
        data[0, index]  # loads libraries
    began = _clock()
    for index in range(2, 2 + _DECODED):
        data[0, index]
    return (_clock() - began) / _DECODED


def tuple_costs(footage: Footage, *, pretrain: PretrainConfig, seed: int, flops: float) -> TupleCosts:
    """Trains for a few steps of the recipe, in smaller batches if a CPU would take long for a step.

    Args:
        footage: to draw from.
        pretrain: the recipe's section.
        seed: of the draws.
        flops: per tuple.

    Raises:
        UserError: no shot of the footage is long enough for the task.
    """
    device = pick_device(pretrain.device)
    batch = pretrain.batch
    if device.type == "cpu":
        batch = min(batch, max(2, round(_STEP_FLOPS / flops)))
    data = _tuples(footage, pretrain, seed=seed, samples=_STEPS * batch)
    net = PretextNet(data.task, backbone=pretrain.backbone)
    plan = dataclasses.replace(pretrain, epochs=1, patience=0, batch=batch, accumulate=1, workers=0)
    clocks = _Clocks()
    fit(
        net,
        data.task.loss,
        data=data,
        validation=None,
        plan=plan,
        seed=seed,
        checkpoints=None,
        label="",
        progress=clocks,
    )
    steps = np.diff(np.array(clocks.times), axis=0)[1:] / batch
    return TupleCosts(device=str(device), batch=batch, core_seconds=steps[:, 0], seconds=steps[:, 1])


def _tuples(footage: Footage, pretrain: PretrainConfig, *, seed: int, samples: int = 0) -> PretextTuples:
    return PretextTuples(
        footage,
        footage.select(),
        task=make_task(pretrain.task, pretrain.options),
        clip_frames=pretrain.clip_frames,
        crop=pretrain.crop,
        seed=seed,
        samples=samples,
    )


class _Clocks(NullProgress):
    """Records both clocks at each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a step has ended once the device has done it
        self.times.append((_clock(), time.perf_counter()))


def _clock() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
