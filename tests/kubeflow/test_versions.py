"""Servers of other versions, and runs that are too large for any: said before a run is submitted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rushes.cli import main
from rushes.commands import follow
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.image import yaml_documents
from rushes.orchestration.local import compiled_pipeline
from tests.kubeflow.server import Kubeflow, serving

PIPELINE = Pipeline.read(compiled_pipeline())
VIDEOS = ("--videos", "s3://archive/videos")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    with serving() as state:
        yield state


@pytest.fixture
def schedules(tmp_path: Path) -> Path:
    entry = {
        "name": "nightly",
        "cron": "0 0 2 * * *",
        "pipeline": PIPELINE.digest,
        "data": {"videos": "s3://archive/videos"},
        "parameters": {"endpoint": "e", "models": ["vcop-r3d"]},
    }
    path = tmp_path / "schedules.yaml"
    path.write_text(yaml.safe_dump({"experiment": "rushes", "schedules": [entry]}))
    return path


def commands(host: str, schedules: Path) -> list[list[str]]:
    """Every command that changes something on a server."""
    comparison = ["compare", "vcop-r3d", "pace-r2plus1d", "--size", "cpu", *VIDEOS, "--runner", "cluster"]
    return [
        ["pipeline", "submit", "vcop-r3d", *VIDEOS, "--host", host],
        [*comparison, "--host", host, "--out", str(schedules.parent / "out")],
        ["schedules", "apply", str(schedules), "--host", host],
    ]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    ("release", "status", "words"),
    [
        ("2.5.0", 1, "Kubeflow Pipelines 2.5.0 refuses our runs"),
        ("2.13.0", 1, "Kubeflow Pipelines 2.13.0 refuses our runs"),
        ("2.14.0", 0, "Mind: Kubeflow Pipelines 2.14.0 is older than 2.16: what is compiled says nothing"),
        ("2.15.2", 0, "Mind: Kubeflow Pipelines 2.15.2 is older than 2.16"),
        ("2.16.0", 0, ""),
        ("2.17.0", 0, ""),
        ("3.0.0", 0, ""),
        ("", 0, "Mind: the server does not say its version ('unknown')"),
    ],
)
def test_the_version_is_checked_before_anything_is_changed(
    release: str,
    status: int,
    words: str,
    number: int,
    server: Kubeflow,
    schedules: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.release = release
    assert main(commands(server.url, schedules)[number]) == status
    captured = capsys.readouterr()
    told = " ".join((captured.err if status else captured.out).split())
    assert words in told and ("Mind:" in told) == words.startswith("Mind:")
    assert bool(server.changes) == (status == 0)


def test_a_run_that_outgrows_a_workflow_is_told_when_compiled_and_when_submitted(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "mine.yaml"
    for partitions, too_many in ((100, False), (180, True)):
        profile.write_text(f"partitions: {partitions}\n")
        out = tmp_path / "pipeline.yaml"
        assert main(["pipeline", "compile", "--profile", str(profile), "--out", str(out)]) == 0
        assert (f"Mind: {partitions} partitions, 1 models make a workflow of" in capsys.readouterr().out) == too_many
        submit = ["pipeline", "submit", "vcop-r3d", *VIDEOS, "--host", server.url, "--profile", str(profile)]
        assert main(submit) == 0
        assert ("and Argo ends a run at 1 MB" in capsys.readouterr().out) == too_many


def test_a_comparison_that_outgrows_a_workflow_is_told_when_submitted(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "vcop-r3d", "pace-r2plus1d", "--size", "cpu", *VIDEOS, "--runner", "cluster"]
    for seeds, too_many in ((1, False), (30, True)):
        out = str(tmp_path / "out")
        assert main([*command, "--host", server.url, "--out", out, "--seeds", str(seeds)]) == 0
        assert ("chains make a workflow of" in capsys.readouterr().out) == too_many


def test_a_file_that_was_compiled_with_too_short_a_budget_is_told_when_submitted(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, platform = yaml_documents(PIPELINE.text)
    for component in spec["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "retryPolicy" in task:
                task["retryPolicy"]["backoffMaxDuration"] = "600s"
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump_all([spec, platform]))
    assert main(["pipeline", "submit", "vcop-r3d", *VIDEOS, "--host", server.url, "--pipeline", str(old)]) == 0
    told = capsys.readouterr().out
    assert "Mind: " in told and "has 600 s for all attempts, which need" in told
