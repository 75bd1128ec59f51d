"""What `--wait` shows of a run: our tasks with partition or model, whatever Argo makes of them, and why it failed."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.cli import main
from rushes.commands import follow
from rushes.home import open_store
from rushes.journal import Journal, work_of
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.workflow import Workflow, tasks_by_name
from rushes.orchestration.image import yaml_documents
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.store import Manifest
from tests.kubeflow.server import Kubeflow, serving
from tests.kubeflow.workflows import details_of, workflow_of

PIPELINE = Pipeline.read(compiled_pipeline())
SPEC = yaml_documents(PIPELINE.text)[0]
BROKEN = "FAILED(main: Error (exit code 1))"
LABELS = {"models": ["pace", "vcop"], "sample-parts": [f"{part}/4" for part in range(1, 5)]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow, "_PATIENCE", 1.0)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RUSHES_STORE", raising=False)
    with serving() as state:
        yield state


@pytest.fixture(params=["OnError", ""], ids=["templates wrapped", "plain"])
def either(request: pytest.FixtureRequest, server: Kubeflow) -> Kubeflow:
    """Servers whose controller wraps every template in a retry, and others."""
    server.retry_policy = request.param
    return server


def wait(server: Kubeflow, *words: str) -> int:
    models = ("pace-r2plus1d", "--also", "vcop-r3d")
    command = ["pipeline", "submit", *models, "--videos", "s3://archive/videos", "--endpoint", "gestures", "--wait"]
    return main([*command, "--host", server.url, *words])


def shown(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match("[a-z].*: ", line)]


@given(
    at_once=st.booleans(),
    policy=st.sampled_from(["", "OnError", "Always"]),
    pin=st.sampled_from(["RUNNING", "SUCCEEDED", "FAILED>RUNNING"]),
    parts=st.lists(
        st.sampled_from(["PENDING", "RUNNING", "SUCCEEDED", "FAILED(main: Error (exit code 1))"]), max_size=4
    ),
    models=st.lists(st.sampled_from(["RUNNING", "SUCCEEDED", "FAILED>FAILED>PENDING"]), min_size=1, max_size=2),
)
def test_every_task_that_has_begun_is_found_once_by_its_name(
    at_once: bool, policy: str, pin: str, parts: list[str], models: list[str]
) -> None:
    tasks = {"pin": pin, "sample": parts, "sample-2": "SUCCEEDED", "pretrain": models, "finetune-2": "RUNNING"}
    record = workflow_of(SPEC, state="RUNNING", tasks=tasks, retry_policy=policy)
    if at_once:
        nodes = record["status"]["nodes"]
        record["status"]["nodes"] = {key: nodes[key] | {"startedAt": "2026-11-30T10:00:00Z"} for key in sorted(nodes)}
    workflow = Workflow.parse(json.dumps(record))
    found = workflow.tasks(PIPELINE.tasks, LABELS)
    names = [f"sample a part {part}/4" for part in range(1, len(parts) + 1)]
    names += [f"pretrain {model}" for model in LABELS["models"][: len(models)]]
    assert sorted(task.name for task in found) == sorted([*names, "pin", "sample", "finetune from random weights"])
    states = {task.name: (task.state, task.attempts) for task in found}
    expected = {"FAILED>RUNNING": ("RUNNING", 2), "FAILED>FAILED>PENDING": ("PENDING", 3)}
    for name, state in zip(names, [*parts, *models], strict=True):
        assert states[name] == expected.get(state, (state.partition("(")[0], 1))
    assert workflow.retry_policy == (policy or "OnFailure")
    by_name = tasks_by_name([(node["display_name"], node["state"]) for node in details_of(record)], PIPELINE.tasks)
    assert len([task for task in by_name if task.name != "a pod"]) == len(found)


def test_models_partitions_and_attempts_are_shown_and_no_node_of_argos(
    either: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {"pin": "SUCCEEDED", "sample": ["SUCCEEDED"] * 4, "sample-2": "SUCCEEDED"}
    either.fate = [
        ("RUNNING", {"pin": "SUCCEEDED", "sample": ["RUNNING", "SUCCEEDED", "", "PENDING"]}),
        ("RUNNING", done | {"pretrain": ["FAILED>RUNNING", "PENDING(Unschedulable: 0/3 nodes are available)"]}),
        ("SUCCEEDED", done | {"pretrain": ["FAILED>SUCCEEDED", "SUCCEEDED"], "summary": "SUCCEEDED"}),
    ]
    assert wait(either) == 0
    lines = shown(capsys.readouterr().out)
    expected = [
        "pin: succeeded",
        "sample a part 1/4: running",
        "sample a part 2/4: succeeded",
        "sample a part 4/4: pending",
        "sample a part 1/4: succeeded",
        "sample a part 3/4: succeeded",
        "sample a part 4/4: succeeded",
        "sample: succeeded",
        "pretrain pace-r2plus1d: running, attempt 2",
        "pretrain vcop-r3d: pending: Unschedulable: 0/3 nodes are available",
        "pretrain pace-r2plus1d: succeeded, attempt 2",
        "pretrain vcop-r3d: succeeded",
        "summary: succeeded",
    ]
    assert sorted(lines) == sorted(expected)
    assert not [line for line in lines if re.match(r".*(driver|executor|iteration|onExit|root|rushes-)", line)]


def test_a_pod_that_is_killed_is_told_by_argos_own_words(either: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    killed = "FAILED(main: OOMKilled (exit code 137))"
    attempts = f"{killed}>{killed}>{killed}"
    either.fate = [
        ("RUNNING", {"pin": "SUCCEEDED"}),
        (
            "FAILED",
            {"pin": "SUCCEEDED", "pretrain": [attempts, "SUCCEEDED"], "summary": "SUCCEEDED"},
        ),
    ]
    assert wait(either) == 1
    captured = capsys.readouterr()
    assert "pretrain pace-r2plus1d: failed, attempt 3: main: OOMKilled (exit code 137)" in captured.out
    error = " ".join(captured.err.split())
    assert (
        "run: failed: pretrain pace-r2plus1d: main: OOMKilled (exit code 137); the steps' messages are in runs/"
        in error
    )
    assert "choose" not in captured.out, "omitted"


def test_a_driver_that_fails_is_its_tasks_failure(either: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    either.fate = [("FAILED", {"pin": "DRIVER(main: Error (exit code 1))"})]
    assert wait(either) == 1
    assert "run: failed: pin: main: Error (exit code 1)" in " ".join(capsys.readouterr().err.split())


def test_a_driver_that_waits_is_its_tasks_state() -> None:
    record = workflow_of(SPEC, state="RUNNING", tasks={"pin": "RUNNING"})
    nodes = record["status"]["nodes"]
    record["status"]["nodes"] = {
        key: node for key, node in nodes.items() if "root.exit-handler-1.pin." not in node["name"]
    }
    for key, node in list(record["status"]["nodes"].items()):
        if node["displayName"] == "pin":
            del record["status"]["nodes"][key]
        elif node["displayName"] == "pin-driver":
            node |= {"phase": "Pending", "message": "Unschedulable: quota"}
    (task,) = Workflow.parse(json.dumps(record)).tasks(PIPELINE.tasks, LABELS)
    assert (task.name, task.state, task.message) == ("pin", "PENDING", "Unschedulable: quota")


def recorded(run: str, *events: tuple[str, str, str]) -> None:
    """A journal in the store that this machine reads: event, step and what it was for or said."""
    journal = Journal(open_store(), run)
    for event, step, text in events:
        if event == "error":
            journal.add(event, step=step, message=text)
        else:
            with work_of(text):
                journal.add(event, step=step, seconds=1.0, cached=False, ref=f"{step}/0")


def next_run(server: Kubeflow, monkeypatch: pytest.MonkeyPatch, *events: tuple[str, str, str]) -> None:
    """The next run that is submitted writes this journal."""
    create = server._create_run

    def created(query: dict[str, str]) -> dict[str, object]:
        made = create(query)
        recorded(str(made["run_id"]), *events)
        return made

    monkeypatch.setattr(server, "_create_run", created)


def test_the_failing_steps_own_message_comes_from_the_journal(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next_run(server, monkeypatch, ("start", "pin", ""), ("error", "pin", "videos: 's3://archive/videos' has no videos"))
    server.fate = [("FAILED", {"pin": "FAILED(main: Error (exit code 2))"})]
    assert wait(server) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.endswith("run: failed: pin: videos: 's3://archive/videos' has no videos")


def test_a_refused_version_and_a_retry_are_told_of_a_success(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = {"decision": "refused", "reason": "above chance: fail"}
    decision = Manifest(
        kind="decision", step="promote", digest="0", inputs={}, config={}, code="", files={}, summary=summary
    )
    open_store().publish(decision)
    next_run(
        server, monkeypatch, ("error", "pretrain", "node went away"), ("end", "pretrain", ""), ("end", "promote", "")
    )
    server.fate = [("SUCCEEDED", {"promote": "SUCCEEDED"})]
    assert wait(server) == 0
    told = capsys.readouterr().out
    assert "Decision: refused (above chance: fail)" in told and "Tried again: pretrain: node went away" in told


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("", r"\S+/home/store has no journal of this run"),
        (
            "nonsense://bucket/store",
            r"the store cannot be read \(store: 'nonsense://bucket/store' cannot be opened .*\)",
        ),
        ("{home}/a file/store", r"the store cannot be read \(.*Not a directory.*\)"),
        ("s3://bucket/store", r"the store cannot be read \(Unable to locate credentials\)"),
    ],
)
def test_a_journal_that_cannot_be_read_is_reported(
    store: str,
    why: str,
    server: Kubeflow,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in [name for name in os.environ if re.match("AWS_(ACCESS|SECRET|PROFILE|SESSION)", name)]:
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    if store:
        monkeypatch.setenv("RUSHES_STORE", store.format(home=tmp_path))
    server.fate = [("FAILED", {"pin": BROKEN})]
    assert wait(server) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.out.splitlines() if line.startswith("What the steps said")]
    assert re.fullmatch(
        f"What the steps said is not shown: {why}: RUSHES_STORE has to name the cluster's store", line
    ), line
    assert "run: failed: pin: main: Error (exit code 1)" in " ".join(captured.err.split())


def test_a_damaged_journal_is_named_and_a_fault_of_ours_is_not_hidden(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next_run(server, monkeypatch, ("end", "pin", ""))
    assert wait(server) == 0
    (run,) = server.runs
    open_store().write(f"runs/{run}/1-pin.json", b"{")
    with pytest.raises(TypeError, match="a fault of ours"), monkeypatch.context() as patch:
        patch.setattr(follow, "outcome_of", lambda *_, **__: (_ for _ in ()).throw(TypeError("a fault of ours")))
        next_run(server, monkeypatch, ("end", "pin", ""))
        wait(server)
    assert follow._outcome(run, "SUCCEEDED") is None
    told = " ".join(capsys.readouterr().out.split())
    assert f"cannot be read (runs/{run}/1-pin.json: not a record of a run" in told


def test_a_run_that_a_person_terminates_is_told_as_such(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next_run(server, monkeypatch, ("end", "pin", ""), ("start", "pretrain", "vcop-r3d"))
    server.fate = [
        ("RUNNING", {"pretrain": ["SUCCEEDED", "RUNNING"]}),
        ("CANCELING", {"pretrain": ["SUCCEEDED", "RUNNING"]}),
        ("FAILED", {"pretrain": ["SUCCEEDED", "FAILED(workflow shutdown with strategy: Terminate)"]}),
    ]
    assert wait(server) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "run: terminated by a person: pretrain vcop-r3d: workflow shutdown with strategy: Terminate" in error


def test_a_pod_that_no_node_takes_is_reported_once(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "_WAITING_SECONDS", 0.0)
    waiting = {"pretrain": ["PENDING(Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.)"]}
    server.fate = [*(("RUNNING", waiting) for _ in range(5)), ("SUCCEEDED", {"pretrain": ["SUCCEEDED"]})]
    assert wait(server) == 0
    told = capsys.readouterr().out.splitlines()
    (line,) = [line for line in told if "nothing ends that" in line]
    assert re.fullmatch(
        r"pretrain pace-r2plus1d: its pod rushes-x7k2p-retry-impl-\d+ has been waiting for 0 minutes, and nothing ends "
        r"that: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.: see `kubectl describe pod`",
        line,
    )


def test_of_a_server_without_the_earlier_api_tasks_are_counted_by_name(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "_WAITING_SECONDS", 0.0)
    server.earlier_api = False
    server.fate = [
        ("RUNNING", {"pin": "SUCCEEDED", "sample": ["RUNNING", "PENDING", "SUCCEEDED"]}),
        ("RUNNING", {"pin": "SUCCEEDED", "sample": ["RUNNING", "PENDING", "SUCCEEDED"]}),
        ("FAILED", {"pin": "SUCCEEDED", "sample": ["FAILED", "SUCCEEDED", "SUCCEEDED"]}),
    ]
    assert wait(server) == 1
    captured = capsys.readouterr()
    lines = shown(captured.out)
    assert "sample a part: 2 running, 1 succeeded" in lines and "sample a part: 1 failed, 2 succeeded" in lines
    assert "a pod: its pod has been waiting" in captured.out
    assert "run: failed: sample a part: failed" in " ".join(captured.err.split())


@pytest.mark.parametrize("failed", [0, 17, 29])
def test_many_iterations_are_counted_and_what_failed_is_named(
    failed: int, server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("partitions: 30\n")
    states = ["SUCCEEDED"] * 30
    states[failed] = BROKEN
    server.fate = [("RUNNING", {"sample": ["RUNNING"] * 30}), ("FAILED", {"sample": states})]
    assert wait(server, "--profile", str(profile)) == 1
    lines = [line for line in shown(capsys.readouterr().out) if line.startswith("sample a part")]
    assert lines == [
        "sample a part: 30 running",
        "sample a part: 1 failed, 29 succeeded",
        f"sample a part {failed + 1}/30: failed: main: Error (exit code 1)",
    ]


def test_a_comparisons_chains_have_their_names(
    server: Kubeflow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chains = Pipeline.read(compiled_comparison()).tasks["chain"]
    assert (chains.shown, chains.loop) == ("chain", "chains")
    server.fate = [("FAILED", {"plan": "SUCCEEDED", "chain": ["RUNNING", "FAILED", "PENDING"]})]
    words = ["compare", "vcop-r3d", "pace-r2plus1d", "--size", "cpu", "--videos", "s3://archive/videos"]
    options = ["--runner", "cluster", "--host", server.url, "--out", str(tmp_path / "out"), "--folds", "1"]
    assert main([*words, *options]) == 1
    lines = [line for line in shown(capsys.readouterr().out) if line.startswith("chain")]
    assert all(re.match(r"chain .+, fold 1, seed 0: (running|failed|pending)$", line) for line in lines)
    assert len({line.partition(",")[0] for line in lines}) == 3
    assert len(lines) == 3
