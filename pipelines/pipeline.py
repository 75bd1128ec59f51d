"""The pipeline: pin -> sample -> pretrain -> finetune -> evaluate -> export -> register -> promote -> deploy.

    python -m pipelines.pipeline            writes pipelines/pipeline.yaml
    python -m pipelines.pipeline --check    fails where it differs from what is committed

Caching by KFP is off: the store answers what is already done, and it knows the code too.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.export.component import export
from components.finetune.component import finetune
from components.pin.component import pin
from components.pretrain.component import pretrain
from components.promote.component import promote
from components.register.component import register
from components.sample.component import sample

COMPILED = Path(__file__).with_name("pipeline.yaml")
"""The committed compilation: what clusters and `rushes run` execute."""


@dsl.pipeline(name="rushes", description="From raw, unlabelled video to a served action-recognition model.")
def rushes(
    videos: str,
    recipe: dict[str, Any],
    endpoint: str,
    labels: str = "",
    splits: str = "",
    fold: int = 1,
    revision: str = "",
) -> None:
    """Every step once, and fine-tuning twice: from the pretrained backbone and from random weights.

    Args:
        videos: folder of video files.
        recipe: all hyperparameters (`rushes.config.Recipe` as plain data).
        endpoint: name that the model is registered and served under.
        labels: CSV of labels; empty to look in the folder.
        splits: folder of official split files.
        fold: number of the split.
        revision: revision of the DVC repository that the videos lie in.
    """
    pinned = pin(videos=videos, labels=labels, splits=splits, fold=fold, revision=revision)
    sampled = sample(recipe=recipe, pin=pinned.outputs["pinned"])
    footage = sampled.outputs["footage"]
    pretrained = pretrain(recipe=recipe, footage=footage)
    backbone = pretrained.outputs["backbone"]
    tuned = finetune(recipe=recipe, init="pretrained", footage=footage, backbone=backbone)
    scratch = finetune(recipe=recipe, init="random", footage=footage, backbone=backbone)
    scratch.set_display_name("finetune from random weights")
    classifier, baseline = tuned.outputs["classifier"], scratch.outputs["classifier"]
    evaluated = evaluate(recipe=recipe, footage=footage, backbone=backbone, classifier=classifier, baseline=baseline)
    evaluation = evaluated.outputs["evaluation"]
    exported = export(recipe=recipe, classifier=classifier)
    bundle = exported.outputs["bundle"]
    registered = register(recipe=recipe, endpoint=endpoint, bundle=bundle, evaluation=evaluation)
    version = registered.outputs["version"]
    decided = promote(recipe=recipe, version=version, bundle=bundle, evaluation=evaluation, footage=footage)
    deployed = deploy(recipe=recipe, decision=decided.outputs["decision"])
    tasks = (pinned, sampled, pretrained, tuned, scratch, evaluated, exported, registered, decided, deployed)
    for task in tasks:
        task.set_caching_options(False)


def compile_to(path: Path) -> None:
    """Compiles to KFP's intermediate representation."""
    compiler.Compiler().compile(rushes, str(path))


def main() -> int:
    """Writes or checks the committed compilation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    if not parser.parse_args().check:
        compile_to(COMPILED)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "pipeline.yaml"
        compile_to(fresh)
        same = fresh.read_text() == COMPILED.read_text()
    if not same:
        sys.stderr.write(f"{COMPILED} is not what the sources compile to: run `make compile` and commit it\n")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
