"""A comparison from its plan to its tables: what `rushes compare` and the tasks of the compiled comparison share.

plan -> footage of every fold -> chains -> tables. One machine keeps the plan in memory; between a cluster's tasks it
travels as a file of kilobytes, and what a chain answered as the pointer that its last step leaves.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rushes.comparing.chains import run_chain
from rushes.comparing.members import (
    Chain,
    Initialisation,
    Member,
    common_sample,
    footage_in,
    starts_of,
)
from rushes.comparing.report import write_comparison
from rushes.comparing.tables import Measurement, TableRow, compare
from rushes.errors import UserError
from rushes.footage.folds import fold_annotations
from rushes.footage.labels import Annotation
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.orchestration.candidates import parse_models
from rushes.store import REMAKE, Manifest, Store
from rushes.strict import Json, build, to_record

METADATA = TableRow(name="metadata only", init="", network="")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for all members."""

    data: DataReference
    folds: int = 3
    seeds: int = 1
    numbers: tuple[int, ...] = (5,)
    """Labels a class, besides all of them."""
    budget: float = 0.0
    """Backbone training FLOPs of every pretraining; 0 leaves each recipe's own length."""

    def __post_init__(self) -> None:
        for name, value in (("folds", self.folds), ("seeds", self.seeds)):
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; at least 1")
        if not 0 <= self.budget < math.inf:
            raise UserError(f"budget: {self.budget:g} is not allowed; FLOPs, or 0 for the recipes' own lengths")

    def to_record(self) -> dict[str, Json]:
        """Plain data for comparison.json."""
        names = ("folds", "seeds", "numbers", "budget")
        data = {name: getattr(self.data, name) for name in ("videos", "labels", "splits")}
        return data | {name: getattr(self, name) for name in names}


