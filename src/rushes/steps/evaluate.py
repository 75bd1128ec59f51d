"""`rushes evaluate`: accuracy on the test split, which selects nothing; always beside random initialisation."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.home import open_store
from rushes.steps.base import Job, network_record, read_input, refs, reported, require_labels, run_step
from rushes.steps.belonging import Given, require_fair_baseline, require_input
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

    Raises:
        UserError: classifier or baseline was fine-tuned on other footage, from another backbone, or by
            other settings than the other.
    """
    inputs = {
        "footage": read_input(footage, "footage"),
        "backbone": read_input(backbone, "backbone"),
        "classifier": read_input(classifier, "classifier"),
        "baseline": read_input(baseline, "classifier"),
    }
    _require_one_run({name: Given(field=name, manifest=manifest) for name, manifest in inputs.items()})
    plugins.use(recipe.plugins)
    return run_step(
        "evaluate",
        kind="evaluation",
        config=digest_record(recipe.evaluate) | {"seed": recipe.seed} | network_record(inputs["backbone"]),
        inputs=inputs,
        out=out,
        build=lambda job: _evaluate(job, recipe=recipe, inputs=inputs),
    )


def _require_one_run(given: Mapping[str, Given]) -> None:
    """Classifier and baseline are of this footage and backbone, and differ in the weights that they began with."""
    store = open_store()
    for made, name in itertools.product(("classifier", "baseline"), ("footage", "backbone")):
        require_input(given[made], given[name], name=name, store=store)
    require_fair_baseline(given["classifier"], given["baseline"])


def _evaluate(job: Job, *, recipe: Recipe, inputs: Mapping[str, Manifest]) -> Mapping[str, Any]:
    from rushes.evaluation.report import write_report
    from rushes.evaluation.score import score, summary_of, write_predictions
    from rushes.footage.reader import Footage
    from rushes.training.weights import read_model

    model = read_model(inputs["backbone"], job.store)
    footage = Footage(inputs["footage"], job.store, short_side=model["short_side"])
    require_labels(footage.labels, need="evaluation")
    scores = score(
        footage,
        config=recipe.evaluate,
        seed=recipe.seed,
        store=job.store,
        backbone=inputs["backbone"],
        classifier=inputs["classifier"],
        baseline=inputs["baseline"],
        progress=job.progress,
    )
    (job.folder / "metrics.json").write_text(json.dumps(scores.metrics, indent=1))
    write_predictions(job.folder / "predictions.parquet", scores)
    histories = {
        name: json.loads(job.store.path(inputs[name].files["history.json"]).read_text())
        for name in ("backbone", "classifier", "baseline")
    }
    write_report(
        job.folder / "report.html",
        metrics=scores.metrics,
        histories=histories,
        footage=inputs["footage"].summary,
        lineage=refs(inputs),
    )
    return summary_of(scores.metrics)
