"""`promote` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.promote`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    recipe: dict[str, Any],
    version: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Metrics],
    footage: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Artifact],
) -> str:
    """Decides by evidence whether the version becomes the champion; returns `promoted` or `refused`."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.promote import promote as step

    manifest = step(
        recipe=parse_recipe(recipe),
        version=Path(version.path),
        bundle=Path(bundle.path),
        evaluation=Path(evaluation.path),
        footage=Path(footage.path),
        out=Path(decision.path),
    )
    decision.metadata.update(metadata_of(manifest))
    return str(manifest.summary["decision"])
