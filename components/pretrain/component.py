"""`pretrain` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.pretrain`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(recipe: dict[str, Any], footage: dsl.Input[dsl.Dataset], backbone: dsl.Output[dsl.Model]) -> None:
    """Trains a backbone on a task made from the footage itself."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.pretrain import pretrain as step

    manifest = step(
        recipe=parse_recipe(recipe),
        footage=Path(footage.path),
        out=Path(backbone.path),
    )
    backbone.metadata.update(metadata_of(manifest, model=recipe["name"]))
