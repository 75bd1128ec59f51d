"""`summary` as a Kubeflow Pipelines component: import, call, log. See `rushes.orchestration.summary`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def summary(endpoint: str, status: dsl.PipelineTaskFinalStatus, page: dsl.Output[dsl.Markdown]) -> None:
    """Writes the summary of a run, whether it succeeded or not: steps, decision, what is served, what failed."""
    from pathlib import Path

    from rushes.orchestration.summary import write_summary

    write_summary(
        endpoint=endpoint,
        state=status.state,
        error=status.error_message or "",
        out=Path(page.path),
    )
