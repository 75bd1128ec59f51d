"""`chain` as a Kubeflow Pipelines component: import, call, log. See `rushes.comparing.tasks`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def chain(plan: dsl.Input[dsl.Artifact], name: str, answers: dsl.Output[dsl.Artifact]) -> None:
    """Pretrains, fine-tunes and measures one initialisation of a comparison on one fold with one seed."""
    from pathlib import Path

    from rushes.comparing.tasks import write_answers
    from rushes.orchestration.metadata import metadata_of

    manifest = write_answers(plan=Path(plan.path), chain=name, out=Path(answers.path))
    answers.metadata.update(metadata_of(manifest, chain=name))
