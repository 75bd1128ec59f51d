"""What an initialisation (pretrained or random weights) is worth downstream: predictions for the test split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rushes.config import EvaluateConfig
from rushes.errors import UserError
from rushes.evaluation.features import Network, clip_means
from rushes.evaluation.probes import linear_probe, nearest_neighbour
from rushes.evaluation.score import classes_of
from rushes.footage.reader import Footage
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.training.data import EvenClips, few_labels
from rushes.training.device import pick_device
from rushes.training.networks import Classifier
from rushes.training.weights import load_backbone, load_classifier, read_model

Classes = npt.NDArray[np.int64]
_FROZEN = "frozen"


def column(protocol: str, labels: int) -> str:
    """Name of a column of predictions: `linear probe, 5`, `fine-tune, all`."""
    return f"{protocol}, {labels or 'all'}"


def measure_answers(
    footage: Footage,
    *,
    config: EvaluateConfig,
    seed: int,
    store: Store,
    backbone: Manifest,
    classifiers: Mapping[int, Manifest],
    progress: Progress,
) -> dict[str, list[str]]:
    """Predictions for the labelled test segments, one row per segment.

    Args:
        footage: its train split is fitted to, its test split is predicted.
        config: clips per segment, regularisation of the probe.
        seed: decides which labels are used where not all are.
        store: where the weights are.
        backbone: frozen, for nearest neighbour (all labels) and linear probe.
        classifiers: fine-tuned from it, by labels per class (0: all); the probe is fitted to the same numbers.
        progress: where to report to.

    Returns:
        Columns key, group, label, and the predicted label by `column`: equal lengths.

    Raises:
        UserError: no labelled test segment.
    """
    train, test = footage.select("train", labelled=True), footage.select("test", labelled=True)
    if not len(test):
        raise UserError("footage: no labelled test segment: label more groups")
    device = pick_device(config.device)
    model = read_model(backbone, store)
    networks = _networks(model, backbone=backbone, classifiers=classifiers, store=store, device=device)
    bar = progress.bar("measure", total=len(train) + len(test), unit="segments")
    run: dict[str, Any] = {"device": device, "batch": config.batch, "bar": bar}
    geometry = {"clips": config.clips, "clip_frames": model["clip_frames"], "crop": model["crop"]}
    fitted = clip_means(EvenClips(footage, train, **geometry), {_FROZEN: networks[_FROZEN]}, **run)[_FROZEN]
    tested = clip_means(EvenClips(footage, test, **geometry), networks, **run)
    features, numbers = tested.pop(_FROZEN), list(classifiers)
    answers = probe_answers(
        footage, train=train, fitted=fitted, tested=features, numbers=numbers, c=config.probe_l2, seed=seed
    )
    answers[column("nearest neighbour", 0)] = nearest_neighbour(fitted, classes_of(footage, train), features)
    answers |= {name: logits.argmax(axis=1) for name, logits in tested.items()}
    return with_labels(footage, test, answers)


def _networks(
    model: Mapping[str, Any],
    *,
    backbone: Manifest,
    classifiers: Mapping[int, Manifest],
    store: Store,
    device: torch.device,
) -> dict[str, Network]:
    """The frozen backbone's features, and the logits of each classifier by `column`."""
    frozen = Classifier(backbone=model["backbone"], classes=2).eval()
    load_backbone(frozen.backbone, backbone, store)
    tuned = {labels: load_classifier(classifier, store)[0].to(device) for labels, classifier in classifiers.items()}
    networks: dict[str, Network] = {_FROZEN: frozen.to(device).features}
    return networks | {column("fine-tune", labels): net for labels, net in tuned.items()}


def probe_answers(
    footage: Footage,
    *,
    train: Classes,
    fitted: npt.NDArray[np.float32],
    tested: npt.NDArray[np.float32],
    numbers: list[int],
    c: float,
    seed: int,
) -> dict[str, Classes]:
    """Predicted classes [m] of a linear probe for each number of labels per class, by `column`.

    Args:
        footage: that the rows are of.
        train: [n] labelled rows, ascending.
        fitted: [n, d] their features.
        tested: [m, d] features of the segments to predict.
        numbers: labels per class; 0 is all.
        c: inverse strength of regularisation.
        seed: decides which labels are used.
    """
    classes = classes_of(footage, train)
    answers = {}
    for labels in numbers:
        used = np.searchsorted(train, few_labels(footage, train, per_class=labels, seed=seed))
        answers[column("linear probe", labels)] = linear_probe(fitted[used], classes[used], tested, c=c)
    return answers


def with_labels(footage: Footage, test: Classes, answers: Mapping[str, Classes]) -> dict[str, list[str]]:
    """Predicted classes [m] by column as label names, with key, group and label of each test row."""
    known = {
        "key": footage.texts("key")[test],
        "group": footage.texts("group")[test],
        "label": footage.segments.label[test],
    }
    names = np.array(footage.labels)
    return {name: [str(value) for value in values] for name, values in known.items()} | {
        name: [str(value) for value in names[predicted]] for name, predicted in answers.items()
    }
