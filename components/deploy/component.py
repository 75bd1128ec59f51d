"""`deploy` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.deploy`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(recipe: dict[str, Any], decision: dsl.Input[dsl.Artifact], deployment: dsl.Output[dsl.Artifact]) -> None:
    """Waits until the champion of the ledger is served."""
    from pathlib import Path

    from rushes.orchestration.metadata import metadata_of
    from rushes.recipes import parse_recipe
    from rushes.steps.deploy import deploy as step

    manifest = step(
        recipe=parse_recipe(recipe),
        decision=Path(decision.path),
        out=Path(deployment.path),
    )
    deployment.metadata.update(metadata_of(manifest))
