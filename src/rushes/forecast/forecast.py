"""What a run of a model on an archive will cost, before it is run: `rushes plan`.

    forecast = make_forecast(recipe, archive, profile=read_profile("gpu"), ...)

Files are opened (all, or some hundred drawn by size) and their segments are planned as the step does. Some segments,
drawn by their expected work, are really sampled; the model is really trained for a few steps if its device is in this
machine. `rushes.forecast.estimate` turns that into totals.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.config import Recipe
from rushes.footage.files import content_digest
from rushes.forecast.estimate import Range
from rushes.forecast.machine import Machine
from rushes.forecast.rows import CLOCK, StepForecast, minutes_on
from rushes.forecast.sampling import ListedArchive, SamplingForecast, sample_part
from rushes.forecast.training import forecast_training
from rushes.kubeflow.profile import Profile
from rushes.progress import Progress

_HASHED = 1 << 28  # bytes that are read to measure what reading costs


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run costs, one row per step."""

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
    archive: ListedArchive,
    *,
    profile: Profile | None,
    share: float,
    scratch: Path,
    progress: Progress,
) -> Forecast:
    """Samples a part of the archive, trains a few steps, and estimates what the whole costs.

    Args:
        recipe: the model.
        archive: the videos.
        profile: of the cluster; None for this machine.
        share: of the sampling that is done for this.
        scratch: folder for the samples; the caller removes it.
        progress: where to report to.

    Raises:
        UserError: nothing of the archive decodes.
    """
    machine = Machine.of(profile)
    footage = sample_part(recipe, archive, share=share, scratch=scratch, progress=progress)
    size = sum(file.size for file in archive.files)
    rows = [_pin(archive.root, footage, size=size), _sample(footage, machine)]
    trained, notes = forecast_training(recipe, footage, machine, scratch=scratch)
    return Forecast(
        rows=[*rows, *trained],
        files=len(archive.files),
        size=size,
        footage=footage,
        machine=machine,
        notes=[*archive.notes, *notes],
    )


def _pin(root: str, footage: SamplingForecast, *, size: int) -> StepForecast:
    """Reading every byte once, extrapolated from some of the opened files."""
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
        minutes=minutes_on(machine.sampling, footage.core_seconds),
    )
