"""A comparison as a pipeline, submitted to a stand-in for a cluster; test_compare.py runs the same file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rushes.cli import main
from rushes.commands import compare as commands
from rushes.commands import follow
from rushes.comparing.report import write_comparison
from rushes.comparing.tables import compare as compared
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.store import Store
from tests.commands.conftest import MEMBER, OTHER, TABLES
from tests.comparing.test_tables import NUMBERS, ROWS, chains
from tests.kubeflow.server import Kubeflow, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(commands, "named_now", lambda name: f"{name}-now")
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    for name in ("RUSHES_STORE", "RUSHES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as state:
        yield state


def submit(server: Kubeflow, out: Path, *words: str) -> int:
    return main(
        [
            "compare",
            MEMBER,
            OTHER,
            "--size",
            "cpu",
            "--videos",
            "s3://archive/videos",
            "--runner",
            "cluster",
            "--host",
            server.url,
            "--out",
            str(out),
            *words,
        ]
    )


def test_a_cluster_is_given_the_comparison_and_followed_to_its_end(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fate = [("RUNNING", {"plan": "RUNNING"}), ("SUCCEEDED", {"plan": "SUCCEEDED"})]
    assert submit(server, tmp_path / "out", "--splits", "/data/splits", "--labels-per-class", "5,1") == 0
    assert server.changes == ["POST /experiments", "POST /pipelines", "POST /pipelines/upload_version", "POST /runs"]
    (version,) = server.versions.values()
    assert version["description"] == Pipeline.read(compiled_comparison()).digest
    (run,) = server.runs.values()
    given = run["runtime_config"]["parameters"]
    assert (run["display_name"], given["name"]) == ("comparison-now", "comparison-now")
    assert [model["name"] for model in given["models"]] == ["vcop", "longer"]
    assert (given["videos"], given["splits"]) == ("s3://archive/videos", "/data/splits")
    assert given["labels_per_class"] == "1,5"
    assert (given["folds"], given["seeds"], given["budget"], given["partitions"]) == (3, 1, 0.0, 4)
    told = capsys.readouterr().out
    assert "plan: running\nplan: succeeded" in told
    assert "In the cluster's store: comparisons/comparison-now/comparison.html, .md, .csv, .json" in told
    assert not (tmp_path / "out").exists(), "its store cannot be read from here"


def test_a_result_that_can_be_read_from_here_is_shown_and_written(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    result = compared(ROWS, chains(), numbers=NUMBERS, resamples=100) | {"not run": []}
    write_comparison(tmp_path / "there", result, command="rushes compare")
    for file in TABLES:
        content = (tmp_path / "there" / file).read_bytes()
        Store(str(tmp_path / "home" / "store")).write(f"comparisons/comparison-now/{file}", content)
    assert submit(server, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == TABLES
    assert (tmp_path / "out" / "comparison.md").read_text() == (tmp_path / "there" / "comparison.md").read_text()
    assert "Top-1, %" in capsys.readouterr().out


def test_a_comparison_that_fails_is_an_exit_status(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fate = [("FAILED", {"plan": "FAILED(main: Error (exit code 2))"})]
    assert submit(server, tmp_path / "out") == 1
    assert "run: failed: plan: main: Error (exit code 2); the steps'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--videos", "footage"), "data.videos: 'footage' is relative, and runs are elsewhere"),
        (("--profile", "nope"), "profile: 'nope' cannot be read"),
        (("--pipeline", "away.yaml"), "pipeline: 'away.yaml' cannot be read"),
        (("--pipeline", str(compiled_pipeline())), "takes no 'folds': it was compiled for another command"),
        (("--parallel", "2"), "parallel: 2 is not allowed with --runner cluster"),
        (("--folds", "0"), "folds: 0 is not allowed"),
        (("--budget", "10"), "budget: 10 FLOPs are less than a step"),
    ],
)
def test_a_mistake_is_told_before_any_request(
    words: tuple[str, ...], told: str, server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, tmp_path / "out", *words) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert server.calls == []
