"""How a run ended, by its journal: the words of Kubeflow Pipelines do not say it.

What KFP gives an exit task is a word of its metadata server: COMPLETE for a success, but often RUNNING for a run that
has ended, and FAILED while a step that was tried again has succeeded. kfp.local says SUCCEEDED. So a run has succeeded
if its last step ended: `deploy`, or `promote` where it refused the version, or `comparison`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rushes.store import Store

Event = Mapping[str, Any]
RunState = Literal["SUCCEEDED", "FAILED", "CANCELED", "STOPPED"]
"""STOPPED: it ended early, and no step said why."""
_WORDS: Mapping[str, RunState] = {
    "SUCCEEDED": "SUCCEEDED",
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SUCCEEDED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
    "CANCELLED": "CANCELED",
    "CANCELING": "CANCELED",
}
"""All versions' words for the end of a run; others, such as RUNNING or RUNTIME_STATE_UNSPECIFIED, say nothing of it."""
_AROUND = ("plan", "folds")
"""Tasks of a comparison that run steps."""
_STOPPED = (
    "no step reported an error: a person terminated the run, or a pod was ended (out of memory, evicted, its timeout) "
    "or could not start: the pods' events say which"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a run."""

    state: RunState
    error: str
    """Why it did not succeed; empty for a success."""
    has_step_error: bool
    """Whether `error` is what steps reported."""
    tried_again: tuple[str, ...]
    """Errors of attempts after which a later one succeeded."""
    decision: Mapping[str, str] | None
    """What `promote` decided, and why; None where it did not end."""


def outcome_of(store: Store, events: Sequence[Event], *, word: str = "", message: str = "") -> Outcome:
    """The end of the run with these events.

    Args:
        store: holds the decision.
        events: all records of the run's journal, oldest first.
        word: the state that Kubeflow Pipelines gives; counts only where the journal does not say it.
        message: Kubeflow Pipelines' own message on a failure; current versions have none.
    """
    last = {(event["step"], event.get("of", "")): event["event"] for event in events}
    decision = _decision(store, events)
    ended = {step for (step, _), event in last.items() if event == "end"}
    errors = [event for event in events if event["event"] == "error"]
    final = [error for error in errors if last[error["step"], error.get("of", "")] != "end"]
    said = _WORDS.get(word.upper())
    state: RunState
    if _is_complete(ended, decision):
        state, final = "SUCCEEDED", []
    elif final:
        state = "CANCELED" if said == "CANCELED" else "FAILED"
    else:
        state = said or "STOPPED"
    failed = _lines(final)
    return Outcome(
        state=state,
        error="" if state == "SUCCEEDED" else _error(failed, last, message),
        has_step_error=bool(failed),
        tried_again=tuple(line for line in _lines(errors) if line not in failed),
        decision=decision,
    )


def name_of(event: Event) -> str:
    """The step of an event, with its partition, model or chain."""
    return f"{event['step']} {event.get('of', '')}".rstrip()


def _is_complete(ended: set[str], decision: Mapping[str, str] | None) -> bool:
    refused = "promote" in ended and decision is not None and decision["decision"] == "refused"
    return refused or bool(ended & {"deploy", "comparison"})


def _decision(store: Store, events: Sequence[Event]) -> Mapping[str, str] | None:
    """What the run's last `promote` decided."""
    refs = [event["ref"] for event in events if event["event"] == "end" and event["step"] == "promote"]
    decided = store.find(refs[-1]) if refs else None
    return {name: decided.summary[name] for name in ("decision", "reason")} if decided else None


def _lines(errors: Sequence[Event]) -> list[str]:
    """One line per error, without repetitions; what `plan` and `folds` only pass on is said by the step inside."""
    steps = {error["message"] for error in errors if error["step"] not in _AROUND}
    own = [error for error in errors if error["step"] not in _AROUND or error["message"] not in steps]
    return list(dict.fromkeys(f"{name_of(error)}: {error['message']}" for error in own))


def _error(failed: Sequence[str], last: Mapping[tuple[str, str], str], message: str) -> str:
    if failed:
        return "; ".join(failed)
    unfinished = [f"{step} {of}".rstrip() for (step, of), event in last.items() if event == "start"]
    where = f"{', '.join(unfinished)} did not end: " if unfinished else ""
    return where + (message or _STOPPED)
