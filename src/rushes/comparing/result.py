"""The result of a comparison, from the pointers that its chains left."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from rushes.comparing.chains import Chain
from rushes.comparing.comparison_plan import ComparisonPlan
from rushes.comparing.initialisations import Initialisation
from rushes.comparing.metadata import metadata_answers
from rushes.comparing.tables import METADATA, Measurement, TableRow, compare
from rushes.errors import UserError
from rushes.evaluation.caveats import training_caveats
from rushes.footage.reader import Footage
from rushes.home import open_store
from rushes.steps.measure import ANSWERS
from rushes.store import REMAKE, Manifest, Store
from rushes.training.budget import flops_of, frames_of

METADATA_ROW = TableRow(name=METADATA, init="", network="")


def result_of(plan: ComparisonPlan, answers: Mapping[str, Manifest]) -> dict[str, Any]:
    """The whole comparison as plain data.

    Args:
        plan: with footage.
        answers: manifest of the last step of each chain, by the chain's name.

    Raises:
        UserError: the store no longer holds what a chain read.
    """
    store = open_store()
    measured = [_measured(chain, answers[chain.name], store) for chain in plan.chains]
    measured += _metadata(plan, store)
    rows = [_row(initialisation) for initialisation in plan.initialisations] + [METADATA_ROW]
    result = compare(rows, measured, numbers=plan.settings.numbers)
    return result | {"protocol": plan.settings.to_record(), "not run": _without_supervised(rows)}


def _measured(chain: Chain, answers: Manifest, store: Store) -> Measurement:
    recipe = chain.initialisation.recipe
    backbone, classifier = (_input(answers, name, store) for name in ("backbone", "classifier-0"))
    history = json.loads(store.checked(backbone.files["history.json"]).read_text())
    tuples = int(history[-1]["step"]) * recipe.pretrain.batch if history else 0
    summary = backbone.summary
    return Measurement(
        row=chain.initialisation.name,
        fold=chain.fold,
        seed=chain.seed,
        answers=pq.read_table(store.checked(answers.files[ANSWERS])).to_pydict(),
        labels_per_class=classifier.summary["labels"] / answers.summary["classes"],
        gflops=flops_of(recipe, tuples=tuples) / 1e9,
        frames=frames_of(recipe, tuples=tuples),
        hours=sum(record["seconds"] for record in history) / 3600,
        caveats=_caveats({"pretraining": backbone, "fine-tuning": classifier}, store),
        pretext=(summary.get("val_accuracy", summary["accuracy"]), summary["chance"]) if history else None,
    )


def _caveats(trained: Mapping[str, Manifest], store: Store) -> dict[str, str]:
    found = {}
    for title, manifest in trained.items():
        history = json.loads(store.checked(manifest.files["history.json"]).read_text())
        for kind, sentence in training_caveats(manifest, history).items():
            found[f"{title}: {kind}"] = f"{title}: {sentence}"
    return found


def _input(manifest: Manifest, name: str, store: Store) -> Manifest:
    """The manifest that a step read under this name."""
    found = store.find(manifest.inputs[name])
    if found is None:
        raise UserError(f"store {store.url}: {manifest.inputs[name]} is missing: {REMAKE}")
    return found


def _metadata(plan: ComparisonPlan, store: Store) -> list[Measurement]:
    c, numbers = plan.initialisations[0].recipe.evaluate.probe_l2, [*plan.settings.numbers, 0]
    found = []
    for fold, pointer in enumerate(plan.footage, 1):
        footage = Footage(Manifest.from_json(pointer), store)
        for seed in range(plan.settings.seeds):
            answers = metadata_answers(footage, numbers=numbers, c=c, seed=seed)
            found.append(Measurement(row=METADATA, fold=fold, seed=seed, answers=answers))
    return found


def _row(initialisation: Initialisation) -> TableRow:
    return TableRow(
        name=initialisation.name,
        init=initialisation.init,
        network=initialisation.recipe.pretrain.backbone,
        baseline=initialisation.baseline,
    )


def _without_supervised(rows: Sequence[TableRow]) -> list[str]:
    """Networks without a row that starts from a file of weights."""
    given = {row.network for row in rows if "supervised" in row.init}
    return sorted({row.network for row in rows if row.network} - given)
