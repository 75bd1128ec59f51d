"""`rushes promote`: decides by evidence whether a version becomes the champion, and records the decision.

The ledger is the truth; MLflow's alias is repaired from it at every run. A decision compares with one champion: if
another decision comes first, it is made again with the new champion. The same question is decided once: a run about the
champion reports the decision that made it champion, and a bundle that was replaced as champion, by another or by hand,
stays replaced until it was evaluated on other test videos.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rushes.config import Recipe
from rushes.errors import UserError
from rushes.ledger import Champion, Ledger, LedgerEntry, now
from rushes.steps.base import Context, read_input, reported
from rushes.steps.belonging import Given, require_input, same_content
from rushes.store import Manifest, Store
from rushes.tracking import gate
from rushes.tracking.gate import Evidence, PairedCorrectness, Ruling
from rushes.tracking.registry import BUNDLE_TAG, Registry
from rushes.tracking.server import tracking_url

ATTEMPTS = 20
_NOT_IN_ANSWERS = ("classifier", "golden", "opset", "schema")
"""Fields of a contract that do not change what the model answers."""


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

    Raises:
        UserError: the pointers do not belong together.
    """
    context = Context(step="promote")
    inputs = {
        "version": read_input(version, "version"),
        "bundle": read_input(bundle, "bundle"),
        "evaluation": read_input(evaluation, "evaluation"),
        "footage": read_input(footage, "footage"),
    }
    _require_one_model(inputs, context.store)
    registered, exported = inputs["version"], inputs["bundle"]
    endpoint, number = str(registered.summary["endpoint"]), int(registered.summary["version"])
    registry = Registry(tracking_url(context.home))
    _require_registered(registry, endpoint, number, exported, context.store)
    challenger = Champion(version=number, bundle=exported.ref, onnx_sha256=exported.files["model.onnx"].sha256)
    ledger = Ledger(context.store, endpoint)
    entry = _decide(_Case(context=context, recipe=recipe, inputs=inputs, challenger=challenger), ledger)
    registry.repair_alias(ledger.last(), endpoint=endpoint)
    del inputs["footage"]
    return _publish(context, out, entry=entry, challenger=challenger, inputs=inputs)


def _publish(
    context: Context, out: Path, *, entry: LedgerEntry, challenger: Champion, inputs: Mapping[str, Manifest]
) -> Manifest:
    """The decision's manifest; that of an earlier run about the same entry stays as it is."""
    digest, store = f"{entry.endpoint}-{entry.number:06d}", context.store
    known = store.find(f"promote/{digest}")
    if known is not None and entry.is_in(store.checked(known.files["gate.json"]).read_text()):
        return context.done(known, out, cached=True)
    return context.publish(
        out,
        kind="decision",
        digest=digest,
        inputs=inputs,
        files={"gate.json": store.put_bytes(entry.to_json().encode())},
        summary={
            "endpoint": entry.endpoint,
            "decision": entry.decision,
            "reason": entry.reason,
            "entry": entry.number,
            "version": challenger.version,
            "champion": entry.champion.version if entry.champion else None,
        },
    )


# Evidence ------------------------------------------------------------------------------------------------------------


def _require_one_model(inputs: Mapping[str, Manifest], store: Store) -> None:
    """The version is of the bundle and the evaluation, and the evaluation of the bundle and the footage."""
    given = {name: Given(field=name, manifest=manifest) for name, manifest in inputs.items()}
    require_input(given["version"], given["bundle"], name="bundle", store=store)
    require_input(given["version"], given["evaluation"], name="evaluation", store=store)
    require_input(given["evaluation"], given["bundle"], name="bundle", store=store)
    require_input(given["evaluation"], given["footage"], name="footage", store=store)


def _require_registered(registry: Registry, endpoint: str, version: int, bundle: Manifest, store: Store) -> None:
    """MLflow has this bundle under that number: a database that was made anew numbers its versions anew."""
    registered = registry.tags(f"{endpoint}/{version}").get(BUNDLE_TAG, "")
    if not registered or not same_content(registered, bundle, store):
        raise UserError(
            f"version: version {version} of {endpoint} in MLflow at {registry.url} has bundle "
            f"{registered or '(no tag)'}, not {bundle.ref}: run `rushes register` again"
        )


