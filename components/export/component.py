"""`export` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.export`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    recipe: dict[str, Any],
    classifier: dsl.Input[dsl.Model],
    bundle: dsl.Output[dsl.Model],
) -> None:
    """Writes the classifier as ONNX with its contract and a golden clip."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.export import export as step

    manifest = step(
        recipe=parse_recipe(recipe),
        classifier=Path(classifier.path),
        out=Path(bundle.path),
    )
    bundle.metadata.update(metadata_of(manifest))
