"""`register` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.register`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    recipe: dict[str, Any],
    endpoint: str,
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Metrics],
    version: dsl.Output[dsl.Artifact],
) -> None:
    """Registers the bundle as an MLflow model version."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.register import register as step

    manifest = step(
        recipe=parse_recipe(recipe),
        endpoint=endpoint,
        bundle=Path(bundle.path),
        evaluation=Path(evaluation.path),
        out=Path(version.path),
    )
    version.metadata.update(metadata_of(manifest))
