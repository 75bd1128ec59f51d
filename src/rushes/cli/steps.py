"""The group "Steps": one command per step of the workflow, in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from rushes.cli.base import WithRecipe


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Step 1: lists the videos and their labels by content. Writes a pointer, as every step does.

    rushes pin --videos footage/ --labels labels.csv --out artifacts/pin.json
    """

    videos: str
    """Folder of video files, or an fsspec URL such as s3://bucket/archive."""
    out: Path
    """File for the pointer (kilobytes of JSON)."""
    labels: str = ""
    """CSV or Parquet of labels. Default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    revision: str = ""
    """Revision of the DVC repository that holds the videos."""
    rehash: bool = False
    """Read every file again, even if its size and modification time (or ETag) have not changed."""

    def execute(self) -> int:
        from rushes.footage.reference import DataReference

        data = DataReference(
            videos=self.videos, labels=self.labels, splits=self.splits, fold=self.fold, revision=self.revision
        )
        return _step("pin", data=data, out=self.out, rehash=self.rehash)


@dataclass(frozen=True, kw_only=True)
class Sample(WithRecipe):
    """Step 2: videos to footage: small H.264 in immutable shards, and an index with one row per segment.

    rushes sample pace-r2plus1d --size cpu --pin artifacts/pin.json --out artifacts/sample.json
    """

    pin: Path
    """Pointer from `rushes pin`."""
    out: Path
    """File for the pointer to the footage."""
    partition: str = ""
    """Encode only this part of the shards, such as 2/3. After all parts, run the command without it: it writes the
    index."""

    def execute(self) -> int:
        return _step("sample", recipe=self.full_recipe, pin=self.pin, out=self.out, partition=self.partition)


@dataclass(frozen=True, kw_only=True)
class Pretrain(WithRecipe):
    """Step 3: footage to a backbone, by a pretext task.

    rushes pretrain pace-r2plus1d --size cpu --footage artifacts/sample.json --out artifacts/pretrain.json
    """

    footage: Path
    """Pointer from `rushes sample`."""
    out: Path
    """File for the pointer to the backbone."""

    def execute(self) -> int:
        return _step("pretrain", recipe=self.full_recipe, footage=self.footage, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Finetune(WithRecipe):
    r"""Step 4: a backbone and labelled footage to a classifier.

    rushes finetune pace-r2plus1d --size cpu --footage artifacts/sample.json --backbone artifacts/pretrain.json \
        --out artifacts/finetune.json
    """

    footage: Path
    """Pointer from `rushes sample`."""
    backbone: Path
    """Pointer from `rushes pretrain`."""
    out: Path
    """File for the pointer to the classifier."""
    init: str = "pretrained"
    """Initial weights: pretrained; random, the baseline to compare with; or a file: a state dict of torch or
    safetensors, or the pointer of an earlier run."""

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
    """Step 5: the classifier that is best on validation, without looking at the test split.

    rushes choose artifacts/pace.json artifacts/vcop.json --out artifacts/choice.json
    """

    classifiers: Positional[tuple[Path, ...]]
    """Pointers from `rushes finetune`."""
    out: Path
    """File for the pointer to the choice."""

    def execute(self) -> int:
        return _step("choose", classifiers={str(path): path for path in self.classifiers}, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Export(WithRecipe):
    """Step 6: a classifier to an ONNX bundle, with its contract and a golden clip.

    rushes export pace-r2plus1d --size cpu --classifier artifacts/finetune.json --out artifacts/export.json
    """

    classifier: Path
    """Pointer from `rushes finetune`."""
    out: Path
    """File for the pointer to the bundle."""

    def execute(self) -> int:
        return _step("export", recipe=self.full_recipe, classifier=self.classifier, out=self.out)


@dataclass(frozen=True, kw_only=True)
class Evaluate(WithRecipe):
    r"""Step 7: accuracy on the test split, pretrained beside random, and whether an endpoint will answer as measured.

    rushes evaluate pace-r2plus1d --size cpu --footage artifacts/sample.json --backbone artifacts/pretrain.json \
        --classifier artifacts/finetune.json --baseline artifacts/random.json --bundle artifacts/export.json \
        --out artifacts/evaluate.json
    """

    footage: Path
    """Pointer from `rushes sample`."""
    backbone: Path
    """Pointer from `rushes pretrain`."""
    classifier: Path
    """Pointer from `rushes finetune`."""
    baseline: Path
    """Pointer from `rushes finetune --init random`."""
    bundle: Path
    """Pointer from `rushes export`."""
    out: Path
    """File for the pointer to metrics, predictions and report."""

    def execute(self) -> int:
        return _step(
            "evaluate",
            recipe=self.full_recipe,
            footage=self.footage,
            backbone=self.backbone,
            classifier=self.classifier,
            baseline=self.baseline,
            bundle=self.bundle,
            out=self.out,
        )


@dataclass(frozen=True, kw_only=True)
class Register(WithRecipe):
    r"""Step 8: the bundle as an MLflow model version, with its lineage.

    rushes register pace-r2plus1d --size cpu --endpoint demo --bundle artifacts/export.json \
        --evaluation artifacts/evaluate.json --out artifacts/register.json
    """

    endpoint: str
    """Name of the registered model."""
    bundle: Path
    """Pointer from `rushes export`."""
    evaluation: Path
    """Pointer from `rushes evaluate`."""
    out: Path
    """File for the pointer to the version."""

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
    r"""Step 9: the gate: decides by the evaluation whether to serve the version, and writes that to the ledger.

    rushes promote pace-r2plus1d --size cpu --version artifacts/register.json --bundle artifacts/export.json \
        --evaluation artifacts/evaluate.json --footage artifacts/sample.json --out artifacts/promote.json
    """

    version: Path
    """Pointer from `rushes register`."""
    bundle: Path
    """Pointer from `rushes export`."""
    evaluation: Path
    """Pointer from `rushes evaluate`."""
    footage: Path
    """Pointer from `rushes sample`."""
    out: Path
    """File for the pointer to the decision."""

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
    """Step 10: waits until the promoted version is served, or fails.

    rushes deploy pace-r2plus1d --size cpu --decision artifacts/promote.json --out artifacts/deploy.json
    """

    decision: Path
    """Pointer from `rushes promote`."""
    out: Path
    """File for the pointer to the deployment."""

    def execute(self) -> int:
        return _step("deploy", recipe=self.full_recipe, decision=self.decision, out=self.out)


def _step(step: str, **arguments: Any) -> int:
    from rushes.commands.step import run_alone

    return run_alone(step, arguments)
