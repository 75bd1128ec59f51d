"""`rushes pipeline compile`, `run`, `submit`."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from rushes.config import Recipe
from rushes.console import console
from rushes.errors import RushesError, UserError
from rushes.orchestration.cluster import Cluster, Progressing
from rushes.orchestration.local import compiled_pipeline
from rushes.orchestration.policy import violations
from rushes.orchestration.profile import Profile, read_profile
from rushes.orchestration.run import Arguments
from rushes.orchestration.schedules import Data, Pipeline, check_data

_POLL_SECONDS = 5.0


def compile_pipeline(profile: str, *, out: Path) -> int:
    """Compiles for clusters that are like the profile, and holds what comes out to the policies."""
    settings = read_profile(profile)
    _compile(settings, out)
    pipeline = Pipeline.read(out)
    if broken := violations(list(yaml.safe_load_all(out.read_text()))):
        out.unlink()
        raise UserError(f"profile {profile!r}: " + "; ".join(broken))
    console.print(f"Wrote {out}: {pipeline.version}", markup=False)
    console.print(f"pipeline: {pipeline.digest}    what a schedule names it by", markup=False, soft_wrap=True)
    command = f"rushes pipeline submit MODEL --pipeline {out} --profile {profile} --videos URL"
    console.print(f"\nNext: {command}", markup=False, soft_wrap=True)
    return 0


def submit(
    *, models: tuple[Recipe, ...], data: Data, endpoint: str, profile: str, pipeline: Path | None, host: str, wait: bool
) -> int:  # fmt: skip
    """Starts a run on the profile's cluster; uploads the compiled pipeline if the server does not have it.

    Args:
        models: what to train.
        data: on what; pods must be able to read it.
        endpoint: what for.
        profile: name or file of a profile.
        pipeline: the compiled file; None for the one of this version.
        host: URL of Kubeflow Pipelines; empty for the profile's.
        wait: follow the run to its end.
    """
    check_data(data, "data")
    settings = read_profile(profile)
    compiled = Pipeline.read(pipeline or compiled_pipeline())
    arguments = Arguments(
        models=models, endpoint=endpoint, partitions=settings.partitions, **vars(data)
    ).to_record()  # fmt: skip
    cluster = Cluster(host or settings.host, experiment=settings.experiment)
    cluster.provide(compiled)
    name = f"{endpoint}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    run = cluster.submit(arguments, cluster.target(compiled), name=name, description=compiled.digest)
    console.print(f"Run {name} ({run}) of {compiled.version} in experiment {settings.experiment}.", markup=False)
    return _follow(cluster, run) if wait else 0


def _compile(profile: Profile, out: Path) -> None:
    root = Path(__file__).parents[3]
    if not (root / "pipelines" / "pipeline.py").is_file():
        raise UserError("pipeline: only a checkout of the sources can be compiled: clone it and run this there")
    sys.path.insert(0, str(root))
    from pipelines.pipeline import compile_to

    out.parent.mkdir(parents=True, exist_ok=True)
    compile_to(out, profile)


def _follow(cluster: Cluster, run: str) -> int:
    """A line whenever a task's state changes, until the run has ended."""
    known: Mapping[str, str] = {}
    while True:
        now = cluster.progress(run)
        for task, state in now.tasks.items():
            if known.get(task) != state:
                console.print(f"{task}: {state.lower()}", markup=False)
        known = now.tasks
        if now.ended:
            _show_end(now)
            return 0
        time.sleep(_POLL_SECONDS)


def _show_end(run: Progressing) -> None:
    states: dict[str, Any] = {}
    for state in run.tasks.values():
        states[state] = states.get(state, 0) + 1
    table = Table("tasks", "", box=None, header_style="bold")
    for state, count in sorted(states.items()):
        table.add_row(state.lower(), str(count))
    console.print(table)
    if run.state != "SUCCEEDED":
        raise RushesError(f"run: {run.state.lower()}{f': {run.error}' if run.error else ''}: its summary says at what")
