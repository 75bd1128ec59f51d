"""The end of a run is told from its journal, whatever word Kubeflow Pipelines has for it."""

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.journal import RUN, Journal, work_of
from rushes.orchestration.outcome import Outcome, outcome_of
from rushes.orchestration.summary import page_of, summary_of
from rushes.steps.base import Context, reported
from rushes.store import Manifest, Store

SUCCESS = ("COMPLETE", "CACHED", "SUCCEEDED")
UNKNOWN = ("RUNNING", "RUNTIME_STATE_UNSPECIFIED", "UNKNOWN", "NEW", "PENDING", "SKIPPED", "", "of another version")
WORDS = (*SUCCESS, *UNKNOWN, "FAILED", "CANCELED", "CANCELLED", "CANCELING")
STEPS = ["pin", "sample", "pretrain", "finetune", "choose", "export", "evaluate", "register", "promote"]
MODELS = ("a", "b")


@dataclass
class Run:
    """A run of the pipeline as its journal sees it."""

    store: Store
    decision: str = "promoted"
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: str, step: str, of: str = "", **fields: Any) -> None:
        ref = {"ref": f"{step}/0", "seconds": 1.0, "cached": False} if event == "end" else {}
        self.events.append({"event": event, "step": step, "of": of, **ref, **fields})

    def do(self, step: str, of: str = "", *, attempts: tuple[str, ...] = ("end",)) -> None:
        """One task: its attempts end, fail with a message, or vanish."""
        for how in attempts:
            self.add("start", step, of)
            if how == "end":
                self.add("end", step, of)
            elif how != "vanish":
                self.add("error", step, of, message=how)

    def all(self) -> list[tuple[str, str]]:
        """The tasks of a whole run, in order."""
        named = [(step, of) for step in STEPS for of in (MODELS if step in ("pretrain", "finetune") else ("",))]
        return named + ([("deploy", "")] if self.decision == "promoted" else [])

    def outcome(self, word: str) -> Outcome:
        return outcome_of(self.store, self.events, word=word)


