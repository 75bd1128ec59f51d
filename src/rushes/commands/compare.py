"""`rushes compare`: several models under the same conditions in one table; on this machine or on a cluster."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table as RichTable

from rushes.commands.follow import follow
from rushes.commands.pipeline import Destination, named_now, start
from rushes.comparing.chain_process import ANSWERS
from rushes.comparing.chains import Chains
from rushes.comparing.comparison_plan import ComparisonPlan, ComparisonSettings, make_plan, sample_folds
from rushes.comparing.initialisations import initialisations_of
from rushes.comparing.members import Member, common_sample, named_recipes
from rushes.comparing.report import Table, notes_of, tables_of, write_comparison
from rushes.comparing.result import result_of
from rushes.comparing.tasks import stored_at
from rushes.console import console, view, watching
from rushes.errors import UserError
from rushes.footage.reference import check_remote
from rushes.home import open_store
from rushes.store import Manifest, write_atomic
from rushes.strict import to_record


def run_compare(members: Sequence[Member], settings: ComparisonSettings, *, parallel: int, out: Path) -> int:
    """Runs the chains that have not been run yet, then shows and writes the table."""
    if parallel < 1:
        raise UserError(f"parallel: {parallel} is not allowed; at least 1")
    work = out / "work"
    plan = _planned(members, settings, work=work)
    with Chains(plan.chains, work=work, parallel=parallel) as running, view() as shown:
        for event in running.follow():
            if event is not None:
                shown.show(event)
    answers = {chain.name: Manifest.read(chain.folder(work) / ANSWERS) for chain in plan.chains}
    result = result_of(plan, answers)
    write_comparison(out, result, command=_command())
    _show(result, out)
    return 0


def submit_compare(members: Sequence[Member], settings: ComparisonSettings, *, to: Destination, out: Path) -> int:
    """Runs the comparison on a cluster, and follows it to its end.

    The result is in the cluster's store; if this machine can read that, it is shown, and written to `out`.
    """
    check_remote(settings.data)
    # Finds mistakes before the server is contacted.
    made = initialisations_of(members, common_sample(members), budget=settings.budget)
    chains = [chain.name for chain in ComparisonPlan(settings=settings, initialisations=tuple(made), pins=()).chains]
    name = named_now("comparison")
    arguments = {
        "videos": settings.data.videos,
        "labels": settings.data.labels,
        "splits": settings.data.splits,
        "models": [to_record(recipe) for recipe in named_recipes(members)],
        "folds": settings.folds,
        "seeds": settings.seeds,
        "labels_per_class": ",".join(map(str, settings.numbers or [0])),
        "budget": settings.budget,
        "name": name,
        "command": _command(),
    }
    follow(start(arguments, to=to, name=name, chains=chains))
    console.print(f"\nIn the cluster's store: {stored_at(name)}/comparison.html, .md, .csv, .json", markup=False)
    if _fetch(name, out):
        _show(json.loads((out / "comparison.json").read_text()), out)
    return 0


def _planned(members: Sequence[Member], settings: ComparisonSettings, *, work: Path) -> ComparisonPlan:
    """Pins and samples, with progress bars."""
    events = work / "sample.jsonl"
    events.unlink(missing_ok=True)
    os.environ["RUSHES_PROGRESS"] = str(events)
    with watching(events):
        return sample_folds(make_plan(members, settings, work=work), work=work)


def _fetch(name: str, out: Path) -> bool:
    """Copies a cluster's result to a folder; False if this machine cannot read the cluster's store."""
    found: dict[str, bytes | None] = {}
    with contextlib.suppress(Exception):  # no access to that store
        store = open_store()
        found = {file: store.read(f"{stored_at(name)}/{file}") for file in store.names(stored_at(name))}
    for file, content in found.items():
        write_atomic(out / file, content or b"")
    return bool(found)


def _command() -> str:
    return shlex.join(["rushes", *sys.argv[1:]])


def _show(result: dict[str, Any], out: Path) -> None:
    for table in tables_of(result):
        console.print()
        console.print(_drawn(table))
    console.print()
    for note in notes_of(result):
        console.print(note, markup=False, style="dim")
    console.print(f"\nTables: {out / 'comparison.html'}, .md, .csv, .json", markup=False)


def _drawn(table: Table) -> RichTable:
    """Escaped: names may have square brackets, which rich would read as markup."""
    heads, title = map(escape, table.head), escape(table.title)
    drawn = RichTable(*heads, title=title, box=None, header_style="bold", title_justify="left")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    return drawn
