"""`sample` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.sample`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sample(recipe: dict[str, Any], pin: dsl.Input[dsl.Artifact], footage: dsl.Output[dsl.Dataset]) -> None:
    """Turns videos into footage: small H.264 shards and an index."""
    from pathlib import Path

    from rushes.config import parse_recipe
    from rushes.steps.sample import sample as step

    manifest = step(
        recipe=parse_recipe(recipe),
        pin=Path(pin.path),
        out=Path(footage.path),
    )
    footage.metadata.update(ref=manifest.ref, **manifest.summary)
