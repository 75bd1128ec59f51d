"""The group "Steps": one command per step of the workflow, in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from rushes.cli.base import WithRecipe


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
        from rushes.footage.reference import DataReference

        data = DataReference(
            videos=self.videos, labels=self.labels, splits=self.splits, fold=self.fold, revision=self.revision
        )
        return _step("pin", data=data, out=self.out, rehash=self.rehash)


@dataclass(frozen=True, kw_only=True)
class Sample(WithRecipe):
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
class Pretrain(WithRecipe):
    """Step 3: footage to a backbone, by a task made from the footage itself."""

    footage: Path
    """Pointer from `rushes sample`."""
    out: Path
    """Where the pointer to the backbone goes."""

    def execute(self) -> int:
        return _step("pretrain", recipe=self.full_recipe, footage=self.footage, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Finetune(WithRecipe):
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
class Evaluate(WithRecipe):
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
class Export(WithRecipe):
    """Step 7: classifier to ONNX, with its contract and a golden clip."""

    classifier: Path
    """Pointer from `rushes finetune`."""
    out: Path
    """Where the pointer to the bundle goes."""

    def execute(self) -> int:
        return _step("export", recipe=self.full_recipe, classifier=self.classifier, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Register(WithRecipe):
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
class Promote(WithRecipe):
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
class Deploy(WithRecipe):
    """Step 10: waits until what the ledger says is what is served, or fails."""

    decision: Path
    """Pointer from `rushes promote`."""
    out: Path
    """Where the pointer to the deployment goes."""

    def execute(self) -> int:
        return _step("deploy", recipe=self.full_recipe, decision=self.decision, out=self.out)


def _step(step: str, **arguments: Any) -> int:
    from rushes.commands.step import run_alone

    return run_alone(step, arguments)
