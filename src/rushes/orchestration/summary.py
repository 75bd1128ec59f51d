"""A run's summary, written at its end, whether it succeeded or not, from the store's journal of the run."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rushes.home import open_store
from rushes.journal import RUN, Journal
from rushes.ledger import Ledger
from rushes.orchestration.outcome import name_of, outcome_of
from rushes.store import Store


def write_summary(*, endpoint: str, state: str, error: str, out: Path) -> None:
    """Writes `runs/<run>/summary.json` to the store, and a page in Markdown.

    Args:
        endpoint: name of the endpoint, or of a comparison, which serves nothing.
        state: Kubeflow Pipelines' word for the state of the run.
        error: Kubeflow Pipelines' message on a failure; empty without one.
        out: path of the page.
    """
    store = open_store()
    record = summary_of(store, run=os.environ.get(RUN, ""), endpoint=endpoint, state=state, error=error)
    if record["run"]:
        store.write(f"runs/{record['run']}/summary.json", json.dumps(record, indent=1).encode())
    out.write_text(page_of(record))


def summary_of(store: Store, *, run: str, endpoint: str, state: str, error: str) -> dict[str, Any]:
    """The summary as plain data."""
    events = Journal(store, run).events() if run else []
    ended = [event for event in events if event["event"] == "end"]
    outcome = outcome_of(store, events, word=state, message=error)
    last = Ledger(store, endpoint).last()
    return {
        "run": run,
        "endpoint": endpoint,
        "state": outcome.state,
        "error": outcome.error,
        "tried_again": list(outcome.tried_again),
        "caveats": _caveats(store, ended),
        "steps": ended,
        "decision": outcome.decision,
        "champion": last.champion.version if last and last.champion else None,
    }


def _caveats(store: Store, ended: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the evaluation says of its figures."""
    evaluated = next((store.find(step["ref"]) for step in reversed(ended) if step["step"] == "evaluate"), None)
    return list(evaluated.summary.get("caveats", ())) if evaluated else []


def page_of(record: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    champion = f"version {record['champion']}" if record["champion"] else "none"
    lines = [f"# {record['endpoint']}: {record['state'].lower()}", ""]
    lines += [f"**{record['error']}**", ""] if record["error"] else []
    for failure in record["tried_again"]:
        lines += [f"Tried again: {failure}", ""]
    if record["decision"]:
        lines += [f"Decision: {record['decision']['decision']} ({record['decision']['reason']})", ""]
    if record["decision"] or record["champion"]:
        lines += [f"Champion: {champion}", ""]
    for caveat in record["caveats"]:
        lines += [f"Mind: {caveat}", ""]
    lines += ["| step | seconds | | output |", "|---|---|---|---|"]
    lines += [
        f"| {name_of(step)} | {step['seconds']:.1f} | {'already done' if step['cached'] else ''} | `{step['ref']}` |"
        for step in record["steps"]
    ]
    return "\n".join(lines) + "\n"