def numbers_of(text: str) -> tuple[int, ...]:
    """Numbers of labels a class from `1,2,5`, ascending; `0` is none besides all.

    Raises:
        UserError: something else.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = [-1]
    if numbers[0] < 0:
        raise UserError(f"labels_per_class: {text!r} is not allowed; numbers such as 5 or 1,2,5,10, or 0 for all only")
    return tuple(number for number in numbers if number)


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """Who is compared, on what."""

    protocol: Protocol
    starts: tuple[Initialisation, ...]
    pins: tuple[str, ...]
    """The pinned videos of folds 1, 2, ...: each a pointer's text."""
    footage: tuple[str, ...] = ()
    """The same for their footage, once it is there."""

    @property
    def chains(self) -> list[Chain]:
        """All that is to be run, fold by fold."""
        return [
            Chain(start=start, fold=fold, seed=seed, labels=(*self.protocol.numbers, 0))
            for fold in range(1, self.protocol.folds + 1)
            for seed in range(self.protocol.seeds)
            for start in self.starts
        ]

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(to_record(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "ComparisonPlan":
        """Reads what `write` wrote."""
        return build(cls, json.loads(path.read_text()), "plan")


# The videos ---------------------------------------------------------------------------------------------------------


def make_plan(members: Sequence[Member], protocol: Protocol, *, work: Path) -> ComparisonPlan:
    """Pins the videos for each fold; the pointers go into the folder `work`, which is made.

    Raises:
        UserError: members that cannot be compared, videos without labels, more folds than groups.
    """
    starts = starts_of(members, common_sample(members), budget=protocol.budget)
    work.mkdir(parents=True, exist_ok=True)
    pins = [_pin(protocol, fold=fold, out=work / f"pin-{fold}.json") for fold in range(1, protocol.folds + 1)]
    return ComparisonPlan(protocol=protocol, starts=tuple(starts), pins=tuple(pin.to_json() for pin in pins))


def sample_folds(plan: ComparisonPlan, *, work: Path) -> ComparisonPlan:
    """Samples the videos for each fold; the pointers go into the folder `work`.

    Shards do not depend on folds: only the first fold encodes, or finds what others have encoded.

    Returns:
        The plan, with footage.
    """
    from rushes.steps.sample import sample

    made = []
    for fold, pointer in enumerate(plan.pins, 1):
        pin = work / f"pin-{fold}.json"
        pin.write_text(pointer)
        made.append(sample(recipe=plan.starts[0].recipe, pin=pin, out=footage_in(work, fold=fold)))
    return replace(plan, footage=tuple(manifest.to_json() for manifest in made))


def _pin(protocol: Protocol, *, fold: int, out: Path) -> Manifest:
    """The videos, labelled, with the test split of a fold."""
    from rushes.steps.pin import pin

    manifest = pin(data=replace(protocol.data, fold=fold if protocol.data.splits else 1), out=out)
    if not manifest.summary["annotations"]:
        raise UserError("labels: none found: give --labels FILE.csv, class folders or --splits")
    if protocol.data.splits or protocol.folds == 1:
        return manifest
    folded = _folded(manifest, open_store(), fold=fold, folds=protocol.folds)
    folded.write(out)
    return folded


def _folded(manifest: Manifest, store: Store, *, fold: int, folds: int) -> Manifest:
    listing = json.loads(store.checked(manifest.files["listing.json"]).read_text())
    annotations = [Annotation(**record) for record in listing["annotations"]]
    listing["annotations"] = [asdict(a) for a in fold_annotations(annotations, fold=fold, folds=folds)]
    text = json.dumps(listing, indent=0, sort_keys=True).encode()
    folded = replace(
        manifest, digest=hashlib.sha256(text).hexdigest()[:16], files={"listing.json": store.put_bytes(text)}
    )
    store.publish(folded)
    return folded


# The result ---------------------------------------------------------------------------------------------------------


def result_of(plan: ComparisonPlan, answers: Mapping[str, Manifest]) -> dict[str, Any]:
    """The whole comparison as plain data.

    Args:
        plan: with footage.
        answers: what each chain's last step left, by the chain's name.
    """
    store = open_store()
    measured = [_measured(chain, answers[chain.name], store) for chain in plan.chains]
    measured += _metadata(plan, store)
    rows = [_row(start) for start in plan.starts] + [METADATA]
    result = compare(rows, measured, numbers=plan.protocol.numbers)
    return result | {"protocol": plan.protocol.to_record(), "not run": _without_supervised(rows)}


def _measured(chain: Chain, answers: Manifest, store: Store) -> Measurement:
    """What a chain came to."""
    import pyarrow.parquet as pq

    from rushes.steps.measure import ANSWERS
    from rushes.training.budget import flops_of, frames_of

    recipe = chain.start.recipe
    backbone, classifier = (_input(answers, name, store) for name in ("backbone", "classifier-0"))
    history = json.loads(store.checked(backbone.files["history.json"]).read_text())
    tuples = int(history[-1]["step"]) * recipe.pretrain.batch if history else 0
    summary = backbone.summary
    return Measurement(
        start=chain.start.name,
        fold=chain.fold,
        seed=chain.seed,
        answers=pq.read_table(store.checked(answers.files[ANSWERS])).to_pydict(),
        labels_per_class=classifier.summary["labels"] / answers.summary["classes"],
        gflops=flops_of(recipe, tuples=tuples) / 1e9,
        frames=frames_of(recipe, tuples=tuples),
        hours=sum(record["seconds"] for record in history) / 3600,
        pretext=(summary.get("val_accuracy", summary["accuracy"]), summary["chance"]) if history else None,
    )


def _input(manifest: Manifest, name: str, store: Store) -> Manifest:
    """What a step read."""
    found = store.find(manifest.inputs[name])
    if found is None:
        raise UserError(f"store {store.url}: {manifest.inputs[name]} is missing: {REMAKE}")
    return found


def _metadata(plan: ComparisonPlan, store: Store) -> list[Measurement]:
    from rushes.comparing.metadata import metadata_answers
    from rushes.footage.reader import Footage

    c, numbers = plan.starts[0].recipe.evaluate.probe_l2, [*plan.protocol.numbers, 0]
    found = []
    for fold, pointer in enumerate(plan.footage, 1):
        reader = Footage(Manifest.from_json(pointer), store)
        for seed in range(plan.protocol.seeds):
            answers = metadata_answers(reader, numbers=numbers, c=c, seed=seed)
            found.append(Measurement(start=METADATA.name, fold=fold, seed=seed, answers=answers))
    return found


def _row(start: Initialisation) -> TableRow:
    return TableRow(name=start.name, init=start.init, network=start.recipe.pretrain.backbone, baseline=start.baseline)


def _without_supervised(rows: Sequence[TableRow]) -> list[str]:
    """Networks that no file of weights was given for."""
    given = {row.network for row in rows if "supervised" in row.init}
    return sorted({row.network for row in rows if row.network} - given)


# As tasks of a cluster ----------------------------------------------------------------------------------------------


def write_plan(*, models: Sequence[Mapping[str, Json]], protocol: Protocol, out: Path, pin: Path) -> ComparisonPlan:
    """Checks who is compared, and pins the videos for each fold.

    Args:
        models: recipes as plain data, each under the name that the tables say; all want the same footage.
        protocol: what is the same for all.
        out: where the plan goes.
        pin: where the pointer to the first fold's videos goes, which are sampled first.

    Raises:
        UserError: models that cannot be compared, videos without labels, more folds than groups.
    """
    members = [Member(name=recipe.name, recipe=recipe) for recipe in parse_models(models)]
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        plan = make_plan(members, protocol, work=Path(work))
    plan.write(out)
    pin.write_text(plan.pins[0])
    return plan


def write_folds(*, plan: Path, out: Path) -> list[str]:
    """Samples the videos for each fold. Shards do not depend on folds: what is encoded already is found.

    Args:
        plan: from `write_plan`.
        out: where the plan goes, now with footage.

    Returns:
        The names of the chains that there are to run.
    """
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        sampled = sample_folds(ComparisonPlan.read(plan), work=Path(work))
    sampled.write(out)
    return [chain.name for chain in sampled.chains]


def write_answers(*, plan: Path, chain: str, out: Path) -> Manifest:
    """Pretrains, fine-tunes at each number of labels, and measures; each is a step, and goes on where it stopped.

    Args:
        plan: from `write_folds`.
        chain: name of one of its chains: a start on a fold with a seed.
        out: where the pointer to the answers about the test split goes.
    """
    planned = ComparisonPlan.read(plan)
    (own,) = [one for one in planned.chains if one.name == chain]
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as work:
        footage_in(Path(work), fold=own.fold).write_text(planned.footage[own.fold - 1])
        manifest = run_chain(own.write_order(Path(work)))
    manifest.write(out)
    return manifest


def write_result(*, plan: Path, answers: Mapping[str, Path], name: str, command: str, page: Path, tables: Path) -> None:
    """Makes the tables of what the chains answered: comparison.html, .md, .csv and .json.

    Args:
        plan: from `write_folds`.
        answers: pointers from `write_answers`, by the chain's name.
        name: of the comparison: the files go to `comparisons/<name>/` of the store.
        command: what it was started with, for readers.
        page: where a copy of the page goes.
        tables: where a copy of the tables in Markdown goes.
    """
    result = result_of(ComparisonPlan.read(plan), {chain: Manifest.read(path) for chain, path in answers.items()})
    store = open_store()
    with tempfile.TemporaryDirectory(prefix="rushes-compare-") as folder:
        write_comparison(Path(folder), result, command=command)
        for file in Path(folder).iterdir():
            store.write(f"{stored_at(name)}/{file.name}", file.read_bytes())
        shutil.copyfile(Path(folder) / "comparison.html", page)
        shutil.copyfile(Path(folder) / "comparison.md", tables)


def stored_at(name: str) -> str:
    """The place under the store of a comparison that ran on a cluster."""
    return f"comparisons/{name}"
