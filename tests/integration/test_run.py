"""`rushes run` from a folder of videos to an answer of the endpoint, against real MLflow and Triton servers."""

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest

import rushes
from rushes.errors import UserError
from rushes.ledger import Ledger
from rushes.progress import read_events
from rushes.serving.environment import can_run_triton
from rushes.steps import STEPS
from rushes.store import Manifest, Store
from tests.integration.conftest import QUICK, Cli, processes_of
from tests.integration.wheel import borrowing_environment, built_wheel, run_workflow
from tests.s3 import S3

pytestmark = pytest.mark.servers
NEVER_CACHED = ("pin", "choose", "promote", "deploy")


@pytest.fixture(scope="module")
def finished(cli: Cli, videos: Path) -> list[dict[str, Any]]:
    """A run that has served a model."""
    cli.ok("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, *QUICK)
    return cli.results()


def run_of(cli: Cli, endings: list[dict[str, Any]]) -> Path:
    """The folder of a finished run; other tests have runs in this home, too."""
    (file,) = [file for file in cli.home.glob("runs/*/results.json") if json.loads(file.read_text()) == endings]
    return file.parent


def by_step(endings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {ending["step"]: ending for ending in endings}


def test_every_step_ends_once_and_sampling_and_fine_tuning_twice(finished: list[dict[str, Any]]) -> None:
    assert sorted(ending["step"] for ending in finished) == sorted([*STEPS, "finetune", "sample"])


def test_the_first_version_is_promoted_and_served(cli: Cli, finished: list[dict[str, Any]]) -> None:
    steps = by_step(finished)
    assert steps["promote"]["summary"]["decision"] == "promoted"
    expected = "in-process graph" if can_run_triton() else "triton"
    assert steps["deploy"]["summary"] == {
        "endpoint": "motion",
        "decided": 1,
        "version": 1,
        "bundle": steps["export"]["ref"],
        "served_by": expected,
    }
    status = json.loads(cli.ok("status", "--json"))
    assert status["endpoints"]["motion"]["served"] == status["endpoints"]["motion"]["champion"] == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_endpoint_answers_as_the_same_graph_does_here(
    cli: Cli, videos: Path, finished: list[dict[str, Any]], protocol: str
) -> None:
    files = sorted(videos.glob("*/v00.mp4"))
    command = ("predict", *files, "--json", "--endpoint", "motion")
    asked = cli.ok(*command, "--protocol", protocol).splitlines()
    offline = cli.ok(*command, "--offline").splitlines()
    for file, first, second in zip(files, map(json.loads, asked), map(json.loads, offline), strict=True):
        assert first["labels"] == second["labels"] == ["moving", "resting"]
        assert first["probabilities"] == pytest.approx(second["probabilities"], abs=1e-4)
        assert first["onnx_sha256"] == second["onnx_sha256"]
        assert max(zip(first["probabilities"], first["labels"], strict=True))[1] == file.parent.name


def test_mlflow_holds_the_version_with_its_lineage(cli: Cli, finished: list[dict[str, Any]]) -> None:
    import mlflow

    steps = by_step(finished)
    client = mlflow.MlflowClient(steps["register"]["summary"]["tracking"])
    version = client.get_model_version_by_alias("motion", "champion")
    assert version.tags["rushes.bundle"] == steps["export"]["ref"]
    assert version.tags["rushes.footage"] == steps["sample"]["ref"]
    assert version.tags["onnx.sha256"] == steps["export"]["summary"]["onnx_sha256"]
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.data.params["pretrain.task"] == "pace"
    assert run.data.metrics["top1/fine-tune/pretrained"] == pytest.approx(
        steps["evaluate"]["summary"]["top1"]["fine-tune, pretrained"]["value"]
    )
    assert "report.html" in {artifact.path for artifact in client.list_artifacts(version.run_id)}


def test_python_loads_the_registered_model_which_answers_as_the_endpoint_does(
    cli: Cli, videos: Path, finished: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(cli.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", by_step(finished)["register"]["summary"]["tracking"])
    video = videos / "moving" / "v00.mp4"
    served = json.loads(cli.ok("predict", video, "--json", "--endpoint", "motion", "--offline"))
    for source in ("models:/motion@champion", "models:/motion/1"):
        found = rushes.load_classifier(source).predict(video, clips=2)
        assert [found[label] for label in served["labels"]] == pytest.approx(served["probabilities"], abs=1e-4)
    assert rushes.load_backbone("models:/motion@champion").source.startswith("finetune/")
    with pytest.raises(UserError, match=r"^models:/motion@missing: not in MLflow at http.*$"):
        rushes.load_classifier("models:/motion@missing")


def test_a_second_run_does_nothing_twice(cli: Cli, videos: Path, finished: list[dict[str, Any]]) -> None:
    cli.ok("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, *QUICK)
    again = cli.results()
    assert sorted(ending["ref"] for ending in again) == sorted(ending["ref"] for ending in finished)
    assert all(ending["cached"] for ending in again if ending["step"] not in NEVER_CACHED)
    assert len(Ledger(Store(str(cli.home / "store")), "motion").entries()) == 1


def test_the_run_has_a_summary_in_the_store(cli: Cli, finished: list[dict[str, Any]]) -> None:
    summary = json.loads((cli.home / "store" / "runs" / run_of(cli, finished).name / "summary.json").read_text())
    assert (summary["state"], summary["error"], summary["champion"]) == ("SUCCEEDED", "", 1)
    assert [step["ref"] for step in summary["steps"]] == [ending["ref"] for ending in finished]


def test_what_passes_through_kfp_is_kilobytes(cli: Cli, finished: list[dict[str, Any]]) -> None:
    outputs = run_of(cli, finished) / "outputs"
    sizes = {path: path.stat().st_size for path in outputs.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 1_000_000
    assert [path for path in sizes if "report" in path.parts]


@pytest.mark.soak  # the choice: tests/components/test_functions.py, what goes on: tests/pipelines/test_pipeline.py
def test_of_several_models_the_best_on_validation_goes_on_and_stays_behind_a_champion_as_good(
    cli: Cli, videos: Path, finished: list[dict[str, Any]]
) -> None:
    """Whichever is better, only that one is evaluated, which looks at the test split, and registered."""
    flags = [*QUICK, "--sample.val_share", "0.25"]
    overrides = {flag.removeprefix("--"): value for flag, value in zip(flags[::2], flags[1::2], strict=True)} | {
        "finetune.epochs": 1
    }
    also = "untrained=pace-r2plus1d:" + ",".join(f"{name}={value}" for name, value in overrides.items())
    cli.ok("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, *flags, "--also", also)
    steps = cli.results()
    (choice,) = [ending["summary"] for ending in steps if ending["step"] == "choose"]
    measured = choice["validation"]
    assert set(measured) == {"pace-r2plus1d", "untrained"}
    assert measured[choice["chosen"]] == max(measured.values())
    assert [ending["step"] for ending in steps].count("finetune") == 3
    assert [ending["step"] for ending in steps].count("evaluate") == 1
    chosen = next(
        e for e in steps if e["step"] == "finetune" and e["summary"]["val_accuracy"] == max(measured.values())
    )
    (bundle,) = [ending["ref"] for ending in steps if ending["step"] == "export"]
    assert json.loads((cli.home / "store" / "steps" / f"{bundle}.json").read_text())["inputs"] == {
        "classifier": chosen["ref"]
    }
    decision = by_step(steps)["promote"]["summary"]
    assert (decision["decision"], decision["champion"]) == ("refused", 1)
    assert "deploy" not in by_step(steps)
    assert json.loads(cli.ok("status", "--json"))["endpoints"]["motion"]["served"] == 1


@pytest.mark.soak  # the parts of it: tests/integration/test_wheel.py, test_launcher.py (S3), tests/test_digests.py
def test_an_installed_wheel_with_a_new_store_on_s3_gives_the_same_metrics_to_the_last_digit(
    cli: Cli,
    videos: Path,
    finished: list[dict[str, Any]],
    s3_server: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wheel's dependencies are borrowed; a soak test installs them from the lock."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").mkdir("bucket")
    before = sorted((cli.home / "store").rglob("*"))
    python = borrowing_environment(tmp_path, built_wheel(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    remote = Cli(cli.home, tmp_path, {**cli.extra, **s3_server.environment, "RUSHES_STORE": "s3://bucket/store"})
    answer = json.loads(run_workflow(python, tmp_path / "elsewhere", remote, videos))
    assert answer["labels"] == ["moving", "resting"]
    assert can_run_triton() is not None or answer["served_by"] == "triton"

    store, endings = Store("s3://bucket/store", cache=tmp_path / "cache"), cli.results()
    steps, expected = by_step(endings), by_step(finished)["evaluate"]
    assert steps["promote"]["summary"]["decision"] == "promoted" and steps["deploy"]["summary"]["version"] == 1
    assert len(store.names("ledger/from_wheel")) == 1
    assert steps["evaluate"]["ref"] == expected["ref"] and steps["evaluate"]["summary"] == expected["summary"]
    old, new = Store(str(cli.home / "store")).find(expected["ref"]), store.find(expected["ref"])
    assert old is not None and new is not None
    for name in ("metrics.json", "predictions.parquet"):
        assert new.files[name] == old.files[name]
    assert sorted((cli.home / "store").rglob("*")) == before
    pointers = [path for path in run_of(cli, endings).rglob("*") if path.is_file() and _is_pointer(path)]
    assert len(pointers) >= 9 and sum(path.stat().st_size for path in pointers) < 1e6


def _is_pointer(path: Path) -> bool:
    """Whether it is what passes between steps."""
    try:
        Manifest.read(path)
    except UserError:
        return False
    return True


def test_where_triton_cannot_run_the_same_graph_answers_in_process(
    cli: Cli, videos: Path, finished: list[dict[str, Any]]
) -> None:
    without = Cli(cli.home, cli.folder, {**cli.extra, "RUSHES_NO_TRITON": "1"})
    shown = without.ok("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, *QUICK, "--endpoint", "here")
    assert "switched off by RUSHES_NO_TRITON" in shown.splitlines()[0]
    assert by_step(without.results())["deploy"]["summary"]["served_by"] == "in-process graph"
    answer = json.loads(without.ok("predict", videos / "moving" / "v00.mp4", "--endpoint", "here", "--json"))
    assert answer["served_by"] == "in-process"
    served = json.loads(cli.ok("predict", videos / "moving" / "v00.mp4", "--endpoint", "motion", "--json"))
    assert answer["probabilities"] == pytest.approx(served["probabilities"], abs=1e-4)


@pytest.mark.parametrize("steps", [("pretrain", "deploy"), pytest.param(STEPS, marks=pytest.mark.soak)])
def test_ctrl_c_in_a_step(
    cli: Cli, videos: Path, tmp_path: Path, finished: list[dict[str, Any]], steps: Sequence[str]
) -> None:
    """Interrupted as a step begins, the run ends with 130 and leaves nothing running; at last it completes.

    Of two steps the first is of a run that is not completed; of all, each is of the run that is.
    """
    store = {} if len(steps) == 2 else {"RUSHES_STORE": str(tmp_path / "store")}
    interrupted = Cli(cli.home, tmp_path, {**cli.extra, **store})
    command = ["run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, "--endpoint", "interrupted", *QUICK]
    for step in steps:
        before = set(cli.home.glob("runs/*"))
        process = interrupted.start(*command, *(["--seed", "1"] if len(steps) == 2 and step == steps[0] else []))
        run = wait_for_step(process, cli.home, before, step)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 130, complaint
        (line,) = complaint.strip().splitlines()
        assert "interrupted" in line
        assert not [words for words in processes_of(cli) if str(run) in words]
    interrupted.ok(*command)
    assert "interrupted" in interrupted.ok("status")


def wait_for_step(process: subprocess.Popen[str], home: Path, before: set[Path], step: str) -> Path:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for run in set(home.glob("runs/*")) - before:
            events, _ = read_events(run / "progress.jsonl")
            if any(event["event"] == "start" and event["step"] == step for event in events):
                return run
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{step} never began")