def decided(store: Store, decision: str) -> None:
    summary = {"decision": decision, "reason": "above chance"}
    store.publish(
        Manifest(kind="decision", step="promote", digest="0", inputs={}, config={}, code="", files={}, summary=summary)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


STORES: dict[str, Store] = {}


def store_with(decision: str) -> Store:
    """A store that holds this decision; one for all examples."""
    if decision not in STORES:
        STORES[decision] = Store(tempfile.mkdtemp(prefix="rushes-outcome-"))
        decided(STORES[decision], decision)
    return STORES[decision]


attempts = st.lists(st.sampled_from(["node went away", "vanish", "full disk"]), max_size=2)


@given(decision=st.sampled_from(["promoted", "refused"]), word=st.sampled_from(WORDS), data=st.data())
def test_a_run_whose_last_step_ended_is_a_success_by_any_word(decision: str, word: str, data: st.DataObject) -> None:
    run = Run(store_with(decision), decision)
    failures = []
    for step, of in run.all():
        before = data.draw(attempts)
        failures += [f"{step} {of}".rstrip() + f": {how}" for how in before if how != "vanish"]
        run.do(step, of, attempts=(*before, "end"))
    outcome = run.outcome(word)
    assert (outcome.state, outcome.error) == ("SUCCEEDED", "")
    assert list(outcome.tried_again) == list(dict.fromkeys(failures))
    assert outcome.decision == {"decision": decision, "reason": "above chance"}


@given(
    decision=st.sampled_from(["promoted", "refused"]),
    word=st.sampled_from([*UNKNOWN, "FAILED"]),
    how=st.sampled_from(["vanish", "too little memory"]),
    data=st.data(),
)
def test_a_run_that_ended_early_is_no_success_and_says_where(
    decision: str, word: str, how: str, data: st.DataObject
) -> None:
    run = Run(store_with(decision), decision)
    tasks = run.all()
    at = data.draw(st.integers(0, len(tasks) - 1))
    for step, of in tasks[:at]:
        run.do(step, of, attempts=(*data.draw(attempts), "end"))
    step, of = tasks[at]
    run.do(step, of, attempts=(*data.draw(attempts), how))
    outcome = run.outcome(word)
    name = f"{step} {of}".rstrip()
    own = [event for event in run.events if (event["step"], event["of"]) == (step, of)]
    if how == "vanish" and not any(event["event"] == "error" for event in own):
        assert outcome.state == ("FAILED" if word == "FAILED" else "STOPPED")
        assert outcome.error.startswith(f"{name} did not end: no step reported an error: a person terminated the run")
    else:
        assert outcome.state == "FAILED"
    if how != "vanish":
        assert f"{name}: {how}" in outcome.error
    assert not any(line in outcome.error.split("; ") for line in outcome.tried_again)


@pytest.mark.parametrize("word", WORDS)
def test_between_two_steps_nothing_is_left_undone(word: str, store: Store) -> None:
    run = Run(store)
    run.do("pin")
    state = run.outcome(word).state
    if word in SUCCESS:
        assert state == "SUCCEEDED", "a pipeline of one's own may end with any step"
    else:
        known = {"FAILED": "FAILED", "CANCELED": "CANCELED", "CANCELLED": "CANCELED", "CANCELING": "CANCELED"}
        assert state == known.get(word, "STOPPED")


@pytest.mark.parametrize("word", ["CANCELED", "CANCELLED"])
def test_a_run_that_a_person_terminated_says_what_was_running(word: str, store: Store) -> None:
    run = Run(store)
    run.do("pin")
    run.do("pretrain", "a", attempts=("vanish",))
    outcome = run.outcome(word)
    assert outcome.state == "CANCELED"
    assert outcome.error.startswith("pretrain a did not end")


def test_a_word_of_success_does_not_hide_a_step_that_failed(store: Store) -> None:
    run = Run(store)
    run.do("pretrain", "a", attempts=("out of memory",))
    run.do("pretrain", "b")
    for word in SUCCESS:
        assert (run.outcome(word).state, run.outcome(word).error) == ("FAILED", "pretrain a: out of memory")


def test_two_models_that_fail_alike_are_both_named_and_what_passes_it_on_is_not(store: Store) -> None:
    run = Run(store)
    run.do("pretrain", "a", attempts=("out of memory", "out of memory"))
    run.do("pretrain", "b", attempts=("out of memory",))
    assert run.outcome("RUNNING").error == "pretrain a: out of memory; pretrain b: out of memory"
    compared = Run(store)
    compared.do("pin", attempts=("no videos",))
    compared.add("error", "plan", message="no videos")
    assert compared.outcome("RUNNING").error == "pin: no videos"
    compared.add("error", "plan", message="more folds than groups")
    assert compared.outcome("RUNNING").error == "pin: no videos; plan: more folds than groups"


def test_a_comparison_ends_with_its_tables(store: Store) -> None:
    run = Run(store)
    for step, of in [("plan", ""), ("measure", "a, fold 1, seed 0"), ("comparison", "")]:
        run.do(step, of)
    assert run.outcome("RUNNING").state == "SUCCEEDED"
    assert Run(store, events=run.events[:-1]).outcome("RUNNING").error.startswith("comparison did not end")


def test_journals_of_version_0_1_are_read(store: Store) -> None:
    events: list[Mapping[str, Any]] = [
        {"event": "error", "step": "pretrain", "message": "node went away"},
        {"event": "end", "step": "pretrain", "seconds": 1.0, "cached": False, "ref": "pretrain/0"},
        {"event": "end", "step": "deploy", "seconds": 1.0, "cached": False, "ref": "deploy/0"},
    ]
    outcome = outcome_of(store, events, word="RUNNING")
    assert (outcome.state, outcome.tried_again) == ("SUCCEEDED", ("pretrain: node went away",))


def test_the_page_of_a_run_that_was_refused_after_a_retry_has_no_error(store: Store) -> None:
    decided(store, "refused")
    journal = Journal(store, "r")
    journal.add("start", step="pretrain")
    journal.add("error", step="pretrain", message="node went away")
    for step in ("pretrain", "promote"):
        journal.add("start", step=step)
        journal.add("end", step=step, seconds=1.0, cached=False, ref=f"{step}/0")
    for word in ("COMPLETE", "RUNNING", "FAILED"):
        record = summary_of(store, run="r", endpoint="g", state=word, error="")
        page = page_of(record)
        assert page.startswith("# g: succeeded\n") and "**" not in page
        assert "Tried again: pretrain: node went away" in page
        assert "Decision: refused (above chance)" in page


def test_steps_write_what_they_are_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RUN, "r")

    @dataclass(frozen=True)
    class Recipe:
        name: str

    def step(name: str) -> Any:
        @reported(name)
        def run(**given: Any) -> None:
            Context(step=name).end("x/0")

        return run

    step("pretrain")(recipe=Recipe("a"))
    step("finetune")(recipe=Recipe("a"), init="random")
    step("sample")(recipe=Recipe("a"), partition="1/4")
    step("sample")(recipe=Recipe("a"))
    with work_of("a, fold 1, seed 0"):
        step("pretrain")(recipe=Recipe("a"))
    with pytest.raises(TypeError):
        reported("pretrain")(lambda **given: step("finetune")(1, **given))(recipe=Recipe("b"))
    events = Journal(Store(str(tmp_path / "home" / "store")), "r").events()
    told = [(event["event"], event["step"], event["of"]) for event in events]
    pairs = [
        ("pretrain", "a"),
        ("finetune", "a from random weights"),
        ("sample", "1/4"),
        ("sample", ""),
        ("pretrain", "a, fold 1, seed 0"),
    ]
    expected = itertools.chain.from_iterable([("start", *pair), ("end", *pair)] for pair in pairs)
    assert told[:-2] == list(expected)
    assert told[-2:] == [("error", "finetune", "b"), ("error", "pretrain", "b")]
