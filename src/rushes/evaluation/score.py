"""Scores a classifier and a backbone on the test split, pretrained and random side by side, under one protocol."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rushes.config import EvaluateConfig
from rushes.errors import UserError
from rushes.evaluation.features import Network, clip_means
from rushes.evaluation.metadata import metadata
from rushes.evaluation.probes import linear_probe, nearest_neighbour
from rushes.evaluation.statistics import MIN_GROUPS, difference_interval, paired_p, share_interval
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
ROWS = tuple((protocol, init) for protocol in PROTOCOLS for init in ("pretrained", "random"))
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
    metrics = figures_of(
        answers,
        labels=footage.labels,
        truth=classes_of(footage, test),
        groups=footage.texts("group")[test].astype(str),
        manifest_sha256=test_manifest_digest(footage, test),
        config=config,
        seed=seed,
    )
    return Scores(metrics=metrics, rows=_rows(footage, test=test, answers=answers, tested=tested))


def summary_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that fit in a manifest."""
    figures = {f"{row['protocol']}, {row['init']}": row["top1"] for row in metrics["rows"]}
    shown = {name: metrics[name] for name in ("test", "chance", "commonest", "caveats", "served")}
    return {"top1": figures, "metadata": metrics["metadata"]["top1"], **shown}


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
    known = metadata(footage)
    answers["linear probe", "metadata"] = linear_probe(known[train], classes, known[test], c=config.probe_l2)
    return answers


def figures_of(
    answers: Mapping[tuple[str, str], Array],
    *,
    labels: Sequence[str],
    truth: Array,
    groups: Array,
    manifest_sha256: str,
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """The figures of metrics.json, but for caveats.

    Args:
        answers: predicted class numbers [n] by (protocol, init).
        labels: name of each class.
        truth: [n] class numbers of the test segments.
        groups: [n] their groups.
        manifest_sha256: of the test set.
        config: clips and resamples.
        seed: of the random swaps behind p-values.
    """
    right = {key: (predicted == truth) for key, predicted in answers.items()}
    support = np.bincount(truth, minlength=len(labels))
    majority = float(support.max() / support.sum())
    confusion = np.zeros((len(labels),) * 2, dtype=int)
    np.add.at(confusion, (truth, answers["fine-tune", "pretrained"]), 1)
    return {
        "schema": SCHEMA,
        "protocol": f"{config.clips} evenly spaced clips a segment, centre crop, mean of logits or features",
        "labels": list(labels),
        "test": {"segments": len(truth), "groups": len(set(groups)), "manifest_sha256": manifest_sha256},
        "chance": majority,
        "majority": majority,
        "commonest": labels[int(support.argmax())],
        "rows": [{"protocol": key[0], "init": key[1], "top1": _share(right[key], groups)} for key in ROWS],
        "differences": [_difference(right, name, groups, resamples=config.resamples, seed=seed) for name in PROTOCOLS],
        "metadata": _beside_metadata(right["fine-tune", "pretrained"], right["linear probe", "metadata"], groups),
        "per_class": [
            _recall(label, right["fine-tune", "pretrained"][truth == n], groups[truth == n])
            for n, label in enumerate(labels)
        ],
        "confusion": confusion.tolist(),
    }


def _share(right: Array, groups: Array) -> dict[str, Any]:
    return asdict(share_interval(right.astype(np.float64), groups))


def _beside_metadata(model: Array, metadata: Array, groups: Array) -> dict[str, Any]:
    """What can be known without seeing a frame, beside the fine-tuned model."""
    difference = difference_interval(model.astype(np.float64) - metadata.astype(np.float64), groups)
    return {"top1": _share(metadata, groups), "model - metadata": asdict(difference)}


def _recall(label: str, right: Array, groups: Array) -> dict[str, Any]:
    """The share of a class's segments that is answered rightly; None without a segment."""
    interval = _share(right, groups) if len(right) else None
    return {"label": label, "support": len(right), "recall": interval and interval["value"], "interval": interval}


def _difference(
    right: Mapping[tuple[str, str], Array], protocol: str, groups: Array, *, resamples: int, seed: int
) -> dict[str, Any]:
    """Pretrained against random weights under one protocol, paired by segment; p is None with too few groups."""
    values = right[protocol, "pretrained"].astype(np.float64) - right[protocol, "random"].astype(np.float64)
    interval = difference_interval(values, groups)
    enough = interval.groups >= MIN_GROUPS
    return {
        "protocol": protocol,
        "pretrained - random": asdict(interval),
        "p": paired_p(values, groups, resamples=resamples, seed=seed) if enough else None,
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
