"""`pin` as a Kubeflow Pipelines component: import, call, log. See `rushes.steps.pin`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pin(
    videos: str, labels: str, splits: str, fold: int, revision: str, partitions: int, pinned: dsl.Output[dsl.Artifact]
) -> list:  # type: ignore[type-arg]  # KFP's type of a list of anything
    """Resolves the data reference to content; returns the partitions for the calls of `sample`."""
    from pathlib import Path

    from rushes.footage.reference import DataReference
    from rushes.orchestration.metadata import metadata_of
    from rushes.steps.pin import pin as step

    data = DataReference(videos=videos, labels=labels, splits=splits, fold=fold, revision=revision)
    manifest = step(data=data, out=Path(pinned.path))
    pinned.metadata.update(metadata_of(manifest))
    return [f"{part}/{partitions}" for part in range(1, partitions + 1)]
