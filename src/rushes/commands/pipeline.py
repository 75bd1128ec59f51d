"""`rushes pipeline compile`, `run`, `submit`."""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.commands.follow import Started, follow
from rushes.config import Recipe
from rushes.console import console
from rushes.errors import UserError
from rushes.footage.reference import DataReference, check_remote
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.policy import shared_with_launcher, violations
from rushes.kubeflow.profile import Profile, read_profile
from rushes.kubeflow.sizes import size_warning
from rushes.orchestration.image import with_tag, yaml_documents
from rushes.orchestration.run import Arguments
from rushes.resources import bundle
from rushes.strict import Json

_MOST_LABELS = 10_000
"""Partitions that are named; a workflow with as many tasks would be refused anyway."""
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
        if broken := violations(yaml_documents(compiled.read_text())):
            raise UserError(f"profile {profile!r}: " + "; ".join(broken))
        compiled.replace(out)
    pipeline = Pipeline.read(out)
    warn(size_warning(partitions=settings.partitions, models=1), shared_with_launcher(settings))
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
    started = start(arguments, to=to, name=named_now(endpoint))
    if wait:
        follow(started)
    return 0


def warn(*sentences: str) -> None:
    """Prints what is not a mistake and should be known; empty sentences are left out."""
    for sentence in filter(None, sentences):
        console.print(f"Mind: {sentence}", markup=False, soft_wrap=True)


def named_now(name: str) -> str:
    """Name of a run, with the time of its start."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def start(arguments: Mapping[str, Json], *, to: Destination, name: str, chains: Sequence[str] = ()) -> Started:
    """Starts a run; uploads the compiled pipeline if the server does not have it.

    Args:
        arguments: all that the pipeline is given, but for what the profile says.
        to: where.
        name: of the run.
        chains: of a comparison: their names, in order.
    """
    settings, compiled = read_profile(to.profile), Pipeline.read(to.pipeline)
    if unknown := [name for name in arguments if name not in compiled.inputs]:
        raise UserError(f"pipeline: {str(to.pipeline)!r} takes no {unknown[0]!r}: it was compiled for another command")
    models = [model["name"] for model in arguments["models"]]
    cluster = Cluster(to.host or settings.host, experiment=settings.experiment)
    warn(
        *cluster.warnings,
        *violations(yaml_documents(compiled.text)),
        size_warning(partitions=settings.partitions, models=len(models), chains=len(chains)),
    )
    cluster.provide(compiled)
    run = cluster.submit(
        {**arguments, "partitions": settings.partitions},
        cluster.target(compiled),
        name=name,
        description=compiled.digest,
    )
    console.print(f"Run {name} ({run}) of {compiled.version} in experiment {settings.experiment}.", markup=False)
    partitions = min(settings.partitions, _MOST_LABELS)
    labels = {
        "models": models,
        "sample-parts": [f"{part}/{settings.partitions}" for part in range(1, partitions + 1)],
        "chains": chains,
    }
    return Started(cluster=cluster, run=run, pipeline=compiled, labels=labels)


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
