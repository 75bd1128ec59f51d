"""`rushes plan`: what a run of a model on an archive will cost, estimated from a small part of it."""

import dataclasses
import functools
import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from rushes.commands.peek import known_annotations
from rushes.config import Recipe
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.footage.archive import list_archive
from rushes.footage.reference import DataReference
from rushes.forecast.estimate import Range
from rushes.forecast.forecast import Forecast, make_forecast
from rushes.forecast.sampling import ListedArchive
from rushes.kubeflow.profile import DEFAULT, read_profile
from rushes.progress import EventLog, NullProgress


def plan(recipe: Recipe, *, size: str, data: DataReference, profile: str, share: float, as_json: bool) -> int:
    """Prints one row per step.

    Args:
        recipe: the model.
        size: the recipe's variant, for the command that comes next.
        data: the videos and their labels.
        profile: of the cluster, by name or file; empty for this machine.
        share: of the sampling that is done for this, above 0 and up to 1.
        as_json: one JSON object, and nothing else.

    Raises:
        UserError: no videos, none that decodes, or labels or a profile that cannot be read.
    """
    if not 0 < share <= 1:
        raise UserError(f"share: {share!r} is not allowed; above 0, up to 1")
    cluster = read_profile(profile) if profile else None
    archive = _listed(data)
    with tempfile.TemporaryDirectory(prefix="rushes-plan-") as folder:
        scratch, events = Path(folder), Path(folder) / "progress.jsonl"
        make = functools.partial(make_forecast, recipe, archive, profile=cluster, share=share, scratch=scratch)
        if as_json:
            console.print_json(json.dumps(record_of(make(progress=NullProgress()))))
            return 0
        with watching(events):
            forecast = make(progress=EventLog(events, step="plan"))
    _show(forecast)
    following = _next([recipe.name, "--size", size, "--videos", data.videos, *data.flags()], profile)
    console.print(f"\nNext: {shlex.join(following)}", markup=False, soft_wrap=True)
    return 0


def _listed(data: DataReference) -> ListedArchive:
    listing = list_archive(data.root)
    annotations, _ = known_annotations(data, listing)
    return ListedArchive(root=data.root, files=listing.files, annotations=annotations, notes=listing.notes())


def _next(model: Sequence[str], profile: str) -> list[str]:
    """The command that runs the model; for a profile of one's own, the one that compiles the pipeline for it."""
    if not profile:
        return ["rushes", "run", *model]
    if profile == DEFAULT:
        return ["rushes", "pipeline", "submit", *model]
    return ["rushes", "pipeline", "compile", "--profile", profile, "--out", f"{Path(profile).stem}-pipeline.yaml"]


def record_of(forecast: Forecast) -> dict[str, Any]:
    """A forecast as plain data."""
    footage = forecast.footage
    return {
        "files": forecast.files,
        "bytes": forecast.size,
        "machine": dataclasses.asdict(forecast.machine),
        "rows": [dataclasses.asdict(row) for row in forecast.rows],
        "notes": list(forecast.notes),
        "from": {
            "files": len(footage.files),
            "unusable": footage.unusable,
            "segments": footage.drawn,
            "share": footage.share,
        },
        "footage": {
            name: dataclasses.asdict(getattr(footage, name)) for name in ("core_seconds", "size", "frames", "windows")
        }
        | {"seconds": footage.seconds, "segments": footage.segments, "labelled": dict(footage.labelled)},
    }


def _show(forecast: Forecast) -> None:
    table = Table("step", "work", box=None, header_style="bold")
    for name in ("core-hours", "GPU-hours", "GB", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in forecast.rows:
        figures = (row.core_hours, row.gpu_hours, row.gigabytes, row.minutes)
        table.add_row(row.step, row.work, *map(text_of, figures))
    console.print()
    console.print(table)
    footage = forecast.footage
    lines = [
        f"from {footage.drawn} segments ({100 * footage.share:.3g} % of the sampling) of {len(footage.files)} opened "
        f"files of {forecast.files:,}",
        f"for {forecast.machine.says}; cores like this machine's",
        *forecast.notes,
        "export, register, promote and deploy take minutes for any archive",
    ]
    if footage.unusable:
        lines.insert(1, f"{100 * footage.unusable:.3g} % of the opened files cannot be used: see `rushes footage show`")
    console.print()
    for line in lines:
        console.print(line, style="dim", markup=False, soft_wrap=True)


def text_of(figure: Range | None) -> str:
    """Low and high with two or more significant digits: `1.2 - 1.9`; empty for None."""
    if figure is None:
        return ""
    low, high = _digits(figure.low), _digits(figure.high)
    return low if low == high else f"{low} - {high}"


def _digits(value: float) -> str:
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
