"""`evaluate` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.evaluate`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    recipe: dict[str, Any],
    footage: dsl.Input[dsl.Dataset],
    backbone: dsl.Input[dsl.Model],
    classifier: dsl.Input[dsl.Model],
    baseline: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Metrics],
) -> None:
    """Scores the classifier on the test split, beside random initialisation."""
    from pathlib import Path

    from rushes.config import parse_recipe
    from rushes.steps.evaluate import evaluate as step

    manifest = step(
        recipe=parse_recipe(recipe),
        footage=Path(footage.path),
        backbone=Path(backbone.path),
        classifier=Path(classifier.path),
        baseline=Path(baseline.path),
        out=Path(evaluation.path),
    )
    for name, top1 in manifest.summary["top1"].items():
        evaluation.log_metric(name, top1["value"])
    evaluation.metadata["ref"] = manifest.ref
