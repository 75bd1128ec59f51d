"""What a run of a model on an archive will cost, before it is run: `rushes plan`.

    forecast = make_forecast(recipe, root="s3://bucket/archive", profile=read_profile("gpu"), ...)

Files are opened (all, or some hundred drawn by size), their segments are planned as the step would, some are drawn by
the work that they promise and really sampled, and the model is really trained for a few steps, where its device is
here. `rushes.forecast.estimate` makes totals of that.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rushes.config import NO_TASK, Recipe
from rushes.errors import UserError
from rushes.footage.archive import Listed, content_digest
from rushes.footage.labels import Annotation
from rushes.forecast.estimate import Doubles, Range, draw, error_of, how_many, total
from rushes.forecast.sampling import Cost, Opened, Piece, footage_of, open_files, sample_some
from rushes.kubeflow.profile import Profile
from rushes.kubeflow.quantities import amount
from rushes.progress import Progress
from rushes.training.budget import elements_of, flops_of

FILES = 400
"""Files that are opened at most."""
LEAST = 16
"""Draws at least: of fewer, no range could be told."""
MOST = 600.0
"""Core-seconds of sampling at most, roughly: a hundredth of a large archive would take hours, and tell no more."""
CLOCK = 0.1
"""By how much the same work may take more or less of a processor that others share."""
SCALING = 0.6
"""Share of a pod's cores that is at work at the least: the last shards, and one slow file, leave some idle."""
UTILISATION = (0.35, 0.05)
"""Share of a GPU's peak that training reaches, at best and at worst."""
PEAKS: Mapping[str, float] = {
    "H200": 494e12,
    "H100": 494e12,
    "L40S": 183e12,
    "A100": 156e12,
    "A30": 82e12,
    "A10": 62e12,
    "L4": 60e12,
    "V100": 15.7e12,
    "T4": 8.1e12,
}
"""Dense FLOP/s of convolutions as torch does them by default (TF32 where there is), by a part of the GPU's name."""
_ASSUMED = "A100"
_HASHED = 1 << 28  # bytes that are read to find out what reading costs
_EVALUATED = {"train": 2, "test": 4}  # networks that `evaluate` runs over the labelled segments of a split
_FORWARD = 1 / 3  # of the work of a training step


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the steps run on."""

    sampling: float
    """Cores, of all pods together."""
    training: float
    """Cores of a training pod."""
    gpus: int
    gpu: str
    """Part of a GPU's name, a key of `PEAKS`."""
    here: bool
    """Whether training can be tried: its device is in this machine."""
    says: str
    """All this in words."""

    @classmethod
    def of(cls, profile: Profile | None) -> "Machine":
        """Of a cluster, or of this machine where there is no profile."""
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if profile is None:
            cores = float(os.cpu_count() or 1)
            gpu = _known(torch.cuda.get_device_name()) if found else ""
            says = f"this machine: {cores:g} cores, {found or 'no'} GPU"
            return cls(sampling=cores, training=cores, gpus=min(found, 1), gpu=gpu, here=True, says=says)
        pod, gpus = amount(profile.cpu.cpu), profile.gpu.count
        gpu = _known(" ".join(profile.gpu.node_selector.values()))
        pods = profile.partitions
        sampling = f"1 pod of {pod:g} cores that samples" if pods == 1 else f"{pods} pods of {pod:g} cores that sample"
        named = f"{gpus} {gpu or f'GPU, taken for an {_ASSUMED},'} a training pod" if gpus else "no GPUs"
        return cls(
            sampling=pod * pods,
            training=amount(profile.train.cpu),
            gpus=gpus,
            gpu=gpu or _ASSUMED,
            here=not gpus or bool(found),
            says=f"profile {profile.name}: {sampling}, {named}",
        )


def _known(name: str) -> str:
    return next((part for part in PEAKS if part in name.upper()), "")


@dataclass(frozen=True, kw_only=True)
class StepForecast:
    """A step."""

    step: str
    work: str
    core_hours: Range | None = None
    gpu_hours: Range | None = None
    gigabytes: Range | None = None
    minutes: Range | None = None


