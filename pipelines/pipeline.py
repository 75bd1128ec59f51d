"""The pipeline: pin -> sample -> (pretrain -> finetune) per model -> choose -> export -> evaluate -> ... -> deploy.

    python -m pipelines.pipeline            writes pipeline.yaml and comparison.yaml
    python -m pipelines.pipeline --check    fails where the committed files differ

KFP's cache is off: the store finds finished work, and its keys cover the code. The profile describes the cluster;
kfp.local ignores it on one machine. The images have a placeholder for their tag (`rushes.orchestration.image`).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.choose.component import choose
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.export.component import export
from components.finetune.component import finetune
from components.pin.component import pin
from components.pretrain.component import pretrain
from components.promote.component import promote
from components.register.component import register
from components.sample.component import sample
from components.summary.component import summary
from pipelines.comparison import make_comparison
from pipelines.placement import placed
from rushes.kubeflow.profile import DEFAULT, Profile, read_profile

COMPILED = Path(__file__).with_name("pipeline.yaml")
"""The committed compilation, for the default profile: also what `rushes run` executes."""
COMPARISON = Path(__file__).with_name("comparison.yaml")
"""The committed compilation of pipelines/comparison.py, for `rushes compare`."""


def make_pipeline(profile: Profile) -> Callable[..., Any]:
    """The pipeline for the cluster that `profile` describes."""

    def place(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return placed(task, profile)

    @dsl.pipeline(name="rushes", description="From raw, unlabelled video to a served action-recognition model.")
    def rushes(
        videos: str,
        models: list[dict[str, Any]],
        endpoint: str,
        labels: str = "",
        splits: str = "",
        fold: int = 1,
        revision: str = "",
        partitions: int = profile.partitions,
    ) -> None:
        """Trains every model, compares the best on validation with random weights, and serves it if the gate allows.

        Args:
            videos: folder of video files, or the URL of one.
            models: all hyperparameters of each (`rushes.config.Recipe` as plain data); all need the same footage.
            endpoint: name under which the model is registered and served.
            labels: CSV of labels; empty to look in the folder.
            splits: folder of official split files.
            fold: number of the split.
            revision: revision of the DVC repository that the videos are in.
            partitions: pods that sample at the same time.
        """
        last = place(summary(endpoint=endpoint))
        with dsl.ExitHandler(last, name="run"):
            pinned = place(
                pin(videos=videos, labels=labels, splits=splits, fold=fold, revision=revision, partitions=partitions)
            )
            source = pinned.outputs["pinned"]
            with dsl.ParallelFor(pinned.outputs["Output"], name="sample-parts") as part:
                encoded = place(sample(models=models, pin=source, partition=part))
                encoded.set_display_name("sample a part")
            parts = dsl.Collected(encoded.outputs["footage"])
            joined = place(sample(models=models, pin=source, parts=parts))
            joined.set_display_name("sample")
            footage = joined.outputs["footage"]
            with dsl.ParallelFor(models, name="models", parallelism=profile.parallel) as model:
                backbone = place(pretrain(recipe=model, footage=footage)).outputs["backbone"]
                tuned = place(finetune(recipe=model, init="pretrained", footage=footage, backbone=backbone))
            chosen = place(
                choose(
                    models=models,
                    backbones=dsl.Collected(backbone),
                    classifiers=dsl.Collected(tuned.outputs["classifier"]),
                )
            ).outputs
            recipe, classifier = chosen["Output"], chosen["classifier"]
            scratch = place(finetune(recipe=recipe, init="random", footage=footage, backbone=chosen["backbone"]))
            scratch.set_display_name("finetune from random weights")
            bundle = place(export(recipe=recipe, classifier=classifier)).outputs["bundle"]
            evaluation = place(
                evaluate(
                    recipe=recipe,
                    footage=footage,
                    backbone=chosen["backbone"],
                    classifier=classifier,
                    baseline=scratch.outputs["classifier"],
                    bundle=bundle,
                )
            ).outputs["evaluation"]
            version = place(register(recipe=recipe, endpoint=endpoint, bundle=bundle, evaluation=evaluation)).outputs[
                "version"
            ]
            decided = place(
                promote(recipe=recipe, version=version, bundle=bundle, evaluation=evaluation, footage=footage)
            ).outputs
            with dsl.If(decided["Output"] == "promoted", name="promoted"):
                place(deploy(recipe=recipe, decision=decided["decision"]))

    compiled: Callable[..., Any] = rushes
    return compiled


def compile_to(path: Path, profile: Profile, *, make: Callable[[Profile], Callable[..., Any]] = make_pipeline) -> None:
    """Compiles to KFP's intermediate representation."""
    compiler.Compiler().compile(make(profile), str(path))


def main() -> int:
    """Writes or checks the committed compilations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    profile = read_profile(DEFAULT)
    makers = {COMPILED: make_pipeline, COMPARISON: make_comparison}
    if not parser.parse_args().check:
        for path, make in makers.items():
            compile_to(path, profile, make=make)
        return 0
    stale = [path for path, make in makers.items() if not _is_current(path, profile, make)]
    for path in stale:
        sys.stderr.write(f"{path} is not what the sources compile to: run `make compile` and commit it\n")
    return 1 if stale else 0


def _is_current(path: Path, profile: Profile, make: Callable[[Profile], Callable[..., Any]]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / path.name
        compile_to(fresh, profile, make=make)
        return path.is_file() and fresh.read_text() == path.read_text()


if __name__ == "__main__":
    raise SystemExit(main())
