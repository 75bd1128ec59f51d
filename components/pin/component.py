"""`pin` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.pin`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pin(videos: str, labels: str, splits: str, fold: int, revision: str, pinned: dsl.Output[dsl.Artifact]) -> None:
    """Resolves the data reference to content."""
    from pathlib import Path

    from rushes.steps.pin import pin as step

    manifest = step(
        videos=videos,
        labels=labels,
        splits=splits,
        fold=fold,
        revision=revision,
        out=Path(pinned.path),
    )
    pinned.metadata.update(ref=manifest.ref, **manifest.summary)
