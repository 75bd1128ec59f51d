"""`rushes pipeline compile` and `submit`, the latter against a server that validates what it is sent."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rushes.cli import main
from rushes.commands import follow as commands
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.policy import violations
from rushes.kubeflow.profile import Profile
from rushes.orchestration.image import with_tag, yaml_documents
from rushes.orchestration.local import compiled_pipeline
from tests.kubeflow.server import Kubeflow, serving

DIGEST = "registry.example.com/rushes@sha256:" + "1" * 64


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    monkeypatch.setattr(commands, "_POLL_SECONDS", 0.01)
    with serving() as state:
        yield state


def submit(server: Kubeflow, *words: str, verb: str = "submit") -> int:
    model = ("pace-r2plus1d", "--size", "cpu", "--videos", "s3://archive/videos", "--endpoint", "gestures")
    return main(["pipeline", verb, *model, "--host", server.url, *words])


def test_a_profile_of_ones_own_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, out = tmp_path / "mine.yaml", tmp_path / "out" / "pipeline.yaml"
    profile.write_text(
        f"image: {DIGEST}\nsecrets: [{{name: keys, keys: [AWS_SECRET_ACCESS_KEY]}}]\npull_secret: registry\n"
        "gpu: {count: 2, tolerations: [{key: pool, operator: Equal, value: gpu}], node_selector: {zone: b}}\n"
        "volumes: {archive: /data}\nlabels: {team: vision}\npartitions: 8\n"
    )
    assert main(["pipeline", "compile", "--profile", str(profile), "--out", str(out)]) == 0
    assert Pipeline.read(out).digest in capsys.readouterr().out
    spec, platform = yaml_documents(out.read_text())
    assert violations([spec, platform]) == []
    container = spec["deploymentSpec"]["executors"]["exec-pretrain"]["container"]
    assert container["image"] == DIGEST
    assert container["resources"]["accelerator"]["resourceCount"] == "2"
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-pretrain"]
    assert settings["tolerations"][0] | {"key": "pool", "value": "gpu"} == settings["tolerations"][0]
    assert settings["nodeSelector"]["labels"] == {"zone": "b"}
    assert settings["secretAsEnv"][0]["secretName"] == "keys"
    assert settings["pvcMount"][0]["mountPath"] == "/data"
    assert settings["podMetadata"]["labels"] == {"team": "vision"}
    assert settings["imagePullSecret"][0]["secretName"] == "registry"
    assert spec["root"]["inputDefinitions"]["parameters"]["partitions"]["defaultValue"] == 8


def test_what_is_compiled_names_this_codes_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pipeline.yaml"
    assert main(["pipeline", "compile", "--profile", "gpu", "--out", str(out)]) == 0
    assert out.read_text() == with_tag(compiled_pipeline().read_text())
    assert f"sha256:{hashlib.sha256(out.read_bytes()).hexdigest()}" in capsys.readouterr().out


def test_a_comparison_is_compiled_for_a_profile_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, out = tmp_path / "mine.yaml", tmp_path / "mine-comparison.yaml"
    profile.write_text(f"image: {DIGEST}\npartitions: 8\n")
    assert main(["pipeline", "compile", "--comparison", "--profile", str(profile), "--out", str(out)]) == 0
    assert f"rushes compare MODEL MODEL --runner cluster --pipeline {out}" in capsys.readouterr().out
    assert Pipeline.read(out).name == "rushes-comparison"
    executors = yaml_documents(out.read_text())[0]["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {DIGEST}


def test_keys_that_kubeflows_launcher_would_read_too_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile, out = tmp_path / "mine.yaml", tmp_path / "pipeline.yaml"
    for keys, told in (
        ("AWS_ACCESS_KEY_ID, OTHER", ""),
        ("GOOGLE_APPLICATION_CREDENTIALS, OTHER", "reads GOOGLE_APPLICATION_CREDENTIALS too"),
        ("AZURE_STORAGE_ACCOUNT], optional: [AZURE_STORAGE_KEY", "reads AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY too"),
    ):
        profile.write_text(f"secrets: [{{name: keys, keys: [{keys}]}}]\n")
        assert main(["pipeline", "compile", "--profile", str(profile), "--out", str(out)]) == 0
        shown = capsys.readouterr().out
        assert ("Mind: profile mine: KFP's launcher" in shown) == bool(told) and told in shown


@pytest.fixture
def breaking(tmp_path: Path) -> Path:
    """A profile that the policies do not allow."""
    profile = tmp_path / "breaking.yaml"
    profile.write_text("gpu: {tolerations: []}\nsettings: {name: s, keys: [MLFLOW_TRACKING_PASSWORD]}\n")
    return profile


def test_a_profile_that_breaks_a_policy_is_not_compiled(
    breaking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "pipeline.yaml"
    assert main(["pipeline", "compile", "--profile", str(breaking), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert "without a toleration" in told and "MLFLOW_TRACKING_PASSWORD from a ConfigMap" in told
    assert list(out.parent.iterdir()) == []


def test_what_was_compiled_before_stays_until_there_is_another(breaking: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "pipeline.yml"
    assert main(["pipeline", "compile", "--profile", "cpu", "--out", str(out)]) == 0
    before = out.read_bytes()
    assert main(["pipeline", "compile", "--profile", str(breaking), "--out", str(out)]) == 2
    assert out.read_bytes() == before
    assert main(["pipeline", "compile", "--profile", "gpu", "--out", str(out)]) == 0
    assert out.read_bytes() != before
    assert list(out.parent.iterdir()) == [out]


def test_a_compilation_that_is_interrupted_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import pipeline

    def interrupted(path: Path, profile: Profile, **options: object) -> None:
        path.write_text("half of a pipel")
        raise KeyboardInterrupt

    out = tmp_path / "out" / "pipeline.yaml"
    out.parent.mkdir()
    out.write_text("reviewed")
    monkeypatch.setattr(pipeline, "compile_to", interrupted)
    assert main(["pipeline", "compile", "--profile", "cpu", "--out", str(out)]) == 130
    assert out.read_text() == "reviewed"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine.txt", "mine.txt' is not allowed; a name that ends in .yaml or .yml"),
        ("mine.json", "mine.json' is not allowed"),
        ("mine", "mine' is not allowed"),
        ("", "is a folder: name a file in it, such as"),
        ("file/mine.yaml", "file' is a file: name another folder"),
    ],
)
def test_only_what_kfp_compiles_to_is_compiled_to(
    name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").touch()
    assert main(["pipeline", "compile", "--profile", "nope", "--out", str(out / name)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "out: '" in line and told in line
    assert list(out.iterdir()) == [out / "file"]


def test_a_run_is_submitted_with_what_it_needs(server: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(server, "--also", "vcop-r3d", "--splits", "/data/splits") == 0
    assert server.changes == ["POST /experiments", "POST /pipelines", "POST /pipelines/upload_version", "POST /runs"]
    (run,) = server.runs.values()
    given = run["runtime_config"]["parameters"]
    assert [model["name"] for model in given["models"]] == ["pace-r2plus1d", "vcop-r3d"]
    assert (given["videos"], given["splits"], given["endpoint"]) == ("s3://archive/videos", "/data/splits", "gestures")
    assert given["partitions"] == 4  # the profile's
    assert run["display_name"].startswith("gestures-")
    (version,) = server.versions.values()
    assert version["description"] == Pipeline.read(compiled_pipeline()).digest
    assert run["run_id"] in capsys.readouterr().out
    # The pipeline is there now.
    before = len(server.changes)
    assert submit(server) == 0
    assert server.changes[before:] == ["POST /runs"]


def test_a_run_is_followed_to_its_end(server: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    server.fate = [
        ("PENDING", {}),
        ("RUNNING", {"pin": "RUNNING"}),
        ("RUNNING", {"pin": "SUCCEEDED", "sample": ["RUNNING", "PENDING"]}),
        ("SUCCEEDED", {"pin": "SUCCEEDED", "sample": ["SUCCEEDED", "SUCCEEDED"], "sample-2": "SUCCEEDED"}),
    ]
    assert submit(server, "--runner", "cluster", verb="run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.match("[a-z].*: ", line)] == [
        "pin: running",
        "pin: succeeded",
        "sample a part 1/4: running",
        "sample a part 2/4: pending",
        "sample a part 1/4: succeeded",
        "sample a part 2/4: succeeded",
        "sample: succeeded",
    ]


def lines_of(task: str, shown: str) -> list[str]:
    return [line.removeprefix(f"{task}: ") for line in shown.splitlines() if line.startswith(f"{task}: ")]


def test_a_server_that_is_away_for_a_while_is_waited_for(server: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    # A gateway's error, connections that break (urllib3 tries four times), and a session that ended.
    server.fate = [
        ("RUNNING", {"pin": "RUNNING"}),
        502,
        502,
        0,
        0,
        0,
        0,
        200,
        ("RUNNING", {"pin": "RUNNING"}),
        503,
        ("SUCCEEDED", {"pin": "SUCCEEDED"}),
    ]
    assert submit(server, "--wait") == 0
    captured = capsys.readouterr()
    assert lines_of("pin", captured.out) == ["running", "succeeded"]
    told = lines_of("No news, but the run goes on, and this asks again", captured.out)
    assert told == [f"Kubeflow Pipelines refused ({status}): out of order" for status in (502, 503)], "once each time"
    assert captured.err == "" and "--host" not in captured.out


def test_a_server_that_stays_away_is_given_up_and_the_run_is_not(
    server: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "_PATIENCE", 0.3)
    server.fate = [("RUNNING", {}), 502]
    assert submit(server, "--wait") == 1
    (run,) = server.runs
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"run {run} goes on without this command, and Kubeflow shows it under experiment 'rushes': Kubeflow" in line
    assert "no news for 0.005 minutes" in line and "refused (502): out of order" in line
    assert server.calls.count(f"GET /runs/{run}") > 5


def test_ctrl_c_leaves_the_run_to_the_cluster(server: Kubeflow, tmp_path: Path) -> None:
    server.fate = [("RUNNING", {"pin": "RUNNING"})]
    command = ["pipeline", "submit", "pace-r2plus1d", "--videos", "s3://archive/videos", "--host", server.url, "--wait"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rushes.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RUSHES_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    for line in process.stdout:
        if line == "pin: running\n":
            break
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    (run,) = server.runs
    (told,) = complaint.strip().splitlines()
    assert told == (
        f"rushes: interrupted: run {run} goes on without this command, and Kubeflow shows it under experiment 'rushes'"
    )
    assert server.runs[run]["state"] == "RUNNING"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--videos", "footage"), "data.videos: 'footage' is relative, and runs are elsewhere"),
        (("--profile", "nope"), "profile: 'nope' cannot be read"),
        (("--pipeline", "away.yaml"), "pipeline: 'away.yaml' cannot be read"),
        (("--also", "vcop-r3d:sample.fps=10"), "sample.fps: 'pace-r2plus1d' wants 25.0, 'vcop-r3d:sample.fps=10'"),
        (("--also", "pace-r2plus1d"), "member: 'pace-r2plus1d' is there twice"),
        (("--videos", "/data/videos", "--revision", "0" * 40), "is a commit"),
    ],
)
def test_a_mistake_is_told_before_any_request(
    words: tuple[str, ...], told: str, server: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, *words) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert server.calls == []
