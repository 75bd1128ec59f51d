"""`comparison` as a Kubeflow Pipelines component: import, call, log. See `rushes.comparing.tasks`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def comparison(
    plan: dsl.Input[dsl.Artifact],
    answers: dsl.Input[list[dsl.Artifact]],
    name: str,
    command: str,
    page: dsl.Output[dsl.HTML],
    tables: dsl.Output[dsl.Markdown],
) -> None:
    """Makes the tables of a comparison from the answers of its chains."""
    from pathlib import Path

    from rushes.comparing.tasks import write_result

    write_result(
        plan=Path(plan.path),
        answers={made.metadata["chain"]: Path(made.path) for made in answers},
        name=name,
        command=command,
        page=Path(page.path),
        tables=Path(tables.path),
    )
