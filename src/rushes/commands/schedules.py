"""`rushes schedules plan`, `apply`, `check`."""

import functools
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from rushes.commands.pipeline import warn
from rushes.console import console
from rushes.errors import RushesError, UserError
from rushes.home import open_store
from rushes.kubeflow import checks
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.schedules import Schedules, read_schedules
from rushes.kubeflow.sync import Action, carry_out, make_plan
from rushes.orchestration.local import compiled_pipeline


def plan(file: Path, *, pipelines: Sequence[Path], host: str) -> int:
    """Shows what `apply` would do."""
    schedules = _read(file, pipelines)
    _show(make_plan(Cluster(host, experiment=schedules.experiment), schedules))
    return 0


def apply(file: Path, *, pipelines: Sequence[Path], host: str) -> int:
    """Shows the changes, and makes them."""
    schedules = _read(file, pipelines)
    cluster = Cluster(host, experiment=schedules.experiment)
    warn(*cluster.warnings)
    actions = make_plan(cluster, schedules)
    _show(actions)
    carry_out(cluster, schedules, actions)
    console.print("Done." if _to_do(actions) else "Nothing to do.")
    return 0


def check(file: Path, *, pipelines: Sequence[Path], host: str) -> int:
    """Submits the schedules that have new data; one that fails does not stop the others."""
    schedules = _read(file, pipelines)
    store = open_store()
    connect = functools.cache(lambda: Cluster(host, experiment=schedules.experiment))
    outcomes = [
        checks.check(schedule, experiment=schedules.experiment, store=store, connect=connect)
        for schedule in schedules.schedules
        if schedule.enabled
    ]
    table = Table("schedule", "data", "", box=None, header_style="bold")
    for outcome in outcomes:
        table.add_row(*_plain(outcome.name, outcome.kind, outcome.why))
    console.print(table if outcomes else "No schedule is enabled.")
    if failed := [outcome for outcome in outcomes if outcome.kind == "failed"]:
        error = UserError if any(outcome.exit_code == UserError.exit_code for outcome in failed) else RushesError
        raise error(f"{len(failed)} of {len(outcomes)} schedules could not be checked: see above")
    return 0


def _read(file: Path, pipelines: Sequence[Path]) -> Schedules:
    return read_schedules(file, [Pipeline.read(path) for path in pipelines or [compiled_pipeline()]])


def _to_do(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if action.kind != "keep"]


def _show(actions: Sequence[Action]) -> None:
    table = Table("", "what", "why", box=None, header_style="bold")
    for action in actions:
        table.add_row(*_plain(action.kind, action.what, action.why))
    console.print(table if actions else "No schedules, here or there.")


def _plain(*cells: str) -> list[Text]:
    """Cells without markup: rich would interpret square brackets in paths."""
    return [Text(cell) for cell in cells]
