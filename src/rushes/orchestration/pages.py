"""What the interface of Kubeflow Pipelines shows of a step, beside its pointer."""

import json
from pathlib import Path
from typing import Any

from rushes.home import open_store
from rushes.store import Manifest


def show_evaluation(manifest: Manifest, *, metrics: Any, confusion: Any, report: Any) -> None:
    """Fills the artifacts of `evaluate`: accuracies, the confusion matrix, the report as a page.

    Args:
        manifest: of kind "evaluation".
        metrics: a kfp Metrics.
        confusion: a kfp ClassificationMetrics.
        report: a kfp HTML.
    """
    store = open_store()
    figures = json.loads(store.checked(manifest.files["metrics.json"]).read_text())
    for name, top1 in manifest.summary["top1"].items():
        metrics.log_metric(name, top1["value"])
    served = manifest.summary.get("served", {})
    if "agreement" in served:
        metrics.log_metric("as served: agreement", served["agreement"]["value"])
    confusion.log_confusion_matrix(figures["labels"], figures["confusion"])
    Path(report.path).write_bytes(store.checked(manifest.files["report.html"]).read_bytes())
