"""What the steps that train will take: from a few real steps if the device is here, else from its peak FLOP/s."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rushes.config import NO_TASK, Recipe
from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.forecast.estimate import Doubles, Range, total
from rushes.forecast.machine import PEAKS, Machine
from rushes.forecast.measured_sampling import footage_of
from rushes.forecast.measured_training import decode_seconds, tuple_costs
from rushes.forecast.rows import CLOCK, StepForecast, minutes_on
from rushes.forecast.sampling import SamplingForecast, task_span
from rushes.training.budget import elements_of, flops_of

UTILISATION = (0.35, 0.05)
"""Share of a GPU's peak that training reaches, at best and at worst."""
_NETWORKS = {"train": 2, "test": 4}  # that `evaluate` runs over the labelled segments of a split
_FORWARD = 1 / 3  # of the work of a training step


@dataclass(frozen=True, kw_only=True)
class _ClipCost:
    """What a clip costs in training."""

    machine: Machine
    decode: float
    """Core-seconds to read it."""
    loaders: int
    """Processes that read."""
    core_seconds: Range | None = None
    """If it trains on a CPU."""
    gpu_seconds: Range | None = None
    """If it trains on a GPU."""
    note: str
    """How this is known."""

    def row(self, step: str, work: str, *, clips: Range, share: float = 1.0) -> StepForecast:
        """A step that trains on `clips` clips, or does `share` of the work of training on them."""
        if self.core_seconds is not None:
            seconds = clips * self.core_seconds * share
            minutes = minutes_on(self.machine.training, seconds)
            return StepForecast(step=step, work=work, core_hours=seconds * (1 / 3600), minutes=minutes)
        assert self.gpu_seconds is not None
        # Whichever is slower: the GPU, or the processes that read for it.
        least = self.decode / max(1, min(self.loaders, self.machine.training))
        each = self.gpu_seconds * share
        each = Range(max(each.low, least), max(each.middle, least), max(each.high, least))
        hours = clips * each * (1 / 3600)
        core_hours = clips * Range.exactly(self.decode / 3600).spread(1 - CLOCK, 1 + CLOCK)
        return StepForecast(
            step=step, work=work, core_hours=core_hours, gpu_hours=hours * self.machine.gpus, minutes=hours * 60.0
        )


def forecast_training(
    recipe: Recipe, footage: SamplingForecast, machine: Machine, *, scratch: Path
) -> tuple[list[StepForecast], list[str]]:
    """The rows of the steps that train, and notes on what they rest on."""
    if recipe.pretrain.task == NO_TASK:
        return [], ["training is left out: the recipe's task is none"]
    if not footage.windows.middle:
        return [], [f"training is left out: no shot of {task_span(recipe)} frames was found, which the task needs"]
    try:
        cost = _clip_cost(recipe, footage, machine, scratch=scratch)
    except UserError as error:
        return [], [f"training is left out: {error}"]
    rows = [_pretrain(recipe, footage, cost)]
    if not footage.labelled["train"] or not footage.labelled["test"]:
        return rows, [cost.note, "no labels, so no fine-tuning and no evaluation: give --labels"]
    return [*rows, _finetune(recipe, footage, cost), _evaluate(recipe, footage, cost)], [cost.note]


# The rows ------------------------------------------------------------------------------------------------------------


def _pretrain(recipe: Recipe, footage: SamplingForecast, cost: _ClipCost) -> StepForecast:
    config, elements, per_tuple = recipe.pretrain, elements_of(recipe), flops_of(recipe, tuples=1)
    fixed = config.samples_per_epoch
    tuples = (Range.exactly(fixed) if fixed else footage.windows) * config.epochs
    clips = "one clip" if elements == 1 else f"{elements} clips"
    work = f"{_about(tuples)} tuples of {clips}: {_about(tuples * per_tuple)} FLOPs"
    return cost.row("pretrain", work, clips=tuples * elements)


def _finetune(recipe: Recipe, footage: SamplingForecast, cost: _ClipCost) -> StepForecast:
    train, epochs = footage.labelled["train"], recipe.finetune.epochs
    clips = Range.exactly(2 * epochs * train)
    work = f"{_about(clips)} clips: {train:,.0f} segments, {epochs} epochs, also from random weights"
    return cost.row("finetune", work, clips=clips)


def _evaluate(recipe: Recipe, footage: SamplingForecast, cost: _ClipCost) -> StepForecast:
    train, test = footage.labelled["train"], footage.labelled["test"]
    clips = recipe.evaluate.clips * (_NETWORKS["train"] * train + _NETWORKS["test"] * test)
    work = f"{clips:,.0f} clips forward: {train + test:,.0f} segments, 2 to 4 networks"
    return cost.row("evaluate", work, clips=Range.exactly(clips), share=_FORWARD)


def _about(figure: Range) -> str:
    return f"{figure.middle:,.0f}" if figure.middle < 1e6 else f"{figure.middle:.2g}"


# A clip --------------------------------------------------------------------------------------------------------------


def _clip_cost(recipe: Recipe, footage: SamplingForecast, machine: Machine, *, scratch: Path) -> _ClipCost:
    elements, flops = elements_of(recipe), flops_of(recipe, tuples=1)
    config = recipe.pretrain if machine.gpus else replace(recipe.pretrain, device="cpu")
    manifest, store = footage_of(footage.costs, config=recipe.sample, scratch=scratch)
    reader = Footage(manifest, store, short_side=config.short_side)
    decode = decode_seconds(reader, pretrain=config, seed=recipe.seed) / elements
    if not machine.here:
        return _from_peak(machine, decode=decode, loaders=config.workers, flops=flops / elements)
    costs = tuple_costs(reader, pretrain=config, seed=recipe.seed, flops=flops)
    note = f"training was measured in {len(costs.seconds)} steps of {costs.batch} tuples on {costs.device}"
    if costs.device == "cpu":
        cores = _mean(costs.core_seconds) * (1 / elements)
        return _ClipCost(machine=machine, decode=decode, loaders=config.workers, core_seconds=cores, note=note)
    whole = _mean(costs.seconds) * (1 / elements)
    low = max(whole.low - decode, 0.1 * whole.low)  # loaders read at the same time
    seconds = Range(low, math.sqrt(low * whole.high), whole.high)
    return _ClipCost(machine=machine, decode=decode, loaders=config.workers, gpu_seconds=seconds, note=note)


def _from_peak(machine: Machine, *, decode: float, loaders: int, flops: float) -> _ClipCost:
    """The cost of a clip of so many FLOPs on a GPU that is not in this machine."""
    peak, (best, worst) = PEAKS[machine.gpu], UTILISATION
    seconds = Range.exactly(flops / peak).spread(1 / best, 1 / worst)
    note = (
        f"training was not measured, since no GPU is here: FLOPs at {100 * worst:.0f} to {100 * best:.0f} % of an "
        f"{machine.gpu}'s {peak / 1e12:,.0f} TFLOP/s, or reading ({1e3 * decode:.1f} core-ms per clip, {loaders} "
        "loaders), whichever is slower"
    )
    return _ClipCost(machine=machine, decode=decode, loaders=loaders, gpu_seconds=seconds, note=note)


def _mean(seconds: Doubles) -> Range:
    """Mean [steps] with its confidence interval and the clock's error."""
    return total(seconds, np.ones(len(seconds)), whole=1.0, error=CLOCK)
