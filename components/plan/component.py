"""`plan` as a Kubeflow Pipelines component: import, call, log. See `rushes.comparing.tasks`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    models: list,  # type: ignore[type-arg]  # KFP's type of a list of anything
    videos: str,
    labels: str,
    splits: str,
    folds: int,
    seeds: int,
    labels_per_class: str,
    budget: float,
    partitions: int,
    plan: dsl.Output[dsl.Artifact],
    first: dsl.Output[dsl.Artifact],
) -> list:  # type: ignore[type-arg]
    """Plans a comparison, and pins its videos for each fold; returns the partitions to sample the first fold in."""
    from pathlib import Path

    from rushes.comparing.comparison_plan import ComparisonSettings, numbers_of
    from rushes.comparing.tasks import write_plan
    from rushes.footage.reference import DataReference
    from rushes.orchestration.metadata import storable

    data, numbers = DataReference(videos=videos, labels=labels, splits=splits), numbers_of(labels_per_class)
    planned = write_plan(
        models=models,
        settings=ComparisonSettings(data=data, folds=folds, seeds=seeds, numbers=numbers, budget=budget),
        out=Path(plan.path),
        pin=Path(first.path),
    )
    plan.metadata.update(storable({"folds": folds, "chains": len(planned.chains)}))
    return [f"{part}/{partitions}" for part in range(1, partitions + 1)]
