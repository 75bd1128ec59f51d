"""The comparison as a pipeline: plan -> sample -> folds -> chains of (pretrain -> finetune -> measure) -> comparison.

`rushes compare --runner cluster` runs it; `python -m pipelines.pipeline` compiles it. A chain is one initialisation (a
model, or random weights) on one fold with one seed, in one pod. Its results are in the store, so a retry resumes.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.chain.component import chain
from components.comparison.component import comparison
from components.folds.component import folds as sample_folds
from components.plan.component import plan
from components.sample.component import sample
from components.summary.component import summary
from pipelines.placement import placed
from rushes.kubeflow.profile import Profile


def make_comparison(profile: Profile) -> Callable[..., Any]:
    """The comparison for the cluster that `profile` describes."""

    def place(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return placed(task, profile)

    @dsl.pipeline(name="rushes-comparison", description="Several models under one protocol: one table, with intervals.")
    def compare(
        videos: str,
        models: list[dict[str, Any]],
        name: str,
        labels: str = "",
        splits: str = "",
        folds: int = 3,
        seeds: int = 1,
        labels_per_class: str = "5",
        budget: float = 0.0,
        partitions: int = profile.partitions,
        command: str = "rushes compare",
    ) -> None:
        """Trains every model, and each network from random weights, on every fold with every seed, and tests them all.

        Args:
            videos: folder of video files, or the URL of one.
            models: all hyperparameters of each (`rushes.config.Recipe` as plain data); all need the same footage.
            name: name of the comparison: its tables go to `comparisons/<name>/` of the store.
            labels: CSV of labels; empty to look in the folder.
            splits: folder of official split files: its splits 1, 2, ... are the folds.
            folds: parts of the labelled groups, each of them the test split once; 1: the split that the labels give.
            seeds: number of runs of everything, with seeds 0, 1, ...
            labels_per_class: numbers besides all of them, such as 1,2,5,10; 0 for all only.
            budget: FLOPs of the backbone in every pretraining; 0 leaves each recipe its own length.
            partitions: pods that sample at the same time.
            command: the command that started it, for its readers.
        """
        last = place(summary(endpoint=name))
        with dsl.ExitHandler(last, name="run"):
            planned = place(
                plan(
                    models=models,
                    videos=videos,
                    labels=labels,
                    splits=splits,
                    folds=folds,
                    seeds=seeds,
                    labels_per_class=labels_per_class,
                    budget=budget,
                    partitions=partitions,
                )
            )
            with dsl.ParallelFor(planned.outputs["Output"], name="sample-parts") as part:
                encoded = place(sample(models=models, pin=planned.outputs["first"], partition=part))
                encoded.set_display_name("sample a part")
            sampled = place(sample_folds(plan=planned.outputs["plan"], parts=dsl.Collected(encoded.outputs["footage"])))
            with dsl.ParallelFor(sampled.outputs["Output"], name="chains", parallelism=profile.parallel) as item:
                answers = place(chain(plan=sampled.outputs["sampled"], name=item)).outputs["answers"]
            place(
                comparison(plan=sampled.outputs["sampled"], answers=dsl.Collected(answers), name=name, command=command)
            )

    compiled: Callable[..., Any] = compare
    return compiled