class _Case:
    """The evidence: what evaluation measured, what export proved, and the champion scored on the same videos."""

    def __init__(
        self, *, context: Context, recipe: Recipe, inputs: Mapping[str, Manifest], challenger: Champion
    ) -> None:
        self.context, self.recipe, self.challenger = context, recipe, challenger
        self.exported, self.evaluated, self.footage = inputs["bundle"], inputs["evaluation"], inputs["footage"]
        store = context.store
        self.metrics: dict[str, Any] = json.loads(store.checked(self.evaluated.files["metrics.json"]).read_text())
        self.predictions = _columns(store.checked(self.evaluated.files["predictions.parquet"]))

    @property
    def origin(self) -> dict[str, str]:
        """What an entry says of its evidence."""
        return {
            "evaluation": self.evaluated.ref,
            "footage": self.footage.ref,
            "test_sha256": str(self.metrics["test"]["manifest_sha256"]),
        }

    def is_of(self, other: Champion) -> bool:
        """Whether another version answers as the challenger does: the same graph, labels and clips."""
        if other.onnx_sha256 != self.challenger.onnx_sha256:
            return False
        store = self.context.store
        made = store.find(other.bundle)
        return made is None or _answering(made, store) == _answering(self.exported, store)

    def replaced(self, entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
        """The entry that replaced the challenger as champion, if it was one by the same test videos."""
        for number in range(len(entries) - 1, 0, -1):
            champion = entries[number - 1].champion
            if champion is not None and self.is_of(champion):
                made = _champion_since(entries[:number])
                by = made.report.get("test_sha256", self.origin["test_sha256"])
                return entries[number] if by == self.origin["test_sha256"] else None
        return None

    def rulings(self, champion: Champion | None) -> list[Ruling]:
        """What the gate's rules find about the challenger, against this champion or against chance."""
        evidence = Evidence(
            metrics=self.metrics,
            export=self.exported.summary,
            correct=self._right("fine-tune, pretrained"),
            baseline=self._right("fine-tune, random"),
            groups=np.array(self.predictions["group"]),
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


def _answering(bundle: Manifest, store: Store) -> dict[str, Any]:
    """The contract of a bundle, as far as it decides answers."""
    from rushes.serving.contract import Contract

    contract = dataclasses.asdict(Contract.read(store.checked(bundle.files["contract.json"])))
    return {name: value for name, value in contract.items() if name not in _NOT_IN_ANSWERS}


# Decisions -----------------------------------------------------------------------------------------------------------


def _decide(case: _Case, ledger: Ledger) -> LedgerEntry:
    """The decision about the challenger: one of the ledger where it was made before, or a new one."""
    for _ in range(ATTEMPTS):
        entries = ledger.entries()
        last = entries[-1] if entries else None
        champion = last.champion if last else None
        if champion is not None and case.is_of(champion):
            return _champion_since(entries)
        replaced = case.replaced(entries)
        rulings = [_replaced(case.challenger, replaced)] if replaced else case.rulings(champion)
        entry = _entry(case, ledger.endpoint, last, rulings)
        known = _already_said(entries, entry)
        if known is not None:
            return known
        if ledger.append(entry):
            return entry
    raise UserError(f"ledger {ledger.endpoint}: {ATTEMPTS} other decisions came first: run `rushes promote` again")


def _entry(case: _Case, endpoint: str, last: LedgerEntry | None, rulings: Sequence[Ruling]) -> LedgerEntry:
    good = gate.passed(rulings)
    champion = last.champion if last else None
    return LedgerEntry(
        number=(last.number if last else 0) + 1,
        endpoint=endpoint,
        decision="promoted" if good else "refused",
        challenger=case.challenger,
        champion=case.challenger if good else champion,
        reason=gate.reason(rulings),
        time=now(),
        report={"rulings": [asdict(ruling) for ruling in rulings]} | case.origin,
    )


def _replaced(challenger: Champion, by: LedgerEntry) -> Ruling:
    champion = f"version {by.champion.version}" if by.champion else "no version"
    return Ruling(
        rule="replaced",
        verdict="fail",
        sentence=f"version {challenger.version} was the champion until entry {by.number} ({by.time}) put {champion} in "
        "its stead, and the test videos are those that it was promoted by: evaluate on others, or write the ledger's "
        "next entry by hand",
    )


def _champion_since(entries: Sequence[LedgerEntry]) -> LedgerEntry:
    """The entry that made the last one's champion the champion."""
    since = entries[-1]
    for entry in reversed(entries):
        if entry.champion != since.champion:
            break
        since = entry
    return since


def _already_said(entries: Sequence[LedgerEntry], entry: LedgerEntry) -> LedgerEntry | None:
    """The same decision about the same champion: a second run of a pipeline must not grow the ledger."""

    def said(one: LedgerEntry) -> tuple[Any, ...]:
        return one.challenger, one.champion, one.decision, one.reason

    since = _champion_since(entries).number if entries else 0
    return next((one for one in reversed(entries) if one.number >= since and said(one) == said(entry)), None)
