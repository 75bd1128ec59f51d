"""Scores a classifier and a backbone on the test split, pretrained and random side by side, under one protocol."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rushes.config import EvaluateConfig
from rushes.errors import UserError
from rushes.evaluation.features import Network, clip_means
from rushes.evaluation.probes import linear_probe, nearest_neighbour
from rushes.evaluation.statistics import Interval, group_interval, mcnemar_exact
from rushes.footage.reader import Footage
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.training.calibration import random_backbone
from rushes.training.data import EvenClips
from rushes.training.device import pick_device
from rushes.training.networks import Classifier
from rushes.training.weights import load_backbone, load_classifier, read_model

SCHEMA = 1
PROTOCOLS = ("fine-tune", "linear probe", "nearest neighbour")
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What evaluation found: the figures, and the predictions behind them, one row per test segment."""

    metrics: dict[str, Any]
    rows: dict[str, list[Any]]
    """Columns of predictions.parquet."""


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """The networks that are run over every clip."""

    pretrained: Classifier
    random: Classifier
    """Random weights with batch norm's statistics of the footage (`rushes.training.calibration`)."""
    classifier: Classifier
    baseline: Classifier
    model: Mapping[str, Any]

    @classmethod
    def load(
        cls,
        footage: Footage,
        *,
        backbone: Manifest,
        classifier: Manifest,
        baseline: Manifest,
        store: Store,
        device: torch.device,
    ) -> "_Networks":
        model = read_model(backbone, store)
        geometry = {key: model[key] for key in ("seed", "clip_frames", "crop")}
        random = Classifier(backbone=model["backbone"], classes=2).eval()
        random.backbone = random_backbone(model["backbone"], footage=footage, device=device, **geometry)
        pretrained = Classifier(backbone=model["backbone"], classes=2).eval()
        load_backbone(pretrained.backbone, backbone, store)
        tuned, _ = load_classifier(classifier, store)
        scratch, _ = load_classifier(baseline, store)
        return cls(
            pretrained=pretrained.to(device),
            random=random.to(device),
            classifier=tuned.to(device),
            baseline=scratch.to(device),
            model=model,
        )


def score(
    footage: Footage,
    *,
    config: EvaluateConfig,
    seed: int,
    store: Store,
    backbone: Manifest,
    classifier: Manifest,
    baseline: Manifest,
    progress: Progress,
) -> Scores:
    """Runs the networks over the labelled train and test segments and compares them."""
    device = pick_device(config.device)
    networks = _Networks.load(
        footage, backbone=backbone, classifier=classifier, baseline=baseline, store=store, device=device
    )
    train, test = footage.select("train", labelled=True), footage.select("test", labelled=True)
    if not len(test):
        raise UserError("footage: no labelled test segment: give a split column, --splits, or raise sample.test_share")
    bar = progress.bar("evaluate", total=len(train) + len(test), unit="segments")
    run: dict[str, Any] = {"device": device, "batch": config.batch, "bar": bar}
    frozen: dict[str, Network] = {"pretrained": networks.pretrained.features, "random": networks.random.features}
    tuned: dict[str, Network] = {
        "embedding": networks.classifier.features,
        "baseline embedding": networks.baseline.features,
    }
    geometry = {"clips": config.clips, "clip_frames": networks.model["clip_frames"], "crop": networks.model["crop"]}
    fitted = clip_means(EvenClips(footage, train, **geometry), frozen, **run)
    tested = clip_means(EvenClips(footage, test, **geometry), frozen | tuned, **run)
    # The head is linear: the logits of the mean features are the mean of the clips' logits.
    tested["classifier"] = _logits(networks.classifier, tested["embedding"])
    tested["baseline"] = _logits(networks.baseline, tested["baseline embedding"])
    answers = _answers(footage, train=train, test=test, fitted=fitted, tested=tested, config=config)
    metrics = _metrics(footage, test=test, answers=answers, config=config, seed=seed)
    return Scores(metrics=metrics, rows=_rows(footage, test=test, answers=answers, tested=tested))


def summary_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that fit in a manifest."""
    figures = {f"{row['protocol']}, {row['init']}": row["top1"] for row in metrics["rows"]}
    return {"top1": figures, "test": metrics["test"], "chance": metrics["chance"], "served": metrics["served"]}


def write_predictions(path: Path, scores: Scores) -> None:
    """Writes one row per test segment."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(scores.rows), path)


