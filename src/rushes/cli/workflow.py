"""The group "Whole workflow" of the help: run, demo, predict, compare, models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tyro.conf import Positional, UseAppendAction

from rushes import extras
from rushes.cli.base import WithRecipe
from rushes.config import Recipe
from rushes.errors import UserError

if TYPE_CHECKING:
    from rushes.comparing.members import Member
    from rushes.footage.reference import DataReference


@dataclass(frozen=True, kw_only=True)
class Run(WithRecipe):
    """Runs every step, from a folder of videos to a served model, and prints a table.

    rushes run pace-r2plus1d --size cpu --videos footage/ --labels labels.csv
    """

    videos: str
    """Folder of video files, any depth, any format that FFmpeg reads; or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet: path,label and optionally start,end,group,split; or Kinetics' columns. Default: labels.csv in the
    folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    revision: str = ""
    """Revision of the DVC repository that holds the videos."""
    endpoint: str = ""
    """Name to register and serve under. Default: the name of the videos' folder."""
    also: UseAppendAction[tuple[str, ...]] = ()
    """Another model to train, as for `rushes compare`: MODEL:section.field=value,...; may be repeated. The one that is
    best on validation is evaluated and served; only that one sees the test split."""

    @property
    def models(self) -> tuple[Recipe, ...]:
        """The recipes of all models, with one section `sample` for their common footage."""
        from rushes.comparing.members import Member, models_of, parse_member, with_duplicates

        files, own = [str(file.absolute()) for file in self.plugin], self.full_recipe
        others = [parse_member(text, size=self.size, plugins=files) for text in self.also]
        others = with_duplicates(others, own.sample.duplicates)
        return models_of([Member(name=self.model, recipe=own), *others])

    @property
    def data(self) -> "DataReference":
        """What to train on."""
        from rushes.footage.reference import DataReference

        return DataReference(
            videos=self.videos, labels=self.labels, splits=self.splits, fold=self.fold, revision=self.revision
        )

    def execute(self) -> int:
        extras.require(*extras.WHOLE)
        from rushes.commands.run import run

        return run(models=self.models, data=self.data, endpoint=self.endpoint)


@dataclass(frozen=True, kw_only=True)
class Demo(WithRecipe):
    """Runs the whole workflow on videos that the project draws, then asks the endpoint about one of them.

    rushes demo
    """

    COMMAND_DEFAULTS: ClassVar[Mapping[str, Any]] = {"model": "pace-r2plus1d", "size": "cpu"}

    def execute(self) -> int:
        extras.require(*extras.WHOLE)
        from rushes.commands.demo import demo

        return demo(recipe=self.full_recipe)


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Asks the endpoint which action a video shows.

    rushes predict clip.mp4
    """

    videos: Positional[tuple[Path, ...]]
    """Video files."""
    endpoint: str = ""
    """Name of the endpoint; optional if there is only one."""
    offline: bool = False
    """Decode and run the same graph in this process, without a server."""
    protocol: Literal["grpc", "http"] = "grpc"
    """Protocol to reach Triton by."""
    top: int = 3
    """Number of actions to show."""
    json: bool = False
    """Print one JSON object per video: labels, probabilities, embedding, version, digest, request id."""

    def execute(self) -> int:
        from rushes.commands.predict import predict

        return predict(
            self.videos,
            endpoint=self.endpoint,
            offline=self.offline,
            protocol=self.protocol,
            top=self.top,
            as_json=self.json,
        )


@dataclass(frozen=True, kw_only=True)
class CommonFootage:
    """What `rushes compare` says of the footage that all its models share."""

    duplicates: Literal["", "error", "drop"] = ""
    """What to do with footage of the test split that is also in another split: refuse it, or drop it from the other.
    Default: as the recipes say."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compares models under one protocol: a table with intervals, with random initialisation beside each network.

    rushes compare vcop-r3d pace-r2plus1d:pretrain.epochs=30 --size cpu --videos footage/ --labels labels.csv

    Work that is done is not repeated: the same command continues an interrupted comparison.
    """

    models: Positional[tuple[str, ...]] = ()
    """Models, each with an optional name and overrides: NAME=MODEL:section.field=value,section.field=value."""
    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet of labels. Default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files: its splits 1, 2, ... are the folds."""
    size: str = "full"
    """Variant of the recipes: full (as published) or cpu (minutes on a laptop)."""
    folds: int = 3
    """Number of folds of the labelled groups; each is the test split once. 1: the split that the labels give."""
    seeds: int = 1
    """Repeat everything with this many seeds: 0, 1, ..."""
    labels_per_class: str = "5"
    """Also run linear probe and fine-tuning with so many labels per class, such as 1,2,5,10; 0: only with all."""
    budget: float = 0.0
    """FLOPs of backbone training per pretraining, such as 1e15; 0: the epochs of each recipe."""
    parallel: int = 1
    """Chains (a model on a fold with a seed) to run at a time on this machine; on a cluster, the profile decides."""
    runner: Literal["subprocess", "cluster"] = "subprocess"
    """subprocess: on this machine; cluster: as tasks of Kubeflow Pipelines, which this command waits for."""
    profile: str = "gpu"
    """Profile of the cluster: cpu, gpu, or a YAML file."""
    pipeline: Path | None = None
    """File from `rushes pipeline compile --comparison`. Default: the one of this version, for the profile gpu."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, KF_PIPELINES_ENDPOINT, then the cluster that this runs in."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """File that defines further pretext tasks or backbones (see `rushes.plugins`); may be repeated."""
    sample: CommonFootage = field(default_factory=CommonFootage)
    out: Path = Path("comparison")
    """Folder for comparison.html, .md, .csv and .json, and for logs."""

    @property
    def members(self) -> "list[Member]":
        """The models with their overrides."""
        from rushes.comparing.members import parse_member, with_duplicates

        if not self.models:
            raise UserError("models: missing; name one or more, see `rushes models`")
        files = [str(file.absolute()) for file in self.plugin]
        members = [parse_member(text, size=self.size, plugins=files) for text in self.models]
        return with_duplicates(members, self.sample.duplicates) if self.sample.duplicates else members

    def execute(self) -> int:
        if self.runner == "subprocess":
            extras.require("train")
        from rushes.commands.compare import run_compare, submit_compare
        from rushes.commands.pipeline import Destination
        from rushes.comparing.comparison_plan import ComparisonSettings, numbers_of
        from rushes.footage.reference import DataReference
        from rushes.orchestration.local import compiled_comparison

        members = self.members
        settings = ComparisonSettings(
            data=DataReference(videos=self.videos, labels=self.labels, splits=self.splits),
            folds=self.folds,
            seeds=self.seeds,
            numbers=numbers_of(self.labels_per_class),
            budget=self.budget,
        )
        if self.runner == "subprocess":
            return run_compare(members, settings, parallel=self.parallel, out=self.out)
        if self.parallel != 1:
            raise UserError(f"parallel: {self.parallel} is not allowed with --runner cluster: its profile says")
        to = Destination(profile=self.profile, pipeline=self.pipeline or compiled_comparison(), host=self.host)
        return submit_compare(members, settings, to=to, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Models:
    """Lists the models that can be trained, with their tasks and sizes.

    rushes models
    """

    def execute(self) -> int:
        from rushes.commands.information import models

        return models()
