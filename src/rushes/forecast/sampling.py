"""What sampling an archive takes and makes: totals from some of its files and segments, drawn and really sampled."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from rushes.config import NO_TASK, Recipe
from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.files import Listed
from rushes.forecast.estimate import Doubles, Integers, Range, draw, error_of, how_many, total
from rushes.forecast.measured_sampling import OpenedFiles, OpenedSegment, SamplingCost, open_files, sample_some
from rushes.forecast.rows import CLOCK
from rushes.pretext import make_task
from rushes.progress import Progress

FILES = 400
"""Files that are opened at most."""
LEAST = 16
"""Draws at least: fewer would give no range."""
MOST = 600.0
"""Core-seconds of sampling at most, roughly: a hundredth of a large archive would take hours without better ranges."""


@dataclass(frozen=True, kw_only=True)
class ListedArchive:
    """The files of an archive, and what is known about them."""

    root: str
    """Folder or URL."""
    files: Sequence[Listed]
    """All video files."""
    annotations: Sequence[Annotation] = ()
    notes: Sequence[str] = ()
    """What is not among the files."""


@dataclass(frozen=True, kw_only=True)
class SamplingForecast:
    """What sampling the archive takes and makes."""

    core_seconds: Range
    size: Range
    """Bytes."""
    frames: Range
    seconds: float
    """Duration of the videos."""
    segments: float
    windows: Range
    """Windows of the pretext task in the footage for pretraining."""
    labelled: Mapping[str, float]
    """Labelled segments by split."""
    files: Sequence[Listed]
    """The files that were opened."""
    unusable: float
    """Share of the opened files that cannot be used."""
    drawn: int
    """Segments that were sampled."""
    share: float
    """Their share of the work."""
    costs: Sequence[SamplingCost]


def sample_part(
    recipe: Recipe, archive: ListedArchive, *, share: float, scratch: Path, progress: Progress, files: int = FILES
) -> SamplingForecast:
    """Opens up to `files` files, samples some of their segments, and estimates totals of the archive.

    Raises:
        UserError: nothing decodes.
    """
    weights = draw_files(archive.files, count=files, seed=recipe.seed)
    drawn_files = [file for file in archive.files if file.path in weights]
    known = [annotation for annotation in archive.annotations if annotation.path in weights]
    opened = open_files(archive.root, drawn_files, annotations=known, config=recipe.sample, progress=progress)
    _require_any(opened)
    draws = _draw_segments(opened.segments, weights, share=share, seed=recipe.seed)
    costs = sample_some(
        archive.root,
        [opened.segments[n] for n in draws.unique],
        config=recipe.sample,
        scratch=scratch,
        progress=progress,
    )
    _require_sampled(costs)
    error = 0.0 if len(weights) == len(archive.files) else error_of_files(opened, drawn_files)
    opening = sum(weights[path] * seconds for path, seconds in opened.seconds.items())
    core_seconds = draws.total(costs, lambda cost: cost.seconds, error=math.hypot(error, CLOCK))
    span = task_span(recipe)
    return SamplingForecast(
        core_seconds=core_seconds + Range.exactly(opening),
        size=draws.total(costs, lambda cost: cost.size, error=error),
        frames=draws.total(costs, lambda cost: cost.measured.frames, error=error),
        seconds=float(draws.weights @ np.array([segment.seconds for segment in draws.segments])),
        segments=float(draws.weights.sum()),
        windows=draws.total(costs, lambda cost: cost.windows(span), error=error) * _pretraining_share(draws),
        labelled={split: _labelled(draws, split) for split in ("train", "test")},
        files=drawn_files,
        unusable=len(opened.failures) / len(drawn_files),
        drawn=len(draws.unique),
        share=float(draws.works[draws.unique].sum()) / draws.whole,
        costs=[cost for cost in costs if cost],
    )


def task_span(recipe: Recipe) -> int:
    """Frames that a shot must have for a tuple of the task."""
    config = recipe.pretrain
    if config.task == NO_TASK:
        return config.clip_frames
    return make_task(config.task, config.options).span(clip_frames=config.clip_frames)


# Files ---------------------------------------------------------------------------------------------------------------


def draw_files(files: Sequence[Listed], *, count: int, seed: int) -> dict[str, float]:
    """Draws files to open (all, or `count` by their size); returns for each path how many files it stands for.

    A file that is twice as likely to be drawn stands for half as many.
    """
    if len(files) <= count:
        return {file.path: 1.0 for file in files}
    odds = np.array([_odds(file) for file in files])
    indices, times = np.unique(draw(odds, count, seed=seed), return_counts=True)
    weights = times * odds.sum() / (count * odds[indices])
    return {files[index].path: float(weight) for index, weight in zip(indices, weights, strict=True)}


def _odds(file: Listed) -> float:
    """Odds of large files are higher, but not in proportion: bytes predict work badly where the bit rate is low.

    A power between 1/2 and 1 is usually best (Brewer, Combined Survey Sampling Inference, 2002).
    """
    return math.pow(file.size + 1.0, 0.75)


def error_of_files(opened: OpenedFiles, files: Sequence[Listed]) -> float:
    """Relative error of the archive's work, because only these files were opened."""
    works = dict.fromkeys((file.path for file in files), 0.0)
    for segment in opened.segments:
        works[segment.planned.segment.source] += segment.work
    return error_of(np.array([works[file.path] / _odds(file) for file in files]), np.ones(len(files)))


