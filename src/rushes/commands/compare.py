"""`rushes compare`: several models under one protocol, and the one honest table."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from rushes.config import Recipe, Sample
from rushes.console import console, view, watching
from rushes.errors import UserError
from rushes.evaluation.comparison import Measured, Row, compare
from rushes.evaluation.comparison_report import Table, notes_of, tables_of, write_comparison
from rushes.footage.folds import fold_annotations
from rushes.footage.labels import Annotation
from rushes.home import open_store
from rushes.orchestration.comparison import (
    Chain,
    Chains,
    Start,
    common_sample,
    flops_of,
    frames_of,
    parse_member,
    starts_of,
)
from rushes.store import Manifest, Store

METADATA = Row(name="metadata only", init="", network="")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for all members."""

    videos: str
    labels: str = ""
    splits: str = ""
    folds: int = 3
    seeds: int = 1
    numbers: tuple[int, ...] = (5,)
    """Labels a class, besides all of them."""
    budget: float = 0.0
    parallel: int = 1

    def __post_init__(self) -> None:
        for name, value in (("folds", self.folds), ("seeds", self.seeds), ("parallel", self.parallel)):
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; at least 1")
        if self.budget < 0:
            raise UserError(f"budget: {self.budget:g} is not allowed; FLOPs, or 0 for the recipes' own lengths")


def run_compare(models: Sequence[str], protocol: Protocol, *, size: str, plugins: Sequence[str], out: Path) -> int:
    """Runs whatever has not been run yet, then shows and writes the table."""
    if not models:
        raise UserError("models: missing; name one or more, see `rushes models`")
    members = [parse_member(text, size=size, plugins=plugins) for text in models]
    sample = common_sample(members)
    starts = starts_of(members, sample, budget=protocol.budget)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    footage = _footage(members[0].recipe, sample, protocol, work=work)
    chains = [
        Chain(start=start, fold=fold, seed=seed, footage=footage[fold], labels=(*protocol.numbers, 0))
        for fold in footage
        for seed in range(protocol.seeds)
        for start in starts
    ]
    with Chains(chains, work=work, parallel=protocol.parallel) as running, view() as shown:
        for event in running.follow():
            if event is not None:
                shown.show(event)
    store = open_store()
    measured = [_measured(chain, work=work, store=store) for chain in chains]
    measured += _metadata(footage, protocol, members[0].recipe, store=store)
    rows = [_row(start) for start in starts] + [METADATA]
    result = compare(rows, measured, numbers=protocol.numbers)
    result["protocol"] = asdict(protocol)
    result["not run"] = _without_supervised(rows)
    write_comparison(out, result, command=shlex.join(["rushes", *sys.argv[1:]]))
    _show(result, out)
    return 0


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


def _footage(recipe: Recipe, sample: Sample, protocol: Protocol, *, work: Path) -> dict[int, Path]:
    """Samples the videos for each fold: pointers by fold. Shards do not depend on folds: only the first encodes."""
    from rushes.steps.sample import sample as sample_step

    events = work / "sample.jsonl"
    events.unlink(missing_ok=True)
    os.environ["RUSHES_PROGRESS"] = str(events)
    found = {fold: work / f"footage-{fold}.json" for fold in range(1, protocol.folds + 1)}
    with watching(events):
        pins = {fold: _pin(protocol, fold=fold, out=work / f"pin-{fold}.json") for fold in found}
        for fold, out in found.items():
            sample_step(recipe=replace(recipe, sample=sample), pin=pins[fold], out=out)
    return found


def _pin(protocol: Protocol, *, fold: int, out: Path) -> Path:
    """The videos, labelled, with the test split of a fold."""
    from rushes.steps.pin import pin

    manifest = pin(
        videos=protocol.videos, labels=protocol.labels, splits=protocol.splits, out=out,
        fold=fold if protocol.splits else 1,
    )  # fmt: skip
    if not manifest.summary["annotations"]:
        raise UserError("labels: none found: give --labels FILE.csv, class folders or --splits")
    if not protocol.splits and protocol.folds > 1:
        store = open_store()
        _folded(manifest, store, fold=fold, folds=protocol.folds).write(out)
    return out


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


def _measured(chain: Chain, *, work: Path, store: Store) -> Measured:
    """What a chain left."""
    import pyarrow.parquet as pq

    from rushes.steps.measure import ANSWERS

    folder, recipe = chain.folder(work), chain.start.recipe
    answers, backbone, classifier = (
        Manifest.read(folder / f"{name}.json") for name in ("answers", "backbone", "classifier-0")
    )
    history = json.loads(store.checked(backbone.files["history.json"]).read_text())
    tuples = int(history[-1]["step"]) * recipe.pretrain.batch if history else 0
    summary = backbone.summary
    return Measured(
        start=chain.start.name, fold=chain.fold, seed=chain.seed,
        answers=pq.read_table(store.checked(answers.files[ANSWERS])).to_pydict(),
        labels_per_class=classifier.summary["labels"] / answers.summary["classes"],
        gflops=flops_of(recipe, tuples=tuples) / 1e9, frames=frames_of(recipe, tuples=tuples),
        hours=sum(record["seconds"] for record in history) / 3600,
        pretext=(summary.get("val_accuracy", summary["accuracy"]), summary["chance"]) if history else None,
    )  # fmt: skip


def _metadata(footage: dict[int, Path], protocol: Protocol, recipe: Recipe, *, store: Store) -> list[Measured]:
    from rushes.evaluation.metadata import metadata_answers
    from rushes.footage.reader import Footage

    found = []
    for fold, pointer in footage.items():
        reader = Footage(Manifest.read(pointer), store)
        for seed in range(protocol.seeds):
            answers = metadata_answers(
                reader, numbers=[*protocol.numbers, 0], c=recipe.evaluate.probe_l2, seed=seed
            )  # fmt: skip
            found.append(Measured(start=METADATA.name, fold=fold, seed=seed, answers=answers))
    return found


def _row(start: Start) -> Row:
    return Row(name=start.name, init=start.init, network=start.recipe.pretrain.backbone, baseline=start.baseline)


def _without_supervised(rows: Sequence[Row]) -> list[str]:
    """Networks that no file of weights was given for."""
    given = {row.network for row in rows if "supervised" in row.init}
    return sorted({row.network for row in rows if row.network} - given)


def _show(result: dict[str, Any], out: Path) -> None:
    for table in tables_of(result):
        console.print()
        console.print(_drawn(table))
    console.print()
    for note in notes_of(result):
        console.print(note, markup=False, style="dim")
    console.print(f"\nTables: {out / 'comparison.html'}, .md, .csv, .json", markup=False)


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(*table.head, title=table.title, box=None, header_style="bold", title_justify="left")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
