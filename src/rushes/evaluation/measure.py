"""What a start (pretrained weights, or random ones) is worth downstream: answers about the test split, by protocol."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rushes.config import EvaluateConfig
from rushes.errors import UserError
from rushes.evaluation.features import Network, clip_means
from rushes.evaluation.probes import linear_probe, nearest_neighbour
from rushes.evaluation.score import classes_of
from rushes.footage.reader import Footage
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.training.data import EvenClips, few_labels
from rushes.training.loop import pick_device
from rushes.training.networks import Classifier
from rushes.training.weights import load_backbone, load_classifier, read_model

Classes = npt.NDArray[np.int64]


def column(protocol: str, labels: int) -> str:
    """How answers are named: `linear probe, 5`, `fine-tune, all`."""
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
    """Answers about the labelled test segments, a row each.

    Args:
        footage: of which train is fitted to and test is answered about.
        config: clips a segment, regularisation of the probe.
        seed: decides which labels are used where not all are.
        store: where the weights are.
        backbone: frozen, for nearest neighbour (all labels) and linear probe.
        classifiers: fine-tuned from it, by labels a class (0: all); the probe is fitted to the same numbers.
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
    frozen = Classifier(backbone=model["backbone"], classes=2).eval()
    load_backbone(frozen.backbone, backbone, store)
    tuned = {labels: load_classifier(classifier, store)[0].to(device) for labels, classifier in classifiers.items()}
    networks: dict[str, Network] = {"frozen": frozen.to(device).features}
    networks |= {column("fine-tune", labels): net for labels, net in tuned.items()}
    bar = progress.bar("measure", total=len(train) + len(test), unit="segments")
    run: dict[str, Any] = {"device": device, "batch": config.batch, "bar": bar}
    geometry = {"clips": config.clips, "clip_frames": model["clip_frames"], "crop": model["crop"]}
    fitted = clip_means(EvenClips(footage, train, **geometry), {"frozen": networks["frozen"]}, **run)["frozen"]
    tested = clip_means(EvenClips(footage, test, **geometry), networks, **run)
    answers = probe_answers(
        footage,
        train=train,
        fitted=fitted,
        tested=tested["frozen"],
        numbers=list(classifiers),
        c=config.probe_l2,
        seed=seed,
    )
    answers[column("nearest neighbour", 0)] = nearest_neighbour(fitted, classes_of(footage, train), tested["frozen"])
    answers |= {name: logits.argmax(axis=1) for name, logits in tested.items() if name != "frozen"}
    return with_labels(footage, test, answers)


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
    """Predicted classes [m] of a linear probe for each number of labels a class, by `column`.

    Args:
        footage: that the rows are of.
        train: [n] labelled rows, ascending.
        fitted: [n, d] their features.
        tested: [m, d] features of what is asked about.
        numbers: of labels a class; 0 is all.
        c: inverse strength of regularisation.
        seed: which labels are used.
    """
    classes = classes_of(footage, train)
    answers = {}
    for labels in numbers:
        used = np.searchsorted(train, few_labels(footage, train, per_class=labels, seed=seed))
        answers[column("linear probe", labels)] = linear_probe(fitted[used], classes[used], tested, c=c)
    return answers


def with_labels(footage: Footage, test: Classes, answers: Mapping[str, Classes]) -> dict[str, list[str]]:
    """Answers [m] by column as names, beside each test row's key, group and label."""
    known = {
        "key": footage.texts("key")[test],
        "group": footage.texts("group")[test],
        "label": footage.segments.label[test],
    }
    names = np.array(footage.labels)
    return {name: [str(value) for value in values] for name, values in known.items()} | {
        name: [str(value) for value in names[predicted]] for name, predicted in answers.items()
    }
