"""`folds` as a Kubeflow Pipelines component: import, call, log. See `rushes.comparing.tasks`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def folds(
    plan: dsl.Input[dsl.Artifact],
    sampled: dsl.Output[dsl.Artifact],
    parts: dsl.Input[list[dsl.Dataset]] = None,
) -> list:  # type: ignore[type-arg]  # KFP's type of a list of anything
    """Makes the footage of every fold, when all `parts` of the first are done; returns the names of the chains."""
    from pathlib import Path

    from rushes.comparing.tasks import write_folds

    return write_folds(plan=Path(plan.path), out=Path(sampled.path))
