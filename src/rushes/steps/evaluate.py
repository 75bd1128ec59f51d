"""`rushes evaluate`: accuracy on the test split, which selects nothing; always beside random initialisation.

A sample of the test videos' original files also goes through the serving path, as requests to the exported bundle: what
is measured on footage must be what an endpoint answers.
"""

import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes import plugins
from rushes.config import Recipe
from rushes.footage.provenance import OriginalFiles
from rushes.home import open_store
from rushes.steps.base import Job, network_record, read_input, refs, reported, require_labels, run_step
from rushes.steps.belonging import Given, require_fair_baseline, require_input
from rushes.store import Manifest
from rushes.strict import digest_record

if TYPE_CHECKING:
    from rushes.evaluation.score import Scores
    from rushes.footage.reader import Footage

TRAINED = {"backbone": "pretraining", "classifier": "fine-tuning", "baseline": "fine-tuning from random weights"}
"""Inputs that were trained, as people call them."""


@reported("evaluate")
def evaluate(
    *, recipe: Recipe, footage: Path, backbone: Path, classifier: Path, baseline: Path, bundle: Path, out: Path
) -> Manifest:
    """Scores fine-tuning, linear probe and nearest neighbour, each pretrained and from random weights.

    Args:
        recipe: sections `evaluate` and `seed` count.
        footage: pointer from `sample`.
        backbone: pointer from `pretrain`.
        classifier: pointer from `finetune`.
        baseline: pointer from `finetune --init random`.
        bundle: pointer from `export` of the classifier.
        out: where the pointer to metrics, predictions and report goes.

    Raises:
        UserError: classifier or baseline was fine-tuned on other footage, from another backbone, or by
            other settings than the other; or the bundle was exported from another classifier.
    """
    inputs = {
        "footage": read_input(footage, "footage"),
        "backbone": read_input(backbone, "backbone"),
        "classifier": read_input(classifier, "classifier"),
        "baseline": read_input(baseline, "classifier"),
        "bundle": read_input(bundle, "bundle"),
    }
    _require_one_run({name: Given(field=name, manifest=manifest) for name, manifest in inputs.items()})
    plugins.use(recipe.plugins)
    files = OriginalFiles.of(inputs["footage"], open_store()) if recipe.evaluate.originals else None
    return run_step(
        "evaluate",
        kind="evaluation",
        # Where the files come within reach later, there is more to evaluate.
        config=digest_record(recipe.evaluate)
        | {"seed": recipe.seed, "originals_reachable": files is not None}
        | network_record(inputs["backbone"]),
        inputs=inputs,
        out=out,
        build=lambda job: _evaluate(job, recipe=recipe, inputs=inputs, files=files),
    )


def _require_one_run(given: Mapping[str, Given]) -> None:
    """Classifier and baseline are of this footage and backbone, and differ in the weights that they began with."""
    store = open_store()
    for made, name in itertools.product(("classifier", "baseline"), ("footage", "backbone")):
        require_input(given[made], given[name], name=name, store=store)
    require_fair_baseline(given["classifier"], given["baseline"])
    require_input(given["bundle"], given["classifier"], name="classifier", store=store)


def _evaluate(
    job: Job, *, recipe: Recipe, inputs: Mapping[str, Manifest], files: OriginalFiles | None
) -> Mapping[str, Any]:
    from rushes.evaluation.report import write_report
    from rushes.evaluation.score import score, summary_of, write_predictions
    from rushes.evaluation.served import served_sentence
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
    served = _served(job, scores, footage=footage, recipe=recipe, bundle=inputs["bundle"], files=files)
    job.progress.say(served_sentence(served))
    histories = {name: json.loads(job.store.path(inputs[name].files["history.json"]).read_text()) for name in TRAINED}
    caveats = _caveats(scores.metrics, inputs=inputs, histories=histories)
    metrics = scores.metrics | {"served": served, "caveats": caveats}
    (job.folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    write_predictions(job.folder / "predictions.parquet", scores)
    write_report(
        job.folder / "report.html",
        metrics=metrics,
        histories=histories,
        footage=inputs["footage"].summary,
        lineage=refs(inputs),
        served=served_sentence(served),
    )
    return summary_of(metrics)


def _served(
    job: Job, scores: "Scores", *, footage: "Footage", recipe: Recipe, bundle: Manifest, files: OriginalFiles | None
) -> Mapping[str, Any]:
    """The answers of the serving path to a sample of the test videos, beside those on footage."""
    from rushes.evaluation.served import served_metrics
    from rushes.serving.bundle import InProcessModel, fetch_bundle
    from rushes.serving.originals import drawn, served_answers

    config = recipe.evaluate
    numbers = drawn(len(scores.rows["key"]), count=config.originals, seed=recipe.seed)
    if files is None:
        return {"drawn": len(numbers), "sent": 0, "refused": {}, "absent": {"unreachable": len(numbers)}}
    with tempfile.TemporaryDirectory(prefix="rushes-bundle-") as folder:
        model = InProcessModel(fetch_bundle(bundle, job.store, folder=Path(folder) / "bundle"))
        rows = footage.select("test", labelled=True)[numbers]
        answers = served_answers(model, footage, rows, files=files, progress=job.progress)
    columns = {name: [scores.rows[name][n] for n in numbers] for name in ("fine-tune, pretrained", "label", "group")}
    return served_metrics(
        answers,
        measured=columns["fine-tune, pretrained"],
        labels=columns["label"],
        groups=columns["group"],
    )


def _caveats(
    metrics: Mapping[str, Any], *, inputs: Mapping[str, Manifest], histories: Mapping[str, list[dict[str, float]]]
) -> list[str]:
    """What to read with the figures, one sentence each."""
    from rushes.evaluation.caveats import metadata_caveat, training_caveats

    found = [
        f"{title}: {sentence}"
        for name, title in TRAINED.items()
        for sentence in training_caveats(inputs[name], histories[name]).values()
    ]
    beside = metrics["metadata"]
    metadata = metadata_caveat(beside["top1"], difference=beside["model - metadata"])
    return [*found, metadata] if metadata else found
