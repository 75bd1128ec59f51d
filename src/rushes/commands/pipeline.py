"""`rushes pipeline compile`, `run`, `submit`."""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.table import Table

from rushes.config import Recipe
from rushes.console import console
from rushes.errors import RushesError, ServiceError, UserError
from rushes.footage.reference import DataReference, check_remote
from rushes.kubeflow.cluster import Cluster, Progressing
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.policy import violations
from rushes.kubeflow.profile import Profile, read_profile
from rushes.orchestration.image import with_tag
from rushes.orchestration.run import Arguments
from rushes.resources import bundle
from rushes.strict import Json

_POLL_SECONDS = 5.0
_PATIENCE = 600.0
"""Seconds without an answer after which a run is no longer followed."""
_SUFFIXES = (".yaml", ".yml")
"""Formats that kfp compiles to; its JSON would lack the settings for Kubernetes."""


def compile_pipeline(profile: str, *, comparison: bool, out: Path) -> int:
    """Compiles for a profile's cluster, and checks the result against the policies.

    Args:
        profile: name or file of a profile.
        comparison: compile what `rushes compare` submits, not what `rushes pipeline submit` does.
        out: path of the compiled file.
    """
    _check_out(out)
    settings = read_profile(profile)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Schedules may name the file that is there: it is replaced only by a complete one that passes the policies.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".compile-") as folder:
        compiled = Path(folder) / out.name
        _compile(settings, compiled, comparison=comparison)
        compiled.write_text(with_tag(compiled.read_text()))
        if broken := violations(list(yaml.safe_load_all(compiled.read_text()))):
            raise UserError(f"profile {profile!r}: " + "; ".join(broken))
        compiled.replace(out)
    pipeline = Pipeline.read(out)
    console.print(f"Wrote {out}: {pipeline.version}", markup=False)
    console.print(f"pipeline: {pipeline.digest}    the name of it in a schedule", markup=False, soft_wrap=True)
    verb = "compare MODEL MODEL --runner cluster" if comparison else "pipeline submit MODEL"
    command = f"rushes {verb} --pipeline {out} --profile {profile} --videos URL"
    console.print(f"\nNext: {command}", markup=False, soft_wrap=True)
    return 0


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A cluster, and the pipeline that it runs."""

    profile: str
    """Name or file of a profile."""
    pipeline: Path
    """The compiled file."""
    host: str
    """URL of Kubeflow Pipelines; empty for the profile's."""


def submit(*, models: tuple[Recipe, ...], data: DataReference, endpoint: str, to: Destination, wait: bool) -> int:
    """Starts a run on a cluster.

    Args:
        models: recipes of the models to train.
        data: on what; pods must be able to read it.
        endpoint: what for.
        to: where.
        wait: whether to follow the run to its end.
    """
    check_remote(data)
    arguments = Arguments(models=models, endpoint=endpoint, data=data).to_record()
    cluster, run = start(arguments, to=to, name=named_now(endpoint))
    if wait:
        follow(cluster, run)
    return 0


def named_now(name: str) -> str:
    """Name of a run, with the time of its start."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def start(arguments: Mapping[str, Json], *, to: Destination, name: str) -> tuple[Cluster, str]:
    """Starts a run; uploads the compiled pipeline if the server does not have it.

    Args:
        arguments: all that the pipeline is given, but for what the profile says.
        to: where.
        name: of the run.

    Returns:
        The cluster, and the run's ID.
    """
    settings, compiled = read_profile(to.profile), Pipeline.read(to.pipeline)
    if unknown := [name for name in arguments if name not in compiled.inputs]:
        raise UserError(f"pipeline: {str(to.pipeline)!r} takes no {unknown[0]!r}: it was compiled for another command")
    cluster = Cluster(to.host or settings.host, experiment=settings.experiment)
    cluster.provide(compiled)
    run = cluster.submit(
        {**arguments, "partitions": settings.partitions},
        cluster.target(compiled),
        name=name,
        description=compiled.digest,
    )
    console.print(f"Run {name} ({run}) of {compiled.version} in experiment {settings.experiment}.", markup=False)
    return cluster, run


class LeftError(RushesError):
    """The command that followed a run was interrupted; the run continues."""

    exit_code = 130


def follow(cluster: Cluster, run: str) -> None:
    """Prints a line whenever a task's state changes, until the run has ended.

    Raises:
        LeftError: Ctrl-C.
        RushesError: the run failed, or the server did not answer for too long.
    """
    known: Mapping[str, str] = {}
    try:
        for now in _looks(cluster, run):
            states = _states(now)
            for name, state in states.items():
                if known.get(name) != state:
                    console.print(f"{name}: {state}", markup=False)
            known = states
            if now.ended:
                _show_end(now)
                return
    except KeyboardInterrupt:
        raise LeftError(f"interrupted: {_goes_on(cluster, run)}") from None


def _looks(cluster: Cluster, run: str) -> Iterator[Progressing]:
    """The run's state, again and again; waits for a server that does not answer for a while."""
    silent: float | None = None
    while True:
        try:
            now = cluster.progress(run)
        except ServiceError as error:
            if silent is None:
                silent = time.monotonic()
                console.print(f"No news, but the run goes on, and this asks again: {error}", markup=False)
            elif time.monotonic() - silent > _PATIENCE:
                minutes = f"{_PATIENCE / 60:g} minutes"
                raise ServiceError(f"no news for {minutes}: {_goes_on(cluster, run)}: {error}") from error
        else:
            silent = None
            yield now
        time.sleep(_POLL_SECONDS)


def _goes_on(cluster: Cluster, run: str) -> str:
    return f"run {run} goes on without this command, and Kubeflow shows it under experiment {cluster.experiment!r}"


def _states(run: Progressing) -> dict[str, str]:
    """State of the task of each name, such as `running`; of several: `1 failed, 2 running`."""
    found: dict[str, Counter[str]] = {}
    for task in run.tasks:
        found.setdefault(task.name, Counter())[task.state.lower()] += 1
    return {name: _counted(states) for name, states in found.items()}


def _counted(states: Counter[str]) -> str:
    if states.total() == 1:
        return next(iter(states))
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"out: {str(out)!r} is a folder: name a file in it, such as {str(out / 'pipeline.yaml')!r}")
    if file := next((parent for parent in out.parents if parent.is_file()), None):
        raise UserError(f"out: {str(out)!r} is not allowed, since {str(file)!r} is a file: name another folder")
    if not out.name.endswith(_SUFFIXES):
        raise UserError(f"out: {str(out)!r} is not allowed; a name that ends in {' or '.join(_SUFFIXES)}")


def _compile(profile: Profile, out: Path, *, comparison: bool) -> None:
    """Writes the pipeline with the placeholder for the images' tag; pipelines/ and components/ are no package's."""
    sys.path.insert(0, str(bundle()))
    from pipelines.comparison import make_comparison
    from pipelines.pipeline import compile_to, make_pipeline

    compile_to(out, profile, make=make_comparison if comparison else make_pipeline)


def _show_end(run: Progressing) -> None:
    table = Table("tasks", "", box=None, header_style="bold")
    for state, count in sorted(Counter(task.state.lower() for task in run.tasks).items()):
        table.add_row(state, str(count))
    console.print(table)
    if run.state != "SUCCEEDED":
        raise RushesError(f"run: {run.state.lower()}{f': {run.error}' if run.error else ''}: its summary says at what")