@dataclass(frozen=True, kw_only=True)
class SamplingForecast:
    """What sampling the archive will take and give."""

    core_seconds: Range
    size: Range
    """Bytes."""
    frames: Range
    seconds: float
    """Of video, as the files say."""
    segments: float
    windows: Range
    """Of the pretext task, in what pretraining sees."""
    labelled: Mapping[str, float]
    """Labelled segments by split."""
    files: Sequence[Listed]
    """Those that were opened."""
    unusable: float
    """Share of the opened files that cannot be used."""
    drawn: int
    share: float
    """Of the work, that was done."""
    costs: Sequence[Cost]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run costs, a row a step."""

    rows: Sequence[StepForecast]
    files: int
    size: int
    """Bytes of the archive."""
    footage: SamplingForecast
    machine: Machine
    notes: Sequence[str]
    """What the figures rest on."""


def make_forecast(
    recipe: Recipe,
    *,
    root: str,
    listed: Sequence[Listed],
    annotations: Sequence[Annotation],
    profile: Profile | None,
    share: float,
    scratch: Path,
    progress: Progress,
) -> Forecast:
    """Looks at a part of the archive, and says what all of it costs.

    Args:
        recipe: the model.
        root: folder or URL.
        listed: all its files.
        annotations: of its files.
        profile: the cluster's; None for this machine.
        share: of the sampling that is done for this.
        scratch: folder for the store of it; whoever made it removes it.
        progress: where to report to.

    Raises:
        UserError: nothing of the archive decodes.
    """
    machine = Machine.of(profile)
    footage = sample_part(
        recipe, root=root, listed=listed, annotations=annotations, share=share, scratch=scratch, progress=progress
    )
    size = sum(file.size for file in listed)
    rows = [_pin(root, footage, size=size), _sample(footage, machine)]
    trained, notes = _training(recipe, footage, machine, scratch=scratch)
    return Forecast(rows=[*rows, *trained], files=len(listed), size=size, footage=footage, machine=machine, notes=notes)


# Sampling ------------------------------------------------------------------------------------------------------------


def sample_part(
    recipe: Recipe,
    *,
    root: str,
    listed: Sequence[Listed],
    annotations: Sequence[Annotation],
    share: float,
    scratch: Path,
    progress: Progress,
    files: int = FILES,
) -> SamplingForecast:
    """Opens up to `files` files, samples some of their segments, and makes totals of that.

    Raises:
        UserError: nothing decodes.
    """
    chosen = choose_files(listed, count=files, seed=recipe.seed)
    known = [annotation for annotation in annotations if annotation.path in chosen]
    picked = [file for file in listed if file.path in chosen]
    opened = open_files(root, picked, annotations=known, config=recipe.sample, progress=progress)
    _require_any(opened)
    # In order of path: even steps meet each folder, whose files are often alike, as often as it deserves.
    pieces = opened.pieces
    works = np.array([piece.work for piece in pieces])
    stands = np.array([chosen[piece.planned.segment.source] for piece in pieces])
    whole = float(works @ stands)
    # The error of a piece is in proportion to its work, and so is its cost: by their root, a budget tells most.
    odds = np.sqrt(works)
    count = how_many(works, odds * stands, budget=min(share * whole, MOST))
    drawn = draw(odds * stands, max(LEAST, count), seed=recipe.seed)
    once, back = np.unique(drawn, return_inverse=True)
    costs = sample_some(root, [pieces[n] for n in once], config=recipe.sample, scratch=scratch, progress=progress)
    _require_sampled(costs)
    error = 0.0 if len(chosen) == len(listed) else _error_of_choice(opened, picked)

    def sum_of(values: Callable[[Cost], float], error: float) -> Range:
        """The archive's; nothing comes of what kills its process."""
        each = np.array([values(cost) if cost else 0.0 for cost in (costs[n] for n in back)])
        return total(each / odds[drawn], works[drawn] / odds[drawn], whole=whole, error=error)

    opening = sum(chosen[path] * seconds for path, seconds in opened.seconds.items())
    clock = math.hypot(error, CLOCK)
    return SamplingForecast(
        core_seconds=sum_of(lambda cost: cost.seconds, clock) + Range.exactly(opening),
        size=sum_of(lambda cost: cost.size, error),
        frames=sum_of(lambda cost: cost.measured.frames, error),
        seconds=float(stands @ np.array([piece.seconds for piece in pieces])),
        segments=float(stands.sum()),
        windows=sum_of(lambda cost: cost.windows(_span(recipe)), error) * _seen(pieces, stands),
        labelled={split: _labelled(pieces, stands, split) for split in _EVALUATED},
        files=picked,
        unusable=len(opened.failures) / len(picked),
        drawn=len(once),
        share=float(works[once].sum()) / whole,
        costs=[cost for cost in costs if cost],
    )


def choose_files(listed: Sequence[Listed], *, count: int, seed: int) -> dict[str, float]:
    """Files to open: all, or so many drawn by their size; by path, how many such files each stands for.

    A file that is drawn twice as often stands for half as many.
    """
    if len(listed) <= count:
        return {file.path: 1.0 for file in listed}
    odds = np.array([_odds(file) for file in listed])
    places, times = np.unique(draw(odds, count, seed=seed), return_counts=True)
    weights = times * odds.sum() / (count * odds[places])
    return {listed[place].path: float(weight) for place, weight in zip(places, weights, strict=True)}


