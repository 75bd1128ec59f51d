"""`choose` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.choose`."""

from typing import Any

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose(
    models: list,  # type: ignore[type-arg]  # KFP's type of a list of anything
    backbones: dsl.Input[list[dsl.Model]],
    classifiers: dsl.Input[list[dsl.Model]],
    backbone: dsl.Output[dsl.Model],
    classifier: dsl.Output[dsl.Model],
    choice: dsl.Output[dsl.Artifact],
) -> dict[str, Any]:
    """Passes on the model that is best on validation: its recipe, its backbone and its classifier."""
    from pathlib import Path

    from rushes.orchestration.candidates import pass_on, recipe_of
    from rushes.orchestration.metadata import metadata_of
    from rushes.steps.choose import choose as step

    manifest = step(
        classifiers={made.metadata["model"]: Path(made.path) for made in classifiers},
        out=Path(choice.path),
    )
    chosen = manifest.summary["chosen"]
    choice.metadata.update(metadata_of(manifest))
    pass_on(chosen, backbones, backbone)
    pass_on(chosen, classifiers, classifier)
    return recipe_of(chosen, models)