# Segments ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """Segments of the opened files [n], and those that were drawn to be sampled [k]."""

    segments: Sequence[OpenedSegment]
    works: Doubles = field(repr=False)
    """[n]: core-seconds, roughly."""
    weights: Doubles = field(repr=False)
    """[n]: how many segments of the archive each stands for."""
    odds: Doubles = field(repr=False)
    """[n]: of a draw, per segment of the archive."""
    drawn: Integers = field(repr=False)
    """[k]: indices, some more than once."""

    @cached_property
    def unique(self) -> Integers:
        """Indices [u] of the drawn segments, each once, in order."""
        return np.unique(self.drawn)

    @property
    def whole(self) -> float:
        """Work of the archive."""
        return float(self.works @ self.weights)

    def total(
        self, costs: Sequence[SamplingCost | None], value: Callable[[SamplingCost], float], *, error: float
    ) -> Range:
        """The archive's sum of a value that was measured per drawn segment; a crashed one counts as 0.

        Args:
            costs: [u], as in `unique`.
            value: of a segment.
            error: relative error that is independent of the draws.
        """
        of_each = [costs[n] for n in np.searchsorted(self.unique, self.drawn)]
        values = np.array([value(cost) if cost else 0.0 for cost in of_each])
        odds = self.odds[self.drawn]
        return total(values / odds, self.works[self.drawn] / odds, whole=self.whole, error=error)


def _draw_segments(
    segments: Sequence[OpenedSegment], weights: Mapping[str, float], *, share: float, seed: int
) -> _Draws:
    """Draws segments to sample, by the root of their work: their error grows with it, and so does their cost."""
    # In order of path: the even steps of `draw` then reach each folder, whose files are often alike.
    works = np.array([segment.work for segment in segments])
    stands_for = np.array([weights[segment.planned.segment.source] for segment in segments])
    odds = np.sqrt(works)
    count = how_many(works, odds * stands_for, budget=min(share * float(works @ stands_for), MOST))
    drawn = draw(odds * stands_for, max(LEAST, count), seed=seed)
    return _Draws(segments=segments, works=works, weights=stands_for, odds=odds, drawn=drawn)


def _pretraining_share(draws: _Draws) -> float:
    """Share of the archive's duration that pretraining sees."""
    seconds = draws.weights * np.array([segment.seconds for segment in draws.segments])
    seen = np.array([segment.planned.segment.split in ("unlabelled", "train") for segment in draws.segments])
    return float(seconds[seen].sum() / seconds.sum()) if seconds.sum() else 0.0


def _labelled(draws: _Draws, split: str) -> float:
    segments = (segment.planned.segment for segment in draws.segments)
    return float(sum(n for n, one in zip(draws.weights, segments, strict=True) if one.label and one.split == split))


# Nothing to sample ---------------------------------------------------------------------------------------------------


def _require_any(opened: OpenedFiles) -> None:
    if not opened.segments:
        reasons = _counted(failure.reason for failure in opened.failures.values())
        raise UserError(
            f"videos: none of {len(opened.failures)} files can be opened: {reasons}; see `rushes footage show`"
        )


def _require_sampled(costs: Sequence[SamplingCost | None]) -> None:
    if not any(cost and cost.measured.frames for cost in costs):
        reasons = _counted(cost.measured.reason if cost else "decoder_crash" for cost in costs)
        raise UserError(f"videos: none of {len(costs)} segments decodes: {reasons}; see `rushes footage show`")


def _counted(reasons: Iterable[str]) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in sorted(Counter(reasons).items()))
