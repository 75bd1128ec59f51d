"""Every attempt that a profile allows has its whole timeout, by Argo's rules (`tests.kubeflow.argo`)."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pipeline import COMPARISON, COMPILED
from rushes.errors import UserError
from rushes.kubeflow.policy import violations
from rushes.kubeflow.profile import Profile, Resources, Retry
from rushes.kubeflow.workflow import Workflow
from rushes.orchestration.image import with_tag, yaml_documents
from tests.kubeflow.argo import Fate, Strategy, attempts, seconds

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
Documents = list[Mapping[str, Any]]
COMMITTED: dict[str, list[Any]] = {
    path.stem: yaml_documents(with_tag(path.read_text())) for path in (COMPILED, COMPARISON)
}


def tasks(documents: Documents) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """Name, record and timeout in seconds of each task that runs a pod."""
    spec, settings = documents[0], documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for component in (spec["root"], *spec["components"].values()):
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            executor = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if executor:
                yield name, task, int(settings[executor]["activeDeadlineSeconds"])


CASES = [(task, timeout) for documents in COMMITTED.values() for _, task, timeout in tasks(documents)]


@given(case=st.sampled_from(CASES), shares=st.lists(st.floats(0, 1), min_size=3, max_size=3), data=st.data())
def test_a_committed_task_that_fails_at_any_time_has_three_attempts_of_its_whole_timeout(
    case: tuple[Mapping[str, Any], int], shares: list[float], data: st.DataObject
) -> None:
    task, timeout = case
    pending = data.draw(st.lists(st.floats(0, 24 * 3600 - 60), min_size=3, max_size=3))
    fates = [Fate(pending=wait, runs=share * timeout) for wait, share in zip(pending, shares, strict=True)]
    made = attempts(Strategy.of(task), timeout=timeout, fates=[*fates[:2], replace(fates[2], runs=timeout)])
    assert [attempt.ends for attempt in made] == ["failed"] * 3
    assert [attempt.ran for attempt in made] == [fate.runs for fate in fates[:2]] + [timeout]


retries = st.builds(
    Retry,
    count=st.integers(1, 8),
    wait=st.integers(1, 600).map(lambda wait: f"{wait}s"),
    pending_minutes=st.integers(1, 3000),
)


@given(retry=retries, minutes=st.integers(1, 20000), data=st.data())
def test_whatever_a_profile_says_every_attempt_has_its_whole_timeout(
    retry: Retry, minutes: int, data: st.DataObject
) -> None:
    timeout = 60 * minutes
    strategy = Strategy(
        limit=retry.count,
        duration=seconds(retry.wait),
        factor=2,
        max_duration=retry.seconds_for_all(timeout),
    )
    fates = [
        Fate(
            pending=data.draw(st.floats(0, 60 * retry.pending_minutes - 10)),
            runs=data.draw(st.floats(0, 2 * timeout)),
        )
        for _ in range(retry.count + 1)
    ]
    made = attempts(strategy, timeout=timeout, fates=fates)
    assert [attempt.ran for attempt in made] == [min(fate.runs, timeout) for fate in fates]
    assert {attempt.ends for attempt in made} == {"failed"}


def test_the_model_knows_what_ten_minutes_for_all_attempts_mean() -> None:
    short = Strategy(limit=2, duration=60, factor=2, max_duration=600)
    late = attempts(short, timeout=3600, fates=[Fate(pending=5, runs=700)])
    assert len(late) == 1, "no second attempt ten minutes after the first began"
    early = attempts(short, timeout=3600, fates=[Fate(pending=5, runs=60), Fate(pending=5, runs=3000, ends="success")])
    assert [attempt.ends for attempt in early] == ["failed", "deadline"]
    assert sum(attempt.ran for attempt in early) < 600


@pytest.mark.parametrize(
    ("retried", "ends", "number"),
    [
        ("OnFailure", "failed", 3),
        ("OnFailure", "pod lost", 1),
        ("OnError", "failed", 1),
        ("OnError", "pod lost", 3),
        ("Always", "failed", 3),
        ("Always", "pod lost", 3),
    ],
)
def test_which_failures_are_tried_again_is_the_servers_setting(retried: Any, ends: Any, number: int) -> None:
    task, timeout = CASES[0]
    strategy = Strategy.of(task, retried=retried)
    assert len(attempts(strategy, timeout=timeout, fates=[Fate(pending=0, runs=1, ends=ends)])) == number


@pytest.mark.parametrize("pipeline", COMMITTED)
def test_a_budget_that_is_too_small_by_a_second_breaks_the_policy(pipeline: str) -> None:
    for name, task, timeout in tasks(COMMITTED[pipeline]):
        needed = 3 * timeout + 60 + 120
        policy: dict[str, Any] = task["retryPolicy"]
        kept = policy["backoffMaxDuration"]
        policy["backoffMaxDuration"] = f"{needed}s"
        assert violations(COMMITTED[pipeline]) == []
        policy["backoffMaxDuration"] = f"{needed - 1}s"
        (line,) = violations(COMMITTED[pipeline])
        assert line.startswith(f"{name}: ") and f"{needed - 1} s" in line and f"{needed} s" in line
        policy["backoffMaxDuration"] = kept


@pytest.mark.parametrize(
    "settings",
    [
        {"retry": Retry(count=30, wait="10s")},
        {"retry": Retry(count=4), "train": Resources(timeout_minutes=2**31 // 60)},
        {"retry": Retry(count=30, wait="1s", pending_minutes=10**7)},
    ],
)
def test_what_argo_cannot_count_is_refused(settings: Any) -> None:
    with pytest.raises(
        UserError, match=r"retry: count, wait and pending_minutes, with \w+: timeout_minutes, make .* s"
    ):
        Profile(**settings)


def test_the_runbooks_patch_makes_it_always_and_multiplies_nothing() -> None:
    (patch,) = re.findall(r"COMPILED_PIPELINE_SPEC_PATCH='(.*)'", RUNBOOK.read_text())
    workflow = Workflow.parse(json.dumps({"metadata": {"name": "w"}, "spec": json.loads(patch)}))
    assert workflow.retry_policy == "Always" and not workflow.layers_retried
    for limit in ({}, {"limit": "2"}, {"limit": 1}):
        defaults = {"templateDefaults": {"retryStrategy": {"retryPolicy": "Always", **limit}}}
        assert Workflow.parse(json.dumps({"metadata": {"name": "w"}, "spec": defaults})).layers_retried
