"""`sample` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.sample`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sample(
    models: list,  # type: ignore[type-arg]  # KFP's type of a list of anything
    pin: dsl.Input[dsl.Artifact],
    footage: dsl.Output[dsl.Dataset],
    partition: str = "",
    parts: dsl.Input[list[dsl.Dataset]] = None,
) -> None:
    """Turns videos into footage: a part of the shards, or, when all `parts` are done, the rest and the index."""
    from pathlib import Path

    from rushes.comparing.members import sampling_recipe
    from rushes.orchestration.metadata import metadata_of
    from rushes.steps.sample import sample as step

    manifest = step(
        recipe=sampling_recipe(models),
        pin=Path(pin.path),
        partition=partition,
        out=Path(footage.path),
    )
    footage.metadata.update(metadata_of(manifest))
