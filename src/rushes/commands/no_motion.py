"""`rushes pretext control`: whether pretext tasks are solved by motion or by something else, on your videos.

members = [parse_member("vcop-r3d", size="cpu"), parse_member("pace-r2plus1d", size="cpu")]
control(members, data=DataReference(videos="my_videos"), still="", options=NoMotionOptions(), out=None)

Everything is written to a temporary store.
"""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from rushes.commands.peek import is_pointer, peek, sample_part
from rushes.commands.pretext import quick
from rushes.comparing.members import Member, common_sample
from rushes.config import Recipe, SampleConfig
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.evaluation.no_motion import (
    ENOUGH,
    ControlResult,
    ControlVerdict,
    HeldOutScores,
    explain,
    hold_still,
    judge,
    train_and_test,
    without_rejection,
)
from rushes.footage.annotation import Annotation
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.footage.sample import Archive
from rushes.footage.sources import Source
from rushes.footage.splits import share_of
from rushes.home import open_store
from rushes.pretext import make_task
from rushes.progress import EventLog, Progress
from rushes.store import Manifest, Store, sha256_file

_SECONDS = 1800.0  # for sampling; then the segments that are ready are used
_COLOURS: dict[ControlVerdict, str] = {
    "pass": "green",
    "shortcut": "red",
    "not solved": "yellow",
    "too few videos": "yellow",
}

Integers = npt.NDArray[np.int64]
Sampled = tuple[Manifest, Store]


@dataclass(frozen=True, kw_only=True)
class NoMotionOptions:
    """The size of the control."""

    steps: int = 400
    """Training steps per network and footage."""
    tuples: int = 8
    """Tuples per group of test videos."""
    segments: int = 800
    """Largest number of segments (of up to 8 seconds) to use."""
    seed: int = 0
    """Seed of weights, tuples and repeated frames."""

    def __post_init__(self) -> None:
        for name in ("steps", "tuples", "segments"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} is not allowed; at least 1")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found about one method."""

    model: str
    task: str
    backbone: str
    judged: ControlResult


def control(
    members: Sequence[Member], *, data: DataReference, still: str, options: NoMotionOptions, out: Path | None
) -> int:
    """Prints a table of methods: accuracy where nothing moves, accuracy where something does, and the verdict.

    Args:
        members: the methods; of their recipes, `sample` and `pretrain` (but its epochs) are used.
        data: videos, of which a part is sampled, with labels for their groups; or, as its `videos`, the pointer of
            footage.
        still: a folder of videos in which nothing moves; empty to hold one frame of each segment of `data`.
        options: the size of the control.
        out: JSON file for the results.

    Returns:
        1 where a shortcut was found, else 0.

    Raises:
        UserError: no video there or none that decodes, no such pointer, or videos too short or too few.
    """
    if not members:
        raise UserError("models: none given; name one or more folders under models/: see `rushes models`")
    with tempfile.TemporaryDirectory(prefix="rushes-control-") as folder:
        scratch = Path(folder)
        with watching(scratch / "progress.jsonl"):
            progress = EventLog(scratch / "progress.jsonl", step="pretext control")
            results = find_results(members, data=data, still=still, options=options, scratch=scratch, progress=progress)
    _print(results)
    if out is not None:
        out.write_text(json.dumps(records(results, options), indent=1))
    return int(any(result.judged.verdict == "shortcut" for result in results))


def find_results(
    members: Sequence[Member],
    *,
    data: DataReference,
    still: str,
    options: NoMotionOptions,
    scratch: Path,
    progress: Progress,
) -> list[Result]:
    """As `control`, without the table; leaves the sampled footage under `scratch`."""
    config = quick(common_sample(members))
    moving = _sampled(data, config, options=options, scratch=scratch / "moving", progress=progress)
    if still:
        static = DataReference(videos=still)
        resting = _sampled(static, config, options=options, scratch=scratch / "still", progress=progress)
    else:
        resting = _held(moving, config, options=options, scratch=scratch / "still", progress=progress)
    return [
        _result(
            member,
            still=resting,
            moving=moving,
            methods=len(members),
            options=options,
            progress=progress,
        )
        for member in members
    ]


def _sampled(
    data: DataReference, config: SampleConfig, *, options: NoMotionOptions, scratch: Path, progress: Progress
) -> Sampled:
    if is_pointer(data.videos):
        return Manifest.read(Path(data.videos), kind="footage"), open_store()
    peeked = peek(
        data,
        config=config,
        files=options.segments,
        segments=options.segments,
        seconds=_SECONDS,
        scratch=scratch,
        progress=progress,
    )
    return peeked.manifest, peeked.store


