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
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Scores the classifier on the test split, beside random initialisation and its bundle's answers to the files."""
    from pathlib import Path

    from rushes.orchestration.pages import show_evaluation
    from rushes.recipes import parse_recipe
    from rushes.steps.evaluate import evaluate as step

    manifest = step(
        recipe=parse_recipe(recipe),
        footage=Path(footage.path),
        backbone=Path(backbone.path),
        classifier=Path(classifier.path),
        baseline=Path(baseline.path),
        bundle=Path(bundle.path),
        out=Path(evaluation.path),
    )
    show_evaluation(manifest, metrics=evaluation, confusion=confusion, report=report)
