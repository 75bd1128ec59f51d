"""What the interface of Kubeflow Pipelines shows of a step, beside its pointer."""

import json
from pathlib import Path
from typing import Any

from rushes.home import open_store
from rushes.orchestration.metadata import storable
from rushes.store import Manifest

_MOST_CLASSES = 512
"""Of a confusion matrix: 2.9 MB in the database of Kubeflow Pipelines, which takes 4 MB before version 2.16.1."""


def show_evaluation(manifest: Manifest, *, metrics: Any, confusion: Any, report: Any) -> None:
    """Fills the artifacts of `evaluate`: accuracies, the confusion matrix, the report as a page.

    Names have no commas: MLflow refuses them in metrics. A figure that is not a finite number is left out, and so is a
    confusion matrix of more than 512 classes.

    Args:
        manifest: of kind "evaluation".
        metrics: a kfp Metrics.
        confusion: a kfp ClassificationMetrics.
        report: a kfp HTML.
    """
    store = open_store()
    figures = json.loads(store.checked(manifest.files["metrics.json"]).read_text())
    shown = {name.replace(",", ""): top1["value"] for name, top1 in manifest.summary["top1"].items()}
    if "agreement" in (served := manifest.summary.get("served", {})):
        shown["as served: agreement"] = served["agreement"]["value"]
    metrics.metadata.update(storable({"ref": manifest.ref, **shown}))
    if (classes := len(figures["labels"])) <= _MOST_CLASSES:
        confusion.log_confusion_matrix(figures["labels"], figures["confusion"])
    else:
        why = f"the confusion matrix of {classes} classes, which is in the report"
        confusion.metadata.update(storable({"left_out": why}))
    Path(report.path).write_bytes(store.checked(manifest.files["report.html"]).read_bytes())
