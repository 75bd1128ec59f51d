"""The command line: `rushes run` for the whole workflow, a verb for each step, servers, predictions.

Every command is a frozen dataclass: its docstring is the help, its fields are the flags. A recipe's fields are flags
too (`--pretrain.epochs 5`), with the chosen model's values as defaults.
"""

import dataclasses
import difflib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from rushes import __version__, plugins
from rushes.config import Recipe, RecipeSections, known_models, load_recipe
from rushes.errors import RushesError, UserError, no_place

Sections = Annotated[RecipeSections, arg(name="")]


class Command(Protocol):
    """A parsed command."""

    def execute(self) -> int:
        """Does it; returns the exit status."""


@dataclass(frozen=True, kw_only=True)
class _WithRecipe:
    """What commands that read a recipe share."""

    model: Positional[str]
    """A folder under models/: see `rushes models`."""
    size: str = "full"
    """The recipe's variant: full (as published) or cpu (minutes on a laptop)."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines further pretext tasks or backbones (see `rushes.plugins`); may be given several times."""
    recipe: Sections = field(default_factory=RecipeSections)

    @property
    def full_recipe(self) -> Recipe:
        """The recipe with the flags applied; its files are found from any folder, as steps run in others."""
        pretrain = self.recipe.pretrain
        if pretrain.init:
            pretrain = dataclasses.replace(pretrain, init=str(Path(pretrain.init).absolute()))
        files = tuple(str(file.absolute()) for file in self.plugin)
        return Recipe(name=self.model, plugins=files, **vars(self.recipe) | {"pretrain": pretrain})


@dataclass(frozen=True, kw_only=True)
class Run(_WithRecipe):
    """From a folder of videos to a served model: every step, then a table.

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
    """Revision of the DVC repository that the videos lie in."""
    endpoint: str = ""
    """Name to register and serve under. Default: the name of the videos' folder."""
    also: UseAppendAction[tuple[str, ...]] = ()
    """Another model to train beside it, as `rushes compare` takes them: MODEL:section.field=value,...; may be given
    several times. The one that is best on validation goes on; only that one sees the test split."""

    @property
    def models(self) -> tuple[Recipe, ...]:
        """The recipes of all, on the footage that they share."""
        from rushes.comparing.members import Member, models_of, parse_member

        files = [str(file.absolute()) for file in self.plugin]
        others = [parse_member(text, size=self.size, plugins=files) for text in self.also]
        return models_of([Member(name=self.model, recipe=self.full_recipe), *others])

    def execute(self) -> int:
        from rushes.commands.run import run

        return run(
            models=self.models,
            videos=self.videos,
            labels=self.labels,
            splits=self.splits,
            fold=self.fold,
            revision=self.revision,
            endpoint=self.endpoint,
        )


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Step 1: resolves a data reference to content. Writes a pointer, as every step does."""

    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    out: Path
    """Where the pointer goes (kilobytes of JSON)."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of official split files."""
    fold: int = 1
    """Number of the split."""
    revision: str = ""
    """Revision of the DVC repository that the videos lie in."""
    rehash: bool = False
    """Read every file again, also those whose size and modification time (or ETag) are as they were."""

    def execute(self) -> int:
        return _step("pin", **vars(self))


@dataclass(frozen=True, kw_only=True)
class Sample(_WithRecipe):
    """Step 2: videos to footage: small H.264 in immutable shards, and an index with a row a segment."""

    pin: Path
    """Pointer from `rushes pin`."""
    out: Path
    """Where the pointer to the footage goes."""
    partition: str = ""
    """Encode a part of the shards only, such as 2/3; when all parts are done, the same without it makes the index."""

    def execute(self) -> int:
        return _step("sample", recipe=self.full_recipe, pin=self.pin, out=self.out, partition=self.partition)