def _held(
    moving: Sampled, config: SampleConfig, *, options: NoMotionOptions, scratch: Path, progress: Progress
) -> Sampled:
    """Footage of single, repeated frames of other footage, sampled with the same settings."""
    footage = Footage(*moving)
    rows = some_rows(footage, options.segments)
    annotations = hold_still(footage, rows, scratch / "videos", seed=options.seed)
    config = dataclasses.replace(config, short_side=footage.short_side, fps=footage.fps, gop=footage.gop)
    return sample_folder(scratch / "videos", annotations, config=config, scratch=scratch, progress=progress)


def sample_folder(
    folder: Path, annotations: Sequence[Annotation], *, config: SampleConfig, scratch: Path, progress: Progress
) -> Sampled:
    """Samples all videos of a folder, into a store under `scratch`."""
    sources = [
        Source(path=path.name, sha256=sha256_file(path), size=path.stat().st_size) for path in sorted(folder.iterdir())
    ]
    return sample_part(
        Archive(root=str(folder), sources=sources, annotations=annotations),
        config=config,
        segments=len(sources),
        seconds=_SECONDS,
        scratch=scratch,
        progress=progress,
    )


def some_rows(footage: Footage, segments: int) -> Integers:
    """Rows of at most `segments` segments, chosen by a fixed hash of their keys."""
    keys = footage.texts("key")
    rows: Integers = np.sort(np.argsort([share_of(str(key)) for key in keys], kind="stable")[:segments])
    return rows


def _result(
    member: Member,
    *,
    still: Sampled,
    moving: Sampled,
    methods: int,
    options: NoMotionOptions,
    progress: Progress,
) -> Result:
    """Trains and tests a method on still and on moving footage."""
    recipe = member.recipe
    task = make_task(recipe.pretrain.task, recipe.pretrain.options)
    judged = judge(
        chance=task.chance,
        still=answers(recipe, still, still=True, options=options, progress=progress),
        moving=answers(recipe, moving, still=False, options=options, progress=progress),
        methods=methods,
    )
    return Result(model=member.name, task=recipe.pretrain.task, backbone=recipe.pretrain.backbone, judged=judged)


def answers(
    recipe: Recipe, sampled: Sampled, *, still: bool, options: NoMotionOptions, progress: Progress
) -> HeldOutScores:
    """Trains a method on half of the groups of some footage, at the size that its recipe says, and tests it."""
    task = make_task(recipe.pretrain.task, recipe.pretrain.options)
    size = recipe.pretrain.short_side or recipe.sample.short_side
    footage = Footage(*sampled, short_side=min(size, Footage(*sampled).short_side))
    return train_and_test(
        footage,
        some_rows(footage, options.segments),
        without_rejection(task) if still else task,
        recipe.pretrain,
        steps=options.steps,
        tuples=options.tuples,
        seed=options.seed,
        label=f"{recipe.name}, {'still' if still else 'moving'}",
        progress=progress,
    )


def records(results: Sequence[Result], options: NoMotionOptions) -> dict[str, Any]:
    """The results as plain data."""
    return {"methods": len(results), **asdict(options), "results": [asdict(result) for result in results]}


def _print(results: Sequence[Result]) -> None:
    table = Table("model", "task", "guessing", "nothing moves", "something moves", "verdict", box=None)
    for result in results:
        judged = result.judged
        table.add_row(
            result.model,
            result.task,
            f"{100 * judged.chance:.1f} %",
            str(judged.still),
            str(judged.moving),
            f"[{_COLOURS[judged.verdict]}]{judged.verdict}[/]",
        )
    console.print()
    console.print(table)
    for verdict, names in _by_verdict(results).items():
        judged = next(result.judged for result in results if result.judged.verdict == verdict)
        console.print(f"\n{', '.join(names)}: {explain(judged)}", markup=False)
    groups = min(interval.groups for result in results for interval in (result.judged.still, result.judged.moving))
    if groups < ENOUGH:
        console.print(
            f"\n{groups} groups of test videos: with fewer than {ENOUGH} only large leaks show.", markup=False
        )


def _by_verdict(results: Sequence[Result]) -> dict[ControlVerdict, list[str]]:
    found: dict[ControlVerdict, list[str]] = {}
    for result in results:
        found.setdefault(result.judged.verdict, []).append(result.model)
    return found