def test_manifest_digest(footage: Footage, rows: Array) -> str:
    """SHA-256 of the test set: source digest, start, end and label of each segment. Reported with every figure."""
    segments, contents = footage.segments, footage.texts("source_sha256")
    listed = sorted(
        [str(contents[r]), float(segments.start[r]), float(segments.end[r]), str(segments.label[r])] for r in rows
    )
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def classes_of(footage: Footage, rows: Array) -> npt.NDArray[np.int64]:
    """Class number of each labelled row, in the order of `footage.labels`."""
    number = {label: index for index, label in enumerate(footage.labels)}
    return np.array([number[str(footage.segments.label[row])] for row in rows], dtype=np.int64)


@torch.no_grad()
def _logits(net: Classifier, features: Array) -> npt.NDArray[np.float32]:
    logits: npt.NDArray[np.float32] = net.head.cpu()(torch.from_numpy(features)).numpy()
    return logits


def _answers(
    footage: Footage,
    *,
    train: Array,
    test: Array,
    fitted: Mapping[str, Array],
    tested: Mapping[str, Array],
    config: EvaluateConfig,
) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    """Predicted class numbers of the test rows by (protocol, init)."""
    classes = classes_of(footage, train)
    answers = {
        ("fine-tune", "pretrained"): tested["classifier"].argmax(axis=1),
        ("fine-tune", "random"): tested["baseline"].argmax(axis=1),
    }
    for init in ("pretrained", "random"):
        answers["linear probe", init] = linear_probe(fitted[init], classes, tested[init], c=config.probe_l2)
        answers["nearest neighbour", init] = nearest_neighbour(fitted[init], classes, tested[init])
    return answers


def _metrics(
    footage: Footage,
    *,
    test: Array,
    answers: Mapping[tuple[str, str], Array],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """The figures of metrics.json."""
    truth, groups = classes_of(footage, test), footage.texts("group")[test].astype(str)
    right = {key: (predicted == truth) for key, predicted in answers.items()}
    support = np.bincount(truth, minlength=len(footage.labels))
    confusion = np.zeros((len(footage.labels),) * 2, dtype=int)
    np.add.at(confusion, (truth, answers["fine-tune", "pretrained"]), 1)

    def interval(values: Array) -> dict[str, Any]:
        found: Interval = group_interval(values.astype(np.float64), groups, resamples=config.resamples, seed=seed)
        return asdict(found)

    return {
        "schema": SCHEMA,
        "protocol": f"{config.clips} evenly spaced clips a segment, centre crop, mean of logits or features",
        "labels": list(footage.labels),
        "test": {
            "segments": len(test),
            "groups": len(set(groups)),
            "manifest_sha256": test_manifest_digest(footage, test),
        },
        "chance": 1 / len(footage.labels),
        "majority": float(support.max() / support.sum()),
        "rows": [
            {"protocol": protocol, "init": init, "top1": interval(right[protocol, init])}
            for protocol in PROTOCOLS
            for init in ("pretrained", "random")
        ],
        "differences": [_difference(right, protocol, interval) for protocol in PROTOCOLS],
        "per_class": [
            {"label": label, "support": int(support[n]), "recall": float(confusion[n, n] / max(support[n], 1))}
            for n, label in enumerate(footage.labels)
        ],
        "confusion": confusion.tolist(),
    }


def _difference(
    right: Mapping[tuple[str, str], Array], protocol: str, interval: Callable[[Array], dict[str, Any]]
) -> dict[str, Any]:
    """Pretrained against random weights under one protocol, paired by segment."""
    pretrained, random = right[protocol, "pretrained"], right[protocol, "random"]
    return {
        "protocol": protocol,
        "pretrained - random": interval(pretrained.astype(float) - random.astype(float)),
        "mcnemar_p": mcnemar_exact(pretrained, random),
    }


def _rows(
    footage: Footage, *, test: Array, answers: Mapping[tuple[str, str], Array], tested: Mapping[str, Array]
) -> dict[str, list[Any]]:
    segments, labels = footage.segments, footage.labels
    columns = {
        "key": footage.texts("key"),
        "source": footage.texts("source"),
        "group": footage.texts("group"),
        "label": segments.label,
    }
    rows: dict[str, list[Any]] = {name: [str(value) for value in column[test]] for name, column in columns.items()}
    rows |= {f"{protocol}, {init}": [labels[c] for c in predicted] for (protocol, init), predicted in answers.items()}
    rows["probabilities"] = list(_softmax(tested["classifier"]))
    rows["embedding"] = list(tested["embedding"])
    return rows


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares
