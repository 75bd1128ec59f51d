"""`rushes promote`: decides by evidence whether a version becomes the champion, and records the decision.

The ledger is the truth; MLflow's alias is repaired from it at every run. A decision compares with one champion: if
another decision comes first, it is made again with the new champion.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rushes.config import Recipe
from rushes.errors import UserError
from rushes.ledger import Champion, Ledger, LedgerEntry, now
from rushes.steps.base import Context, read_input, reported
from rushes.store import Manifest
from rushes.tracking import gate
from rushes.tracking.gate import Evidence, PairedCorrectness, Ruling
from rushes.tracking.registry import Registry
from rushes.tracking.server import tracking_url

ATTEMPTS = 20


@reported("promote")
def promote(*, recipe: Recipe, version: Path, bundle: Path, evaluation: Path, footage: Path, out: Path) -> Manifest:
    """Compares the challenger with the champion, or with chance where there is none.

    Args:
        recipe: sections `promote`, `export` and `seed` count.
        version: pointer from `register`.
        bundle: pointer from `export`.
        evaluation: pointer from `evaluate`.
        footage: pointer from `sample`, on whose test split the champion is scored again.
        out: where the pointer to the decision goes.
    """
    context = Context(step="promote")
    registered, exported = read_input(version, "version"), read_input(bundle, "bundle")
    case = _Case(
        context=context,
        recipe=recipe,
        exported=exported,
        evaluated=read_input(evaluation, "evaluation"),
        footage=read_input(footage, "footage"),
    )
    endpoint = str(registered.summary["endpoint"])
    challenger = Champion(
        version=int(registered.summary["version"]), bundle=exported.ref, onnx_sha256=exported.files["model.onnx"].sha256
    )
    ledger = Ledger(context.store, endpoint)
    entry = _decide(case, ledger, challenger)
    Registry(tracking_url(context.home)).repair_alias(ledger.last(), endpoint=endpoint)
    return context.publish(
        out,
        kind="decision",
        digest=f"{endpoint}-{entry.number:06d}",
        inputs={"version": registered, "bundle": exported, "evaluation": case.evaluated},
        files={"gate.json": context.store.put_bytes(json.dumps(asdict(entry), indent=1).encode())},
        summary={
            "endpoint": endpoint,
            "decision": entry.decision,
            "reason": entry.reason,
            "entry": entry.number,
            "version": challenger.version,
            "champion": entry.champion.version if entry.champion else None,
        },
    )


def _decide(case: "_Case", ledger: Ledger, challenger: Champion) -> LedgerEntry:
    """Appends a decision on the latest champion; a bundle that is champion already needs none."""
    for _ in range(ATTEMPTS):
        last = ledger.last()
        champion = last.champion if last else None
        if last and champion and champion.onnx_sha256 == challenger.onnx_sha256:
            return last
        rulings = case.rulings(champion)
        entry = _entry(ledger.endpoint, last, challenger, rulings)
        if _already_said(last, entry):
            return last  # type: ignore[return-value]  # _already_said is false without a last entry
        if ledger.append(entry):
            return entry
    raise UserError(f"ledger {ledger.endpoint}: {ATTEMPTS} other decisions came first: run `rushes promote` again")


def _entry(endpoint: str, last: LedgerEntry | None, challenger: Champion, rulings: Sequence[Ruling]) -> LedgerEntry:
    good = gate.passed(rulings)
    champion = last.champion if last else None
    return LedgerEntry(
        number=(last.number if last else 0) + 1,
        endpoint=endpoint,
        decision="promoted" if good else "refused",
        challenger=challenger,
        champion=challenger if good else champion,
        reason=gate.reason(rulings),
        time=now(),
        report={"rulings": [asdict(ruling) for ruling in rulings]},
    )


def _already_said(last: LedgerEntry | None, entry: LedgerEntry) -> bool:
    """A second run of the same pipeline must not grow the ledger."""
    return last is not None and (last.challenger, last.champion, last.decision, last.reason) == (
        entry.challenger,
        entry.champion,
        entry.decision,
        entry.reason,
    )


class _Case:
    """The evidence: what evaluation measured, what export proved, and the champion scored on the same videos."""

    def __init__(
        self, *, context: Context, recipe: Recipe, exported: Manifest, evaluated: Manifest, footage: Manifest
    ) -> None:
        self.context, self.recipe, self.exported, self.footage = context, recipe, exported, footage
        self.evaluated = evaluated
        store = context.store
        self.metrics: dict[str, Any] = json.loads(store.checked(evaluated.files["metrics.json"]).read_text())
        self.predictions = _columns(store.checked(evaluated.files["predictions.parquet"]))

    def rulings(self, champion: Champion | None) -> list[Ruling]:
        """What the gate's rules find about the challenger, against this champion or against chance."""
        evidence = Evidence(
            metrics=self.metrics,
            export=self.exported.summary,
            correct=self._right("fine-tune, pretrained"),
            baseline=self._right("fine-tune, random"),
            champion=self._paired(champion) if champion else None,
            config=self.recipe.promote,
            tolerance=self.recipe.export.tolerance,
            seed=self.recipe.seed,
        )
        return gate.rule_on(evidence)

    def _paired(self, champion: Champion) -> PairedCorrectness | str:
        """Challenger and champion, scored again, on the same test videos; or why they cannot be compared."""
        from rushes.serving.scoring import score_bundle

        scored = score_bundle(
            champion.bundle,
            self.footage,
            store=self.context.store,
            progress=self.context.progress,
            labels=self.metrics["labels"],
        )
        if isinstance(scored, str):
            return scored
        answers = dict(zip(scored.keys, scored.answers, strict=True))
        pairs = zip(self.predictions["key"], self.predictions["label"], strict=True)
        return PairedCorrectness(
            challenger=self._right("fine-tune, pretrained"),
            champion=np.array([answers[key] == label for key, label in pairs]),
            groups=np.array(self.predictions["group"]),
        )

    def _right(self, column: str) -> gate.Correct:
        right: gate.Correct = np.array(self.predictions[column]) == np.array(self.predictions["label"])
        return right


def _columns(path: Path) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns
