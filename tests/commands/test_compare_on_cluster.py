"""A comparison as a pipeline: the compiled file run on this machine, and submitted to a stand-in for a cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rushes.cli import main
from rushes.commands import compare as commands
from rushes.commands import follow
from rushes.comparing.comparison_plan import ComparisonPlan
from rushes.comparing.members import named_recipes, parse_member
from rushes.comparing.tasks import write_answers
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.progress import read_events
from rushes.store import Manifest, Store
from rushes.strict import to_record
from tests.commands.conftest import MEMBER, QUICK, Compared, compare
from tests.kubeflow.server import Kubeflow, serving

OTHER = f"longer=vcop-r3d:{QUICK},pretrain.epochs=2"
FILES = ["comparison.csv", "comparison.html", "comparison.json", "comparison.md"]


@dataclass(frozen=True, kw_only=True)
class Piped:
    """The compiled comparison, run by kfp.local with a store of its own."""

    folder: Path
    store: Store

    def artifacts(self, task: str, name: str) -> list[Path]:
        """Of each time that the task ran."""
        return sorted(self.folder.glob(f"outputs/*/**/{task}/{name}"))

    @property
    def result(self) -> dict[str, Any]:
        content = self.store.read("comparisons/piped/comparison.json")
        assert content is not None
        found: dict[str, Any] = json.loads(content)
        return found


@pytest.fixture(scope="module")
def piped(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Piped:
    return pipe(MEMBER, videos=videos, folder=tmp_path_factory.mktemp("piped"))


def pipe(*members: str, videos: Path, folder: Path) -> Piped:
    """The same comparison as `tests.commands.conftest.compare`, and as many threads a chain."""
    recipes = named_recipes([parse_member(text, size="cpu") for text in members])
    arguments = {
        "videos": str(videos),
        "models": [to_record(recipe) for recipe in recipes],
        "name": "piped",
        "folds": 2,
        "labels_per_class": "2",
        "partitions": 2,
    }
    (folder / "arguments.json").write_text(json.dumps(arguments))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUSHES")}
    environment |= {
        "RUSHES_HOME": str(folder / "home"),
        "RUSHES_RUN": "piped",
        "OMP_NUM_THREADS": str(max(len(os.sched_getaffinity(0)) // 2, 1)),
    }
    command = ["rushes.orchestration.local", str(folder), "--pipeline", str(compiled_comparison())]
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return Piped(folder=folder, store=Store(str(folder / "home" / "store")))


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """All that does not depend on how, and how fast, it was run."""
    rows = [{name: value for name, value in row.items() if name != "hours"} for row in result["rows"]]
    return {name: value for name, value in result.items() if name != "command"} | {"rows": rows}


def test_the_compiled_comparison_says_what_one_machine_says_to_the_digit(compared: Compared, piped: Piped) -> None:
    assert [row["name"] for row in piped.result["rows"]] == ["random tiny_r3d", "vcop", "metadata only"]
    assert figures(piped.result) == figures(compared.result)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_models_are_compared_alike_to_the_digit(videos: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    one, other = compare(MEMBER, OTHER, videos=videos, folder=here), pipe(MEMBER, OTHER, videos=videos, folder=there)
    assert [row["name"] for row in one.result["rows"]] == ["random tiny_r3d", "vcop", "longer", "metadata only"]
    assert figures(other.result) == figures(one.result)


def test_its_tables_are_in_the_store_and_its_artifacts_are_pointers(piped: Piped) -> None:
    assert piped.store.names("comparisons/piped") == FILES
    for name, file in (("page", "comparison.html"), ("tables", "comparison.md")):
        (artifact,) = piped.artifacts("comparison", name)
        assert artifact.read_bytes() == piped.store.read(f"comparisons/piped/{file}")
    pointers = [*piped.artifacts("folds", "sampled"), *piped.artifacts("chain", "answers")]
    assert len(pointers) == 1 + 2 * 2
    assert max(path.stat().st_size for path in pointers) < 30_000


def test_only_the_first_fold_encodes_and_a_partition_at_a_time(piped: Piped) -> None:
    (planned,) = piped.artifacts("folds", "sampled")
    one, other = (Manifest.from_json(pointer) for pointer in ComparisonPlan.read(planned).footage)
    assert one.files["index.parquet"] != other.files["index.parquet"]
    assert one.files["shards.parquet"] == other.files["shards.parquet"]
    parts = [Manifest.read(path).summary["partition"] for path in piped.artifacts("sample", "footage")]
    assert sorted(parts) == ["1/2", "2/2"]


def test_the_summary_tells_each_step_and_speaks_of_nothing_that_is_served(piped: Piped) -> None:
    (page,) = piped.artifacts("summary", "page")
    text = page.read_text()
    assert text.startswith("# piped: succeeded") and "Champion" not in text
    assert text.count("| measure ") == 4 and text.count("| finetune ") == 8
    assert "| measure vcop, fold 2, seed 0 |" in text and "| comparison |" in text


def test_a_chain_that_is_tried_again_finds_what_it_did(
    piped: Piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", piped.store.url)
    monkeypatch.setenv("RUSHES_PROGRESS", str(tmp_path / "events.jsonl"))
    (planned,) = piped.artifacts("folds", "sampled")
    again = write_answers(plan=planned, chain="vcop, fold 2, seed 0", out=tmp_path / "answers.json")
    ended = [event for event in read_events(tmp_path / "events.jsonl")[0] if event["event"] == "end"]
    assert [(event["step"], event["cached"]) for event in ended] == [
        ("pretrain", True),
        ("finetune", True),
        ("finetune", True),
        ("measure", True),
    ]
    assert again.ref in [Manifest.read(path).ref for path in piped.artifacts("chain", "answers")]


# Submitted -----------------------------------------------------------------------------------------------------------


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
    server: Kubeflow, compared: Compared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in FILES:
        content = (compared.out / file).read_bytes()
        Store(str(tmp_path / "home" / "store")).write(f"comparisons/comparison-now/{file}", content)
    assert submit(server, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert (tmp_path / "out" / "comparison.md").read_text() == (compared.out / "comparison.md").read_text()
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
