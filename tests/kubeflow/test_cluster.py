"""What stands between this machine and Kubeflow Pipelines: pages to log in, and answers that never come."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from rushes.cli import main
from rushes.errors import ServiceError
from rushes.kubeflow import cluster
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.orchestration.local import compiled_pipeline
from tests.kubeflow.server import Kubeflow, serving

PIPELINE = Pipeline.read(compiled_pipeline())
LOGIN = "answers, but not as Kubeflow Pipelines does: give the URL of the API itself: a login page or another server"


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with serving() as state:
        yield state


def scheduled(folder: Path, videos: str) -> str:
    """A file with one schedule."""
    entry = {
        "name": "nightly",
        "cron": "0 0 2 * * *",
        "pipeline": PIPELINE.digest,
        "data": {"videos": videos},
        "parameters": {"endpoint": "e", "models": ["vcop-r3d"]},
    }
    path = folder / "schedules.yaml"
    path.write_text(yaml.safe_dump({"experiment": "rushes", "schedules": [entry]}))
    return str(path)


@pytest.fixture
def schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with one schedule, whose data is there."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"a film")
    return scheduled(tmp_path, str(tmp_path / "videos"))


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_a_page_to_log_in_is_no_empty_server(
    verb: str, server: Kubeflow, schedules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.login = True
    assert main(["schedules", verb, schedules, "--host", server.url]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert f"{server.url} {LOGIN}" in line
    assert captured.out == "" and server.changes == []


def test_a_check_says_so_of_the_schedule_and_claims_nothing(
    server: Kubeflow, schedules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedules", "apply", schedules, "--host", server.url]) == 0
    server.login = True
    assert main(["schedules", "check", schedules, "--host", server.url]) == 1
    assert "answers, but not as Kubeflow Pipelines does" in " ".join(capsys.readouterr().out.split())
    server.login = False
    assert main(["schedules", "check", schedules, "--host", server.url]) == 0
    assert len(server.runs) == 1


def test_nothing_is_submitted_to_a_page_to_log_in(server: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    server.login = True
    model = ("pace-r2plus1d", "--size", "cpu", "--videos", "s3://archive/videos")
    assert main(["pipeline", "submit", *model, "--host", server.url]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert LOGIN in line
    assert server.changes == []


def test_the_one_that_the_environment_names_is_told(server: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    Cluster("", experiment="rushes")
    server.login = True
    with pytest.raises(ServiceError, match=f"{server.url} answers, but not"):
        Cluster("", experiment="rushes")


def test_an_answer_that_kfp_makes_nothing_of_is_one_line(server: Kubeflow) -> None:
    connected = Cluster(server.url, experiment="rushes")
    server.faults["POST /pipelines"] = 200
    with pytest.raises(ServiceError, match=r"answers that kfp cannot read \(.*\): run `rushes doctor`$"):
        connected.upload(PIPELINE)


def test_who_was_reached_before_is_not_told_to_give_another_host(server: Kubeflow) -> None:
    connected = Cluster(server.url, experiment="rushes")
    server.faults["POST /experiments"] = 0
    with pytest.raises(ServiceError, match=r"does not answer \(.*\): check that it is running$"):
        connected.create_experiment()


def test_a_run_is_nothing_that_a_page_to_log_in_tells_of(server: Kubeflow) -> None:
    connected = Cluster(server.url, experiment="rushes")
    server.runs["r"] = {"run_id": "r"}
    assert connected.progress("r").state == "SUCCEEDED"
    server.login = True
    with pytest.raises(ServiceError, match=LOGIN):
        connected.progress("r")


@pytest.mark.parametrize(
    ("call", "limit", "ask"),
    [
        ("GET /runs/r", "_LOOK_SECONDS", lambda connected, target: connected.progress("r")),
        ("POST /runs", "_SECONDS", lambda connected, target: connected.submit({}, target, name="n", description="")),
    ],
)
def test_who_never_answers_is_not_waited_for(
    call: str, limit: str, ask: Callable[..., object], server: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = Cluster(server.url, experiment="rushes")
    connected.provide(PIPELINE)
    target = connected.target(PIPELINE)
    monkeypatch.setattr(cluster, limit, 0.2)
    server.gate = (call, threading.Barrier(99))
    release = threading.Timer(20, server.gate[1].abort)
    release.start()
    began = time.monotonic()
    with pytest.raises(ServiceError, match="does not answer"):
        ask(connected, target)
    assert time.monotonic() - began < 10
    release.cancel()
    server.gate[1].abort()


# What people read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("videos", ["/d[/x]", "/d[old]", "/d[red]x:car:"])
def test_square_brackets_in_a_path_are_shown_as_they_are(
    videos: str, server: Kubeflow, schedules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedules", "apply", schedules, "--host", server.url]) == 0
    changed = scheduled(tmp_path, videos)
    capsys.readouterr()
    assert main(["schedules", "plan", changed, "--host", server.url]) == 0
    assert f"-> '{videos}'" in " ".join(capsys.readouterr().out.split())
    assert main(["schedules", "check", changed, "--host", server.url]) == 2
    assert f"'{videos}'" in " ".join(capsys.readouterr().out.split())
