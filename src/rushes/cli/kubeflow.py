"""The group "On Kubeflow": pipelines and schedules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional, UseAppendAction

from rushes import extras
from rushes.cli.workflow import Run


@dataclass(frozen=True, kw_only=True)
class PipelineCompile:
    """Compiles the pipeline for a cluster: images, GPU nodes, secrets by reference, retries. Changes nothing there.

    rushes pipeline compile --profile mine.yaml --out mine-pipeline.yaml
    """

    profile: str = "gpu"
    """gpu, cpu, or a file.yaml of yours: pipelines/profiles has those to begin with."""
    comparison: bool = False
    """Compile what `rushes compare --runner cluster` submits instead."""
    out: Path = Path("pipeline.yaml")
    """Where the compiled pipeline goes."""

    def execute(self) -> int:
        from rushes.commands.pipeline import compile_pipeline

        return compile_pipeline(self.profile, comparison=self.comparison, out=self.out)


@dataclass(frozen=True, kw_only=True)
class _Compiled(Run):
    """What commands that run a compiled pipeline share."""

    profile: str = "gpu"
    """The cluster: gpu, cpu, or a file.yaml of yours."""
    pipeline: Path | None = None
    """What `rushes pipeline compile` wrote for it. Default: the one of this version, for the profile gpu."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, KF_PIPELINES_ENDPOINT, then the cluster that this runs in."""

    def submit(self, *, wait: bool) -> int:
        """Starts a run on the cluster."""
        from rushes.commands.pipeline import Destination, submit
        from rushes.commands.run import endpoint_name
        from rushes.orchestration.local import compiled_pipeline

        to = Destination(profile=self.profile, pipeline=self.pipeline or compiled_pipeline(), host=self.host)
        endpoint = endpoint_name(self.endpoint or Path(self.videos).name)
        return submit(models=self.models, data=self.data, endpoint=endpoint, to=to, wait=wait)


@dataclass(frozen=True, kw_only=True)
class PipelineSubmit(_Compiled):
    """Starts a run on Kubeflow Pipelines; the compiled pipeline is uploaded if the server does not have it.

    rushes pipeline submit pace-r2plus1d --profile mine.yaml --videos s3://archive/videos
    """

    wait: bool = False
    """Follow the run until it has ended; exit status 1 if it failed."""

    def execute(self) -> int:
        return self.submit(wait=self.wait)


@dataclass(frozen=True, kw_only=True)
class PipelineRun(_Compiled):
    """Runs the compiled pipeline to its end: here, here in containers, or on a cluster.

    rushes pipeline run pace-r2plus1d --size cpu --videos footage/ --runner docker
    """

    runner: Literal["subprocess", "docker", "cluster"] = "subprocess"
    """subprocess: as `rushes run` does; docker: each step in the image that `make image` builds, by this machine's
    engine; cluster: on Kubeflow Pipelines, and this waits for it."""

    def execute(self) -> int:
        if self.runner == "cluster":
            return self.submit(wait=True)
        if self.runner == "subprocess":
            extras.require(*extras.WHOLE)
        from rushes.commands.run import run

        return run(
            models=self.models,
            data=self.data,
            endpoint=self.endpoint,
            runner=self.runner,
            pipeline=self.pipeline,
        )


@dataclass(frozen=True, kw_only=True)
class _Schedules:
    """What commands that read schedules share."""

    file: Positional[Path] = Path("deploy/schedules.yaml")
    """The schedules."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: KF_PIPELINES_ENDPOINT, then the cluster that this runs in."""
    pipeline: UseAppendAction[tuple[Path, ...]] = ()
    """A compiled pipeline that a schedule may name; may be given several times. Default: the one of this version."""


@dataclass(frozen=True, kw_only=True)
class SchedulesPlan(_Schedules):
    """What `rushes schedules apply` would do on Kubeflow Pipelines; changes nothing.

    rushes schedules plan deploy/schedules.yaml
    """

    def execute(self) -> int:
        from rushes.commands.schedules import plan

        return plan(self.file, pipelines=self.pipeline, host=self.host)


@dataclass(frozen=True, kw_only=True)
class SchedulesApply(_Schedules):
    """Makes Kubeflow Pipelines have the schedules of a file, and no other of its experiment that was made this way.

    rushes schedules apply deploy/schedules.yaml

    Recurring runs that people made are left alone. Twice is once.
    """

    def execute(self) -> int:
        from rushes.commands.schedules import apply

        return apply(self.file, pipelines=self.pipeline, host=self.host)


@dataclass(frozen=True, kw_only=True)
class SchedulesCheck(_Schedules):
    """Submits a run for each enabled schedule whose data changed since the last one; for a small CronJob.

    rushes schedules check deploy/schedules.yaml
    """

    def execute(self) -> int:
        from rushes.commands.schedules import check

        return check(self.file, pipelines=self.pipeline, host=self.host)
