"""What a step of pretraining costs on this machine, found out by a few of them on footage that is at hand.

tuples = tuple_costs(footage, pretrain=recipe.pretrain, seed=0, flops=1e11, store=store)
"""

import resource
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rushes.config import PretrainConfig
from rushes.footage.reader import Footage
from rushes.pretext import make_task
from rushes.progress import Bar, NullProgress
from rushes.store import Store
from rushes.training.loop import Checkpoints, TrainingSettings, fit, pick_device
from rushes.training.pretext import PretextNet, PretextTuples

_MOST = 2e11  # FLOPs of a measured step on a CPU: seconds
_STEPS = 4  # the first is not counted
_LOOKED_AT = 32

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TupleCosts:
    """Of one tuple."""

    device: str
    """What it was measured on."""
    batch: int
    core_seconds: Doubles
    """[steps]: of the processor, drawing and decoding included."""
    seconds: Doubles
    """[steps]: on the wall, of the same."""


def decode_seconds(footage: Footage, *, pretrain: PretrainConfig, seed: int) -> float:
    """Core-seconds to draw and decode a tuple.

    Raises:
        UserError: no shot of the footage is long enough for the task.
    """
    data = _tuples(footage, pretrain, seed=seed)
    for place in range(2):
        data[0, place]  # loads libraries
    began = _clock()
    for place in range(2, 2 + _LOOKED_AT):
        data[0, place]
    return (_clock() - began) / _LOOKED_AT


def tuple_costs(footage: Footage, *, pretrain: PretrainConfig, seed: int, flops: float, store: Store) -> TupleCosts:
    """Trains for a few steps: the recipe's, in smaller batches where a step would take a CPU long.

    Args:
        footage: to draw from.
        pretrain: the recipe's section.
        seed: of the draws.
        flops: of a tuple.
        store: takes the checkpoint that is not written.

    Raises:
        UserError: no shot of the footage is long enough for the task.
    """
    device = pick_device(pretrain.device)
    batch = pretrain.batch
    if device.type == "cpu":
        batch = min(batch, max(2, round(_MOST / flops)))
    data = _tuples(footage, pretrain, seed=seed, samples=_STEPS * batch)
    net = PretextNet(data.task, backbone=pretrain.backbone)
    plan = TrainingSettings(
        epochs=1,
        batch=batch,
        seed=seed,
        optimizer=pretrain.optimizer,
        checkpoint_steps=_STEPS,
        workers=0,
        device=pretrain.device,
    )
    watch = _Watch()
    fit(
        net,
        data.task.loss,
        data=data,
        validation=None,
        plan=plan,
        checkpoints=Checkpoints(store, "plan"),
        label="",
        progress=watch,
    )
    steps = np.diff(np.array(watch.times), axis=0)[1:] / batch
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


class _Watch(NullProgress):
    """Notes both clocks at each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        self.times.append((_clock(), time.perf_counter()))


def _clock() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