def _odds(file: Listed) -> float:
    """Large files are drawn more often, but not in proportion: bytes foretell work badly where they are few a second.

    A power between 1/2 and 1 is what is usually best (Brewer, Combined Survey Sampling Inference, 2002).
    """
    return math.pow(file.size + 1.0, 0.75)


def _error_of_choice(opened: Opened, picked: Sequence[Listed]) -> float:
    """Of the archive's work, from the files that were opened."""
    works = dict.fromkeys((file.path for file in picked), 0.0)
    for piece in opened.pieces:
        works[piece.planned.segment.source] += piece.work
    return error_of(np.array([works[file.path] / _odds(file) for file in picked]), np.ones(len(picked)))


def _require_any(opened: Opened) -> None:
    if not opened.pieces:
        reasons = Counter(failure.reason for failure in opened.failures.values())
        told = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        raise UserError(
            f"videos: none of {len(opened.failures)} files can be opened: {told}; see `rushes footage show`"
        )


def _require_sampled(costs: Sequence[Cost | None]) -> None:
    if not any(cost and cost.measured.frames for cost in costs):
        reasons = Counter(cost.measured.reason if cost else "decoder_crash" for cost in costs)
        told = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        raise UserError(f"videos: none of {len(costs)} segments decodes: {told}; see `rushes footage show`")


def _span(recipe: Recipe) -> int:
    """Frames that a shot must have for a question of the task."""
    from rushes.pretext import make_task

    config = recipe.pretrain
    if config.task == NO_TASK:
        return config.clip_frames
    return make_task(config.task, config.options).span(clip_frames=config.clip_frames)


def _seen(pieces: Sequence[Piece], stands: Doubles) -> float:
    """Share of the video that pretraining sees."""
    seconds = stands * np.array([piece.seconds for piece in pieces])
    seen = np.array([piece.planned.segment.split in ("unlabelled", "train") for piece in pieces])
    return float(seconds[seen].sum() / seconds.sum()) if seconds.sum() else 0.0


def _labelled(pieces: Sequence[Piece], stands: Doubles, split: str) -> float:
    segments = (piece.planned.segment for piece in pieces)
    return float(sum(n for n, one in zip(stands, segments, strict=True) if one.label and one.split == split))


def _pin(root: str, footage: SamplingForecast, *, size: int) -> StepForecast:
    """Reading every byte once, extrapolated from some of the files that were opened."""
    work = f"{size / 1e9:,.3g} GB to read"
    read, began = 0, time.process_time()
    for file in sorted(footage.files, key=lambda file: -file.size):
        if read + file.size <= _HASHED:
            content_digest(root, file.path)
            read += file.size
    if not read:
        return StepForecast(step="pin", work=work)
    seconds = Range.exactly((time.process_time() - began) * size / read).spread(1 - CLOCK, 1 + CLOCK)
    return StepForecast(step="pin", work=work, core_hours=seconds * (1 / 3600))


def _sample(footage: SamplingForecast, machine: Machine) -> StepForecast:
    work = f"{footage.seconds / 3600:,.2f} h of video, {footage.segments:,.0f} segments"
    return StepForecast(
        step="sample",
        work=work,
        core_hours=footage.core_seconds * (1 / 3600),
        gigabytes=footage.size * 1e-9,
        minutes=_minutes(footage.core_seconds, machine.sampling),
    )


def _minutes(core_seconds: Range, cores: float) -> Range:
    return core_seconds.spread(1, 1 / SCALING) * (1 / 60 / cores)


# Training ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Speed:
    """What a clip costs in training."""

    machine: Machine
    decode: float
    """Core-seconds to read it."""
    loaders: int
    """Processes that read."""
    core_seconds: Range | None
    """Where it trains on a CPU."""
    gpu_seconds: Range | None

    def row(self, step: str, work: str, *, clips: Range, share: float = 1.0) -> StepForecast:
        """A step that trains on so many clips, or does this share of it."""
        if self.core_seconds is not None:
            seconds = clips * self.core_seconds * share
            minutes = _minutes(seconds, self.machine.training)
            return StepForecast(step=step, work=work, core_hours=seconds * (1 / 3600), minutes=minutes)
        assert self.gpu_seconds is not None
        # Whichever is slower: the GPU, or those who read for it.
        least = self.decode / max(1, min(self.loaders, self.machine.training))
        each = self.gpu_seconds * share
        each = Range(max(each.low, least), max(each.middle, least), max(each.high, least))
        hours = clips * each * (1 / 3600)
        core_hours = clips * Range.exactly(self.decode / 3600).spread(1 - CLOCK, 1 + CLOCK)
        return StepForecast(
            step=step, work=work, core_hours=core_hours, gpu_hours=hours * self.machine.gpus, minutes=hours * 60.0
        )


