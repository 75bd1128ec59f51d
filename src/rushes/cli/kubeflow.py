"""The group "On Kubeflow": pipelines and schedules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional, UseAppendAction

from rushes import extras
from rushes.cli.workflow import Run


@dataclass(frozen=True, kw_only=True)
class PipelineCompile:
    """Compiles the pipeline for a cluster: images, GPU nodes, secrets, retries. Changes nothing on the cluster.

    rushes pipeline compile --profile mine.yaml --out mine-pipeline.yaml
    """

    profile: str = "gpu"
    """Profile of the cluster: cpu, gpu, or a YAML file (pipelines/profiles has examples)."""
    comparison: bool = False
    """Compile the pipeline of `rushes compare --runner cluster` instead."""
    out: Path = Path("pipeline.yaml")
    """File for the compiled pipeline."""

    def execute(self) -> int:
        from rushes.commands.pipeline import compile_pipeline

        return compile_pipeline(self.profile, comparison=self.comparison, out=self.out)


@dataclass(frozen=True, kw_only=True)
class _Compiled(Run):
    """The flags of commands that run a compiled pipeline."""

    profile: str = "gpu"
    """Profile of the cluster: cpu, gpu, or a YAML file."""
    pipeline: Path | None = None
    """File from `rushes pipeline compile`. Default: the one of this version, for the profile gpu."""
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
    """Starts a run on Kubeflow Pipelines; uploads the compiled pipeline if the server does not have it.

    rushes pipeline submit pace-r2plus1d --profile mine.yaml --videos s3://archive/videos
    """

    wait: bool = False
    """Wait until the run has ended; exit status 1 if it failed."""

    def execute(self) -> int:
        return self.submit(wait=self.wait)


@dataclass(frozen=True, kw_only=True)
class PipelineRun(_Compiled):
    """Runs the compiled pipeline and waits for its end: on this machine, in containers, or on a cluster.

    rushes pipeline run pace-r2plus1d --size cpu --videos footage/ --runner docker
    """

    runner: Literal["subprocess", "docker", "cluster"] = "subprocess"
    """subprocess: as `rushes run` does; docker: each step in a container of the image from `make image`; cluster: on
    Kubeflow Pipelines."""

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
    """The flags of commands that read schedules."""

    file: Positional[Path] = Path("deploy/schedules.yaml")
    """YAML file of schedules."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: KF_PIPELINES_ENDPOINT, then the cluster that the command runs in."""
    pipeline: UseAppendAction[tuple[Path, ...]] = ()
    """Compiled pipeline that a schedule may name; may be repeated. Default: the one of this version."""


@dataclass(frozen=True, kw_only=True)
class SchedulesPlan(_Schedules):
    """Shows what `rushes schedules apply` would change on Kubeflow Pipelines; changes nothing.

    rushes schedules plan deploy/schedules.yaml
    """

    def execute(self) -> int:
        from rushes.commands.schedules import plan

        return plan(self.file, pipelines=self.pipeline, host=self.host)


@dataclass(frozen=True, kw_only=True)
class SchedulesApply(_Schedules):
    """Makes the schedules on Kubeflow Pipelines the same as those in a file.

    rushes schedules apply deploy/schedules.yaml

    Deletes schedules of the same experiment that an earlier `apply` made; other recurring runs are left alone.
    """

    def execute(self) -> int:
        from rushes.commands.schedules import apply

        return apply(self.file, pipelines=self.pipeline, host=self.host)


@dataclass(frozen=True, kw_only=True)
class SchedulesCheck(_Schedules):
    """Submits a run for each enabled schedule whose data changed since the last run; for a CronJob.

    rushes schedules check deploy/schedules.yaml
    """

    def execute(self) -> int:
        from rushes.commands.schedules import check

        return check(self.file, pipelines=self.pipeline, host=self.host)
