"""`finetune` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.finetune`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finetune(
    recipe: dict[str, Any],
    init: str,
    footage: dsl.Input[dsl.Dataset],
    backbone: dsl.Input[dsl.Model],
    classifier: dsl.Output[dsl.Model],
) -> None:
    """Trains a classifier on the labelled footage, from the backbone or from random weights."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.finetune import finetune as step

    manifest = step(
        recipe=parse_recipe(recipe),
        init=init,
        footage=Path(footage.path),
        backbone=Path(backbone.path),
        out=Path(classifier.path),
    )
    classifier.metadata.update(metadata_of(manifest, model=recipe["name"]))
