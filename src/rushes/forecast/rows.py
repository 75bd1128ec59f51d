"""A row of a forecast's table, and the assumptions that all rows share."""

from dataclasses import dataclass

from rushes.forecast.estimate import Range

CLOCK = 0.1
"""Relative error of a measured time: by so much the same work varies on cores that others share."""
SCALING = 0.6
"""Least share of a pod's cores that is busy: the last shards, or one slow file, leave some idle."""


@dataclass(frozen=True, kw_only=True)
class StepForecast:
    """What a step takes."""

    step: str
    work: str
    core_hours: Range | None = None
    gpu_hours: Range | None = None
    gigabytes: Range | None = None
    minutes: Range | None = None


def minutes_on(cores: float, core_seconds: Range) -> Range:
    """Wall-clock minutes of work that is spread over the cores of a pod."""
    return core_seconds.spread(1, 1 / SCALING) * (1 / 60 / cores)