@dataclass(frozen=True, kw_only=True)
class Pretrain(_WithRecipe):
    """Step 3: footage to a backbone, by a task made from the footage itself."""

    footage: Path
    """Pointer from `rushes sample`."""
    out: Path
    """Where the pointer to the backbone goes."""

    def execute(self) -> int:
        return _step("pretrain", recipe=self.full_recipe, footage=self.footage, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Finetune(_WithRecipe):
    """Step 4: a backbone and labelled footage to a classifier."""

    footage: Path
    """Pointer from `rushes sample`."""
    backbone: Path
    """Pointer from `rushes pretrain`."""
    out: Path
    """Where the pointer to the classifier goes."""
    init: str = "pretrained"
    """pretrained; random: the same without those weights, the row to compare with; or a file of weights: a state dict
    of torch or safetensors, or an earlier run's pointer."""

    def execute(self) -> int:
        return _step(
            "finetune",
            recipe=self.full_recipe,
            footage=self.footage,
            backbone=self.backbone,
            init=self.init,
            out=self.out,
        )


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Step 5: of several classifiers the one that is best on validation; the test split is not looked at.

    rushes choose artifacts/pace.json artifacts/vcop.json --out artifacts/choice.json
    """

    classifiers: Positional[tuple[Path, ...]]
    """Pointers from `rushes finetune`."""
    out: Path
    """Where the pointer to the choice goes."""

    def execute(self) -> int:
        return _step("choose", classifiers={str(path): path for path in self.classifiers}, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Evaluate(_WithRecipe):
    """Step 6: accuracy on the test split, pretrained beside random, with intervals and a report."""

    footage: Path
    """Pointer from `rushes sample`."""
    backbone: Path
    """Pointer from `rushes pretrain`."""
    classifier: Path
    """Pointer from `rushes finetune`."""
    baseline: Path
    """Pointer from `rushes finetune --init random`."""
    out: Path
    """Where the pointer to metrics, predictions and report goes."""

    def execute(self) -> int:
        return _step(
            "evaluate",
            recipe=self.full_recipe,
            footage=self.footage,
            backbone=self.backbone,
            classifier=self.classifier,
            baseline=self.baseline,
            out=self.out,
        )


@dataclass(frozen=True, kw_only=True)
class Export(_WithRecipe):
    """Step 7: classifier to ONNX, with its contract and a golden clip."""

    classifier: Path
    """Pointer from `rushes finetune`."""
    out: Path
    """Where the pointer to the bundle goes."""

    def execute(self) -> int:
        return _step("export", recipe=self.full_recipe, classifier=self.classifier, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Register(_WithRecipe):
    """Step 8: the bundle as an MLflow model version, with its lineage."""

    endpoint: str
    """Name of the registered model."""
    bundle: Path
    """Pointer from `rushes export`."""
    evaluation: Path
    """Pointer from `rushes evaluate`."""
    out: Path
    """Where the pointer to the version goes."""

    def execute(self) -> int:
        return _step(
            "register",
            recipe=self.full_recipe,
            endpoint=self.endpoint,
            bundle=self.bundle,
            evaluation=self.evaluation,
            out=self.out,
        )


@dataclass(frozen=True, kw_only=True)
class Promote(_WithRecipe):
    """Step 9: the gate: decides by evidence, and writes the decision to the ledger."""

    version: Path
    """Pointer from `rushes register`."""
    bundle: Path
    """Pointer from `rushes export`."""
    evaluation: Path
    """Pointer from `rushes evaluate`."""
    footage: Path
    """Pointer from `rushes sample`."""
    out: Path
    """Where the pointer to the decision goes."""

    def execute(self) -> int:
        return _step(
            "promote",
            recipe=self.full_recipe,
            version=self.version,
            bundle=self.bundle,
            evaluation=self.evaluation,
            footage=self.footage,
            out=self.out,
        )


@dataclass(frozen=True, kw_only=True)
class Deploy(_WithRecipe):
    """Step 10: waits until what the ledger says is what is served, or fails."""

    decision: Path
    """Pointer from `rushes promote`."""
    out: Path
    """Where the pointer to the deployment goes."""

    def execute(self) -> int:
        return _step("deploy", recipe=self.full_recipe, decision=self.decision, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Models:
    """Lists the models that the project knows how to make."""

    def execute(self) -> int:
        from rushes.commands.information import models

        return models()


@dataclass(frozen=True, kw_only=True)
class Up:
    """Starts MLflow and Triton on this machine; does nothing for those that run."""

    def execute(self) -> int:
        from rushes.commands.servers import up

        return up()


@dataclass(frozen=True, kw_only=True)
class Down:
    """Stops the servers that `rushes up` or `rushes run` started."""

    def execute(self) -> int:
        from rushes.commands.servers import down

        return down()


@dataclass(frozen=True, kw_only=True)
class Status:
    """Shows servers, endpoints, the champion of each, and what is served."""

    json: bool = False
    """As JSON."""

    def execute(self) -> int:
        from rushes.commands.servers import status

        return status(as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Asks the endpoint what happens in a video.

    rushes predict clip.mp4
    """

    videos: Positional[tuple[Path, ...]]
    """Video files."""
    endpoint: str = ""
    """Which endpoint; may be left out where there is only one."""
    offline: bool = False
    """The same decode and the same graph in this process; no server is asked."""
    protocol: Literal["grpc", "http"] = "grpc"
    """How to reach Triton."""
    top: int = 3
    """Actions to show."""
    json: bool = False
    """One JSON object a line: labels, probabilities, embedding, version, digest, request id."""

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
class Reconcile:
    """Makes what is served equal to what the ledger says: publishes, probes, routes, heals."""

    once: bool = True
    """One look, then exit. --no-once: look again and again, and answer probes, as beside a cluster's Triton."""
    server: str = ""
    """gRPC host:port of the Triton that reads this home; by default the one that `rushes up` started."""
    every: float = 15.0
    """Seconds between two looks."""
    port: int = 8080
    """Where probes are answered: /live and /ready."""

    def execute(self) -> int:
        from rushes.commands.servers import reconcile, watch_triton

        if self.once:
            return reconcile(self.server)
        return watch_triton(self.server, every=self.every, port=self.port)


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Waits until Triton has no more requests: a pod's last act before Triton is told to end."""

    metrics: str = "http://127.0.0.1:8002/metrics"
    """URL of Triton's metrics."""
    settle: float = 10.0
    """Seconds that it takes at least: until load balancers have heard."""
    quiet: float = 3.0
    """Seconds without a request that count as none."""
    limit: float = 60.0
    """Seconds that it takes at most."""

    def execute(self) -> int:
        from rushes.serving.sidecar import drain

        return 0 if drain(metrics=self.metrics, settle=self.settle, quiet=self.quiet, limit=self.limit) else 1


@dataclass(frozen=True, kw_only=True)
class DemoVideos:
    """Draws and encodes the embedded data: synthetic actions that differ only in motion."""

    folder: Positional[Path]
    """Where the videos and labels.csv go."""
    size: Literal["tiny", "demo", "directed", "places"] = "demo"
    """How many; directed: as many as demo, of actions that look different backwards; places: with classes that a
    single frame shows."""
    seed: int = 0
    """Everything follows from it, byte for byte."""

    def execute(self) -> int:
        from rushes.commands.demo import videos

        return videos(self.folder, size=self.size, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class FootageShow:
    """A first look at videos, or at footage: what moves, where shots change, what is broken or there twice.

    rushes footage show my_videos/
    """

    target: Positional[str]
    """A folder of videos or an fsspec URL, of which a part is sampled (under a minute, no label needed); or the pointer
    that `rushes sample` wrote, of which everything is shown."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    out: Path = Path("footage")
    """Folder for the page and its picture."""

    def execute(self) -> int:
        from rushes.commands.show import show

        return show(self.target, labels=self.labels, splits=self.splits, fold=self.fold, out=self.out)


@dataclass(frozen=True, kw_only=True)
class FootageForget:
    """Removes a video's footage for good: from shards, caches and DVC's cache; later samples refuse it.

    rushes footage forget archive/visitor.mp4
    """

    source: Positional[str]
    """The video: its file, its path as the footage names it, or its SHA-256 (at least 12 characters of it)."""
    yes: bool = False
    """Do not ask."""

    def execute(self) -> int:
        from rushes.commands.forget import forget

        return forget(self.source, yes=self.yes)


@dataclass(frozen=True, kw_only=True)
class PretextShow(_WithRecipe):
    """Questions of a model's pretext task about your videos, as its network sees them: can a person solve them?

    rushes pretext show vcop-r3d --videos my_videos/
    """

    COMMAND_DEFAULTS: ClassVar[Mapping[str, Any]] = {"size": "cpu"}

    videos: str
    """A folder of videos or an fsspec URL, of which a part is sampled; or the pointer that `rushes sample` wrote."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups and splits; default: labels.csv in the folder, then class folders."""
    questions: int = 12
    """How many."""
    out: Path = Path("pretext")
    """Folder for the page and its picture."""

    def execute(self) -> int:
        from rushes.commands.pretext import show

        return show(self.full_recipe, videos=self.videos, labels=self.labels, questions=self.questions, out=self.out)


@dataclass(frozen=True, kw_only=True)
class PretextControl:
    """Are pretext tasks solved by motion, or by a shortcut? Trains and tests where nothing moves, then on your videos.

    rushes pretext control vcop-r3d pace-r2plus1d --videos my_videos/

    Takes minutes a model. Exit status 1: a shortcut was found.
    """

    models: Positional[tuple[str, ...]] = ()
    """Models, each with overrides of its own after a colon, and a name of its own before it, as for `rushes compare`:
    NAME=MODEL:section.field=value,section.field=value."""
    videos: str
    """A folder of videos or an fsspec URL, of which a part is sampled; or the pointer that `rushes sample` wrote."""
    still: str = ""
    """A folder of videos in which nothing moves (a camera left running): only these show a clock or a flicker that is
    in the picture. Default: one frame of each segment, held."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups; default: labels.csv in the folder, then class folders."""
    size: str = "cpu"
    """The recipes' variant."""
    steps: int = 400
    """Batches that each network is trained for, once on each footage."""
    questions: int = 8
    """Asked about each group of test videos."""
    segments: int = 800
    """Segments of up to 8 seconds that are used, at most."""
    seed: int = 0
    """Of weights, draws and held moments."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines further pretext tasks or backbones (see `rushes.plugins`); may be given several times."""
    out: Path | None = None
    """JSON file for the results."""

    def execute(self) -> int:
        from rushes.commands.no_motion import NoMotionOptions, control
        from rushes.comparing.members import parse_member

        files = [str(file.absolute()) for file in self.plugin]
        return control(
            [parse_member(model, size=self.size, plugins=files) for model in self.models],
            videos=self.videos,
            still=self.still,
            labels=self.labels,
            out=self.out,
            options=NoMotionOptions(steps=self.steps, questions=self.questions, segments=self.segments, seed=self.seed),
        )


@dataclass(frozen=True, kw_only=True)
class PretextMaps:
    """What drives a network's strongest units, and where in the picture it is, beside random weights.

    rushes pretext maps --backbone artifacts/pretrain.json --footage artifacts/sample.json
    """

    backbone: Path
    """Pointer from `rushes pretrain`, or from `rushes finetune`."""
    footage: Path
    """Pointer from `rushes sample`."""
    units: int = 8
    """Channels of the last convolution to show."""
    pictures: int = 5
    """Of each channel, from as many segments."""
    segments: int = 200
    """Segments to look at, evenly spaced over the footage."""
    clips: int = 10
    """Clips (or frames) of each segment to look at."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines the backbone (see `rushes.plugins`)."""
    out: Path = Path("maps")
    """Folder for the picture."""

    def execute(self) -> int:
        from rushes.commands.maps import MapOptions, maps

        options = MapOptions(
            units=self.units, pictures=self.pictures, segments=self.segments, clips=self.clips, device=self.device
        )
        return maps(self.backbone, footage=self.footage, options=options, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Demo(_WithRecipe):
    """The whole workflow on the embedded data, and a question to the endpoint at the end. `make demo` runs it."""

    COMMAND_DEFAULTS: ClassVar[Mapping[str, Any]] = {"model": "pace-r2plus1d", "size": "cpu"}

    def execute(self) -> int:
        from rushes.commands.demo import demo

        return demo(recipe=self.full_recipe)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Several models under one protocol: one table with intervals, random initialisation beside each network.

    rushes compare vcop-r3d pace-r2plus1d:pretrain.epochs=30 --size cpu --videos footage/ --labels labels.csv

    What has been run is not run again; a comparison that was interrupted goes on where it stopped.
    """

    models: Positional[tuple[str, ...]] = ()
    """Models, each with overrides of its own after a colon, and a name of its own before it:
    NAME=MODEL:section.field=value,section.field=value."""
    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files: its splits 1, 2, ... are the folds."""
    size: str = "full"
    """The recipes' variant: full (as published) or cpu (minutes on a laptop)."""
    folds: int = 3
    """Parts of the labelled groups, each of which is test once. 1: the split that the labels give."""
    seeds: int = 1
    """Runs of everything, with seeds 0, 1, ..."""
    labels_per_class: str = "5"
    """Linear probe and fine-tuning also with so few labels, such as 1,2,5,10; 0: with all labels only."""
    budget: float = 0.0
    """Backbone training FLOPs that every pretraining takes, such as 1e15; 0: each recipe's own epochs."""
    parallel: int = 1
    """Chains (a model on a fold with a seed) at a time on this machine; on a cluster, the profile says."""
    runner: Literal["subprocess", "cluster"] = "subprocess"
    """subprocess: on this machine; cluster: as tasks of Kubeflow Pipelines, and this waits for them."""
    profile: str = "gpu"
    """The cluster: gpu, cpu, or a file.yaml of yours."""
    pipeline: Path | None = None
    """What `rushes pipeline compile --comparison` wrote for it. Default: the one of this version, for the profile
    gpu."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, KF_PIPELINES_ENDPOINT, then the cluster that this runs in."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines further pretext tasks or backbones (see `rushes.plugins`); may be given several times."""
    out: Path = Path("comparison")
    """Folder for comparison.html, .md, .csv and .json, and for logs."""

    def execute(self) -> int:
        from rushes.commands.compare import run_compare, submit_compare
        from rushes.commands.pipeline import Destination
        from rushes.comparing.members import parse_member
        from rushes.comparing.protocol import Protocol, numbers_of
        from rushes.orchestration.local import compiled_comparison

        if not self.models:
            raise UserError("models: missing; name one or more, see `rushes models`")
        protocol = Protocol(
            videos=self.videos,
            labels=self.labels,
            splits=self.splits,
            folds=self.folds,
            seeds=self.seeds,
            numbers=numbers_of(self.labels_per_class),
            budget=self.budget,
        )
        files = [str(file.absolute()) for file in self.plugin]
        members = [parse_member(text, size=self.size, plugins=files) for text in self.models]
        if self.runner == "subprocess":
            return run_compare(members, protocol, parallel=self.parallel, out=self.out)
        if self.parallel != 1:
            raise UserError(f"parallel: {self.parallel} is not allowed with --runner cluster: its profile says")
        to = Destination(profile=self.profile, pipeline=self.pipeline or compiled_comparison(), host=self.host)
        return submit_compare(members, protocol, to=to, out=self.out)


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
        from rushes.kubeflow.schedules import Data
        from rushes.orchestration.local import compiled_pipeline

        data = Data(videos=self.videos, labels=self.labels, splits=self.splits, fold=self.fold, revision=self.revision)
        to = Destination(profile=self.profile, pipeline=self.pipeline or compiled_pipeline(), host=self.host)
        endpoint = endpoint_name(self.endpoint or Path(self.videos).name)
        return submit(models=self.models, data=data, endpoint=endpoint, to=to, wait=wait)


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
        from rushes.commands.run import run

        if self.runner == "cluster":
            return self.submit(wait=True)
        return run(
            models=self.models,
            videos=self.videos,
            labels=self.labels,
            splits=self.splits,
            fold=self.fold,
            revision=self.revision,
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


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Looks whether everything is there that a run needs: store, servers, GPU, versions; each with its remedy.

    rushes doctor --profile gpu

    On a laptop, or in a pod of the cluster. Exit status 1: something failed.
    """

    profile: str = ""
    """The cluster's profile: a name (cpu, gpu) or a file.yaml."""
    host: str = ""
    """URL of Kubeflow Pipelines. Default: the profile's, then KF_PIPELINES_ENDPOINT."""

    def execute(self) -> int:
        from rushes.commands.doctor import doctor
        from rushes.doctor.checks import Surroundings

        return doctor(Surroundings(profile=self.profile, host=self.host))


@dataclass(frozen=True, kw_only=True)
class Plan(_WithRecipe):
    """What a run will cost, before it is run: core-hours, GPU-hours, GB and minutes a step, as ranges.

    rushes plan pace-r2plus1d --videos s3://bucket/archive --profile gpu

    Samples a small part of the archive into a folder that is thrown away; nothing is kept.
    """

    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    profile: str = ""
    """The cluster's profile: a name (cpu, gpu) or a file.yaml. Default: this machine."""
    share: float = 0.01
    """Share of the sampling that is done for this: of at least 16 segments, and for at most about 10 core-minutes."""
    json: bool = False
    """As JSON."""

    def execute(self) -> int:
        from rushes.commands.plan import plan

        return plan(
            self.full_recipe,
            size=self.size,
            videos=self.videos,
            labels=self.labels,
            splits=self.splits,
            fold=self.fold,
            profile=self.profile,
            share=self.share,
            as_json=self.json,
        )


GROUPS: dict[str, dict[str, type]] = {
    "Whole workflow": {"run": Run, "demo": Demo, "predict": Predict, "compare": Compare, "models": Models},
    "Servers of this machine": {"up": Up, "down": Down, "status": Status, "reconcile": Reconcile, "drain": Drain},
    "Steps": {
        "pin": Pin,
        "sample": Sample,
        "pretrain": Pretrain,
        "finetune": Finetune,
        "choose": Choose,
        "evaluate": Evaluate,
        "export": Export,
        "register": Register,
        "promote": Promote,
        "deploy": Deploy,
    },
    "Pretext tasks": {"pretext show": PretextShow, "pretext control": PretextControl, "pretext maps": PretextMaps},
    "Before a run": {"doctor": Doctor, "plan": Plan},
    "On Kubeflow": {
        "pipeline compile": PipelineCompile,
        "pipeline run": PipelineRun,
        "pipeline submit": PipelineSubmit,
        "schedules plan": SchedulesPlan,
        "schedules apply": SchedulesApply,
        "schedules check": SchedulesCheck,
    },
    "Data": {"footage show": FootageShow, "footage forget": FootageForget, "demo-videos": DemoVideos},
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses and executes; deliberate errors become one line on standard error and an exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait must not spin: beside loader workers on few cores that costs up to half the speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # SIGTERM unwinds like Ctrl-C, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            return _overview()
        if arguments[0] == "--version":
            sys.stdout.write(f"rushes {__version__}\n")
            return 0
        return parse(arguments).execute()
    except KeyboardInterrupt:
        return _complain("interrupted: nothing is lost; the same command goes on where it stopped", 130)
    except RushesError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:
        return 0
    except OSError as error:
        message = no_place(error)
        if message is None:
            raise
        return _complain(message, 2)


def parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments ask for.

    Raises:
        UserError: unknown command, model, size or value.
        SystemExit: tyro printed help, or what is wrong with a flag (status 2).
    """
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), list(arguments[words:])
    if name not in COMMANDS:
        if verbs := [command.removeprefix(f"{name} ") for command in COMMANDS if command.startswith(f"{name} ")]:
            raise UserError(f"command: `rushes {name}` needs a verb: {' or '.join(verbs)}")
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"command: {name!r} is not known; {hint}`rushes --help` lists them")
    command = COMMANDS[name]
    defaults = _recipe_defaults(command, rest) if issubclass(command, _WithRecipe) else {}
    plugins.use([*defaults.get("plugin", ()), *_values("--plugin", rest)])
    missing = {f.name: _default(f) for f in dataclasses.fields(command)}
    wants_names = issubclass(command, _WithRecipe) and ("-h" in rest or "--help" in rest)
    parsed: Command = tyro.cli(
        command,
        prog=f"rushes {name}",
        args=rest,
        default=command(**missing | defaults),
        use_underscores=True,
        description=f"{inspect.getdoc(command)}\n\n{_names()}" if wants_names else None,
    )
    return parsed


def _names() -> str:
    """Tasks and backbones, plugins among them."""
    from rushes.commands.information import names

    return names()


def _default(f: "dataclasses.Field[Any]") -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else tyro.MISSING


def _recipe_defaults(command: type, rest: list[str]) -> dict[str, Any]:
    """Reads the model and the size ahead of the other flags, since their defaults depend on them."""
    fixed: Mapping[str, Any] = getattr(command, "COMMAND_DEFAULTS", {})
    size = [fixed.get("size", "full"), *_values("--size", rest)][-1]
    model = rest[0] if rest and not rest[0].startswith("-") else fixed.get("model")
    if model is None:
        if "-h" in rest or "--help" in rest:
            return {"recipe": RecipeSections()}
        raise UserError(f"model: missing; the first argument is one of {', '.join(known_models())}")
    recipe = load_recipe(model, size=size)
    if _values("--pretrain.task", rest)[-1:] not in ([], [recipe.pretrain.task]):
        # The model's options are its task's.
        recipe = dataclasses.replace(recipe, pretrain=dataclasses.replace(recipe.pretrain, options={}))
    sections = RecipeSections(**{f.name: getattr(recipe, f.name) for f in dataclasses.fields(RecipeSections)})
    return {**fixed, "recipe": sections, "plugin": tuple(Path(file) for file in recipe.plugins)}


def _values(flag: str, rest: list[str]) -> list[str]:
    """What follows a flag, each time that it is given."""
    found = []
    for word, following in itertools.zip_longest(rest, rest[1:]):
        if word == flag and following is not None:
            found.append(following)
        elif word.startswith(f"{flag}="):
            found.append(word.removeprefix(f"{flag}="))
    return found


def _step(step: str, **arguments: Any) -> int:
    from rushes.commands.step import run_alone

    return run_alone(step, arguments)


def _overview() -> int:
    lines = ["usage: rushes COMMAND ...", "", "From raw, unlabelled video to a served action-recognition model.", ""]
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<18}{(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items()]
        lines.append("")
    lines.append("`rushes COMMAND --help` tells more. Begin with `rushes demo`, or")
    lines.append("`rushes run pace-r2plus1d --size cpu --videos YOUR_FOLDER`.")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _complain(message: str, status: int) -> int:
    from rushes.console import errors

    errors.print(f"[bold red]rushes:[/] {_escape(message)}")
    return status


def _escape(message: str) -> str:
    from rich.markup import escape

    return escape(message)


if __name__ == "__main__":
    raise SystemExit(main())