def _training(
    recipe: Recipe, footage: SamplingForecast, machine: Machine, *, scratch: Path
) -> tuple[list[StepForecast], list[str]]:
    """Rows of the steps that train, and what they rest on."""
    if recipe.pretrain.task == NO_TASK:
        return [], ["training is not in it: the recipe's task is none"]
    if not footage.windows.middle:
        return [], [f"training is not in it: no shot of {_span(recipe)} frames was met, which the task needs"]
    elements, per_tuple = elements_of(recipe), flops_of(recipe, tuples=1)
    try:
        speed, note = _speed(recipe, footage, machine, elements=elements, flops=per_tuple, scratch=scratch)
    except UserError as error:
        return [], [f"training is not in it: {error}"]
    config = recipe.pretrain
    fixed = config.samples_per_epoch
    tuples = (Range.exactly(fixed) if fixed else footage.windows) * config.epochs
    clips = "one clip" if elements == 1 else f"{elements} clips"
    work = f"{_about(tuples)} questions of {clips}: {_about(tuples * per_tuple)} FLOPs"
    rows = [speed.row("pretrain", work, clips=tuples * elements)]
    train, test = footage.labelled["train"], footage.labelled["test"]
    if not train or not test:
        return rows, [note, "no labels, so no fine-tuning and no evaluation: give --labels"]
    tuned = Range.exactly(2 * recipe.finetune.epochs * train)
    work = f"{_about(tuned)} clips: {train:,.0f} segments, {recipe.finetune.epochs} epochs, also from random weights"
    rows.append(speed.row("finetune", work, clips=tuned))
    looked = recipe.evaluate.clips * (_EVALUATED["train"] * train + _EVALUATED["test"] * test)
    work = f"{looked:,.0f} clips forward: {train + test:,.0f} segments, 2 to 4 networks"
    rows.append(speed.row("evaluate", work, clips=Range.exactly(looked), share=_FORWARD))
    return rows, [note]


def _speed(
    recipe: Recipe, footage: SamplingForecast, machine: Machine, *, elements: int, flops: float, scratch: Path
) -> tuple[_Speed, str]:
    """What a clip costs, and how that is known."""
    from rushes.footage.reader import Footage
    from rushes.forecast.training import decode_seconds, tuple_costs

    config = recipe.pretrain if machine.gpus else replace(recipe.pretrain, device="cpu")
    manifest, store = footage_of(footage.costs, config=recipe.sample, scratch=scratch)
    reader = Footage(manifest, store, short_side=config.short_side)
    decode = decode_seconds(reader, pretrain=config, seed=recipe.seed) / elements
    known: dict[str, Any] = {"machine": machine, "decode": decode, "loaders": config.workers}
    if not machine.here:
        peak = PEAKS[machine.gpu]
        seconds = Range.exactly(flops / elements / peak).spread(1 / UTILISATION[0], 1 / UTILISATION[1])
        note = (
            f"training was not measured, since no GPU is here: FLOPs at {100 * UTILISATION[1]:.0f} to "
            f"{100 * UTILISATION[0]:.0f} % of an {machine.gpu}'s {peak / 1e12:,.0f} TFLOP/s, or reading "
            f"({1e3 * decode:.1f} core-ms a clip, {config.workers} loaders), whichever is slower"
        )
        return _Speed(**known, core_seconds=None, gpu_seconds=seconds), note
    tried = tuple_costs(reader, pretrain=config, seed=recipe.seed, flops=flops, store=store)
    steps = f"{len(tried.seconds)} steps of {tried.batch} questions on {tried.device}"
    if tried.device == "cpu":
        cores = _measured(tried.core_seconds) * (1 / elements)
        return _Speed(**known, core_seconds=cores, gpu_seconds=None), f"training was measured in {steps}"
    whole = _measured(tried.seconds) * (1 / elements)
    low = max(whole.low - decode, 0.1 * whole.low)  # loaders read meanwhile
    seconds = Range(low, math.sqrt(low * whole.high), whole.high)
    return _Speed(**known, core_seconds=None, gpu_seconds=seconds), f"training was measured in {steps}"


def _measured(seconds: Doubles) -> Range:
    """The mean of what some steps took."""
    return total(seconds, np.ones(len(seconds)), whole=1.0, error=CLOCK)


def _about(figure: Range) -> str:
    return f"{figure.middle:,.0f}" if figure.middle < 1e6 else f"{figure.middle:.2g}"
