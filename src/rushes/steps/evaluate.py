"""`rushes evaluate`: accuracy on the test split, which chooses nothing; always beside random initialisation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.steps.base import Build, Context, network_record, read_input, reported, require_labels, run_step
from rushes.store import Manifest
from rushes.strict import digest_record


@reported("evaluate")
def evaluate(*, recipe: Recipe, footage: Path, backbone: Path, classifier: Path, baseline: Path, out: Path) -> Manifest:
    """Scores fine-tuning, linear probe and nearest neighbour, each pretrained and from random weights.

    Args:
        recipe: sections `evaluate` and `seed` count.
        footage: pointer from `sample`.
        backbone: pointer from `pretrain`.
        classifier: pointer from `finetune`.
        baseline: pointer from `finetune --init random`.
        out: where the pointer to metrics, predictions and report goes.
    """
    inputs = {
        "footage": read_input(footage, "footage"),
        "backbone": read_input(backbone, "backbone"),
        "classifier": read_input(classifier, "classifier"),
        "baseline": read_input(baseline, "classifier"),
    }
    plugins.use(recipe.plugins)
    return run_step(
        "evaluate",
        kind="evaluation",
        config=digest_record(recipe.evaluate) | {"seed": recipe.seed} | network_record(inputs["backbone"]),
        inputs=inputs,
        out=out,
        build=lambda context: _build(context, recipe=recipe, inputs=inputs),
    )


def _build(context: Context, *, recipe: Recipe, inputs: Mapping[str, Manifest]) -> Build:
    from rushes.evaluation.report import write_report
    from rushes.evaluation.score import score, summary_of, write_predictions
    from rushes.footage.reader import Footage
    from rushes.training.weights import read_model

    def build(folder: Path, digest: str) -> Mapping[str, Any]:
        model = read_model(inputs["backbone"], context.store)
        footage = Footage(inputs["footage"], context.store, short_side=model["short_side"])
        require_labels(footage.labels, need="evaluation")
        scores = score(
            footage,
            config=recipe.evaluate,
            seed=recipe.seed,
            store=context.store,
            backbone=inputs["backbone"],
            classifier=inputs["classifier"],
            baseline=inputs["baseline"],
            progress=context.progress,
        )
        (folder / "metrics.json").write_text(json.dumps(scores.metrics, indent=1))
        write_predictions(folder / "predictions.parquet", scores)
        histories = {
            name: json.loads(context.store.path(inputs[name].files["history.json"]).read_text())
            for name in ("backbone", "classifier", "baseline")
        }
        write_report(
            folder / "report.html",
            metrics=scores.metrics,
            histories=histories,
            footage=inputs["footage"].summary,
            lineage={name: manifest.ref for name, manifest in inputs.items()},
        )
        return summary_of(scores.metrics)

    return build
