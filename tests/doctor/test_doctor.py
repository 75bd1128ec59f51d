"""`rushes doctor`: each check finds what is wrong, and finds nothing where nothing is."""

import json
import os
import tempfile
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rushes.cli import main
from rushes.doctor import findings
from rushes.doctor.checks import CHECKS
from rushes.doctor.findings import Environment, Finding, examine
from rushes.doctor.installed import check_package
from rushes.doctor.triton import OLDEST
from rushes.errors import UserError
from rushes.orchestration.image import yaml_documents
from rushes.orchestration.local import compiled_pipeline
from tests.kubeflow.server import Kubeflow, serving
from tests.kubeflow.workflows import workflow_of
from tests.s3 import S3

CLOSED = "http://127.0.0.1:9"
VARIABLES = (
    "RUSHES_STORE",
    "RUSHES_CACHE",
    "MLFLOW_TRACKING_URI",
    "KF_PIPELINES_ENDPOINT",
    "KUBERNETES_SERVICE_HOST",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However full this machine's disks are, they look as if they were not."""
    have_free(10**12, monkeypatch)


def have_free(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**12, 10**12 - free, free))


def look(name: str, **given: Any) -> Finding:
    return examine(CHECKS[name], Environment(**given))


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    with serving() as server:
        yield server


class Answers:
    """A web server that says the same to everybody."""

    def __init__(self, body: bytes, *, status: int = 200, seconds: float = 0.0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(seconds)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *raised: object) -> None:
        self.server.shutdown()
        self.server.server_close()


# The whole -----------------------------------------------------------------------------------------------------------


def test_a_row_a_check_and_status_1_only_where_something_failed(
    kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], roomy_disk: None
) -> None:
    assert main(["doctor", "--profile", "cpu", "--host", kubeflow.url]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in CHECKS)
    (line,) = (line for line in shown.splitlines() if line.startswith("warning"))
    assert " retries " in line and f"{len(CHECKS) - 1} ok, 1 warning" in shown.splitlines()[-1]
    assert main(["doctor", "--profile", "cpu", "--host", CLOSED]) == 1
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if line.startswith("failed"))
    assert CLOSED in line and "1 failed" in shown.splitlines()[-1]
    assert "correct --host" in shown


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), UserError("store: 'x' is wrong: do this")])
def test_a_check_that_raises_is_a_failed_row(error: Exception) -> None:
    def check(environment: Environment) -> Finding:
        raise error

    finding = examine(check, Environment())
    assert finding.verdict == "failed" and str(error) in finding.found


def test_a_check_that_never_ends_is_a_failed_row() -> None:
    def check(environment: Environment) -> Finding:
        time.sleep(30)
        raise AssertionError

    began = time.monotonic()
    finding = examine(check, Environment(limit=0.2))
    assert finding.verdict == "failed" and "0.2 s" in finding.found
    assert time.monotonic() - began < 20


# What is installed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["python", "torch", "av", "mlflow", "kfp", "kfp-kubernetes", "dvc"])
def test_versions_are_held_against_what_the_package_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(name).verdict == "ok"
    if name == "python":
        monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    else:
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    old = look(name)
    assert old.verdict == "failed" and "needed" in old.found and old.remedy


def test_a_package_that_is_not_there() -> None:
    finding = check_package(Environment(), name="rushes-nowhere")
    assert finding.verdict == "failed" and "not installed" in finding.found and "pip install" in finding.remedy


def test_a_package_of_a_package_that_is_not_there() -> None:
    finding = check_package(Environment(), name="rushes-nowhere", of="rushes-nowhere-either")
    assert (finding.verdict, finding.remedy) == ("failed", 'Install it: pip install "rushes-nowhere".')


def test_a_package_of_an_extra_is_installed_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    assert look("kfp").remedy == 'Install it: pip install "rushes[workflow]".'
    assert look("av").remedy == 'Install it: pip install "av<20,>=15".'


def test_ffmpeg_without_libx264(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "libx264" in look("ffmpeg").found
    monkeypatch.setattr("av.codecs_available", {"h264"})
    finding = look("ffmpeg")
    assert finding.verdict == "failed" and "without libx264" in finding.found


def test_no_git_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert look("git").verdict == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look("git").verdict == "warning"


# The store -----------------------------------------------------------------------------------------------------------


def test_a_folder_is_a_store_and_is_left_as_it_was(home: Path, roomy_disk: None) -> None:
    finding = look("store")
    assert finding.verdict == "ok" and "GB free" in finding.found
    assert list((home / "store" / "doctor").iterdir()) == []


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that this user may not write to, also where this is root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_to(read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_STORE", str(read_only))
    finding = look("store")
    assert finding.verdict == "failed" and str(read_only) in finding.found and "RUSHES_STORE" in finding.remedy


def test_little_space_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    have_free(10**9, monkeypatch)
    finding = look("store")
    assert finding.verdict == "warning" and "1 GB free" in finding.found


class Careless(MemoryFileSystem):  # type: ignore[misc]
    """An object store of the kind that takes no notice of If-None-Match."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> Any:
        return super().pipe_file(path, value, mode="overwrite", **options)


class Forgetful(MemoryFileSystem):  # type: ignore[misc]
    """A store that gives back what was there before."""

    protocol = "forgetful"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        return b"old"


@pytest.mark.parametrize(("kind", "words"), [(Careless, "4 of 4 created"), (Forgetful, "does not give back")])
def test_a_store_that_does_not_keep_its_word(
    kind: type[MemoryFileSystem], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    monkeypatch.setenv("RUSHES_STORE", f"{kind.protocol}://store")
    finding = look("store")
    assert finding.verdict == "failed" and words in finding.found and finding.remedy


def test_an_address_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_STORE", "nosuch://bucket")
    finding = look("store")
    assert finding.verdict == "failed" and "nosuch" in finding.found


@pytest.fixture
def bucket(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the only bucket of a server that speaks S3."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").mkdir("store")
    return "store"


def test_a_store_on_s3(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, roomy_disk: None) -> None:
    monkeypatch.setenv("RUSHES_STORE", f"s3://{bucket}/footage")
    finding = look("store")
    assert finding.verdict == "ok" and "creates exclusively" in finding.found, finding
    assert fsspec.filesystem("s3", use_listings_cache=False).find(bucket) == []
    assert look("cache").verdict == "ok" and "free" in look("cache").found
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUSHES_CACHE", str(tmp_path / "file" / "cache"))
    assert look("cache").verdict == "failed" and "RUSHES_CACHE" in look("cache").remedy
    monkeypatch.setenv("RUSHES_STORE", "s3://nowhere/footage")
    assert look("store").verdict == "failed"


def test_a_cache_is_not_needed_where_the_store_is_a_folder() -> None:
    assert look("cache").verdict == "ok" and "not used" in look("cache").found


# Servers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlflow server", "kubeflow"])
def test_what_is_not_configured_is_no_failure(name: str) -> None:
    finding = look(name)
    assert finding.verdict == "ok" and "not configured" in finding.found and finding.remedy


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = version("mlflow")
    with Answers(ours.encode()) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert look("mlflow server") == Finding(verdict="ok", found=f"{url}: version {ours}")
    with Answers(b"1.30.0") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert look("mlflow server").verdict == "warning" and "major" in look("mlflow server").remedy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED)
    finding = look("mlflow server")
    assert finding.verdict == "failed" and CLOSED in finding.found and "MLFLOW_TRACKING_URI" in finding.remedy


@pytest.mark.parametrize(
    ("release", "verdict", "words"),
    [
        ("2.17.0", "ok", "version 2.17.0"),
        ("2.16.1", "ok", "version 2.16.1"),
        ("v2.16.0-rc.1", "ok", "version v2.16.0-rc.1"),
        ("2.15.0", "warning", "older than 2.16: what is compiled says nothing about the pods' user there"),
        ("2.14.3", "warning", "settings of the profile that may be missing have to be there"),
        ("2.5.0", "failed", "refuses our runs, since it knows no final status of tasks: upgrade it to 2.16 or later"),
        ("2.18.0", "warning", "version 2.18.0, newer than those looked at"),
        ("unknown", "warning", "does not say its version ('unknown')"),
    ],
)
def test_versions_of_kubeflow(
    release: str, verdict: str, words: str, kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow.release = release
    finding = look("kubeflow", host=kubeflow.url)
    assert finding.verdict == verdict and words in finding.found and (verdict == "ok") == (not finding.remedy)
    assert look("kubeflow", host=kubeflow.url.removeprefix("http://") + "/") == finding
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.url)
    assert look("kubeflow") == finding


@pytest.mark.parametrize(
    ("release", "policy", "verdict", "words"),
    [
        ("2.16.0", "", "warning", "OnFailure, as 2.16.0 installs it; no run shows it: a step that fails is tried"),
        ("2.17.0", "", "warning", "OnError, as 2.17.0 installs it; no run shows it: a pod that vanished with its node"),
        ("2.17.0", "OnError", "warning", "OnError, as its last run shows: a pod that vanished with its node is tried"),
        ("2.17.0", "Always 2", "warning", "Always, as its last run shows, of each layer around a step too: a step"),
        ("2.17.0", "Always 0", "ok", "Always, as its last run shows: both a step that fails and a pod that vanished"),
        ("2.16.0", "none", "warning", "OnFailure, as its last run shows"),
    ],
)
def test_what_is_tried_again_is_seen_in_the_last_run(
    release: str, policy: str, verdict: str, words: str, kubeflow: Kubeflow
) -> None:
    kubeflow.release = release
    if policy:
        spec = yaml_documents(compiled_pipeline().read_text())[0]
        given, _, limit = policy.removeprefix("none").partition(" ")
        tasks = {"pin": "RUNNING"}
        workflow = workflow_of(spec, state="RUNNING", tasks=tasks, retry_policy=given, limit=limit or "2")
        kubeflow.runs["r"] = {"run_id": "r", "display_name": "r", "state": "RUNNING", "workflow": workflow}
    finding = look("retries", host=kubeflow.url)
    assert finding.verdict == verdict and words in finding.found
    assert ("What is tried again" in finding.remedy) == (verdict != "ok")


def test_the_profiles_host_is_asked(kubeflow: Kubeflow, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"host: {kubeflow.url}\n")
    assert kubeflow.url in look("kubeflow", profile=str(file)).found
    assert CLOSED in look("kubeflow", profile=str(file), host=CLOSED).found, "what is given by hand wins"


def test_another_server_is_not_kubeflow() -> None:
    with Answers(b"<html>Log in</html>") as url:
        finding = look("kubeflow", host=url)
        assert finding.verdict == "failed" and "not as Kubeflow" in finding.found
    with Answers(b"", status=403) as url:
        finding = look("kubeflow", host=url)
        assert finding.verdict == "warning" and "login" in finding.found
    with Answers(b"", status=404) as url:
        assert look("kubeflow", host=url).verdict == "failed"


def test_a_server_that_never_answers_does_not_hang_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "TIMEOUT", 0.3)
    with Answers(b"", seconds=10) as url:
        began = time.monotonic()
        assert look("kubeflow", host=url).verdict == "failed"
        assert time.monotonic() - began < 8


@pytest.mark.servers
def test_a_real_mlflow_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rushes import processes
    from rushes.tracking.server import start_mlflow
    from tests.integration.conftest import free_ports

    server = start_mlflow(home=home, port=free_ports(1)[0])
    try:
        assert look("mlflow server").verdict == "ok" and server.url("http") in look("mlflow server").found
    finally:
        processes.stop(name="mlflow", home=home)
    assert "none runs here" in look("mlflow server").found


def test_no_triton_is_no_failure() -> None:
    finding = look("triton")
    assert finding.verdict == "ok" and "none runs here" in finding.found and "--triton" in finding.remedy


@pytest.mark.parametrize(
    ("release", "verdict"),
    [("2.51.0", "failed"), ("2.70.9", "failed"), (OLDEST, "ok"), ("2.72.0", "ok"), ("2.100.0", "ok"), ("3.0", "ok")],
)
def test_an_old_triton_is_named(release: str, verdict: str) -> None:
    with Answers(json.dumps({"name": "triton", "version": release}).encode()) as url:
        for given in (url, url.removeprefix("http://") + "/"):
            finding = look("triton", triton=given)
            assert finding.verdict == verdict and f"{url}: version {release}" in finding.found
            assert (
                (f"older than {OLDEST}" in finding.found) == (verdict == "failed") == ("make image" in finding.remedy)
            )


def test_another_server_is_not_triton() -> None:
    for body in (b"<html>Log in</html>", b"{}", b"[]", b'{"version": "latest"}'):
        with Answers(body) as url:
            finding = look("triton", triton=url)
            assert finding.verdict == "failed" and "not as Triton" in finding.found
    finding = look("triton", triton=CLOSED)
    assert finding.verdict == "failed" and CLOSED in finding.found and "8000" in finding.remedy


@pytest.mark.servers
def test_the_laptops_triton_is_old_and_cannot_be_renewed(home: Path) -> None:
    from rushes.serving.environment import can_run_triton
    from rushes.serving.server import start_triton, stop_triton
    from tests.integration.conftest import free_ports

    if reason := can_run_triton():
        pytest.skip(f"no Triton here: {reason}")
    server = start_triton(home=home, port=free_ports(3)[0])
    try:
        finding = look("triton")
        assert finding.verdict == "warning" and f"{server.url('http')}: version 2.51.0, older" in finding.found
        assert "loopback" in finding.remedy and "image" in finding.remedy
    finally:
        stop_triton(home=home)


# The machine and the profile -----------------------------------------------------------------------------------------


def test_a_gpu_that_the_profile_wants_and_is_not_here_is_a_warning(tmp_path: Path) -> None:
    finding = look("gpu", profile="gpu", devices=tmp_path)
    assert finding.verdict == "warning" and "asks for 1" in finding.found and finding.remedy
    assert look("gpu", profile="cpu", devices=tmp_path).verdict == "ok"
    assert look("gpu", devices=tmp_path).verdict == "ok"


def test_gpus_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia3").touch()
    properties = namedtuple("properties", "name total_memory")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: properties("H100", 80 << 30))
    finding = look("gpu", profile="gpu", devices=tmp_path)
    assert finding.verdict == "ok" and "H100 with 80 GiB" in finding.found
    file = tmp_path / "two.yaml"
    file.write_text("gpu: {count: 2}\n")
    assert look("gpu", profile=str(file), devices=tmp_path).verdict == "warning"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    finding = look("gpu", profile="gpu", devices=tmp_path)
    assert finding.verdict == "failed" and "torch" in finding.found


def test_shared_memory_against_the_profile(tmp_path: Path) -> None:
    assert look("shared memory", devices=tmp_path).verdict == "warning", "none there"
    (tmp_path / "shm").mkdir()
    assert look("shared memory", devices=tmp_path).verdict == "ok"
    file = tmp_path / "large.yaml"
    file.write_text("gpu: {count: 1, shared_memory: 900000Gi}\n")
    assert look("shared memory", profile=str(file), devices=tmp_path).verdict == "warning"
    file.write_text("gpu: {count: 1, shared_memory: 16Ki}\n")
    assert look("shared memory", profile=str(file), devices=tmp_path).verdict == "ok"
    file.write_text("gpu: {count: 0, shared_memory: 900000Gi}\n")
    assert look("shared memory", profile=str(file), devices=tmp_path).verdict == "ok", "nothing trains on GPUs"


def test_a_profile_that_cannot_be_read_fails_and_the_other_checks_go_on(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("partitions: 0\n")
    finding = look("profile", profile=str(file))
    assert finding.verdict == "failed" and "partitions" in finding.found
    assert look("gpu", profile=str(file), devices=tmp_path).verdict == "ok"
    assert look("profile", profile="gpu").verdict == "ok"
    assert look("profile").verdict == "ok"


def test_in_a_pod_what_the_profile_names_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"settings: {{name: s, keys: [RUSHES_STORE]}}\nsecrets: [{{name: t, keys: [AWS_ACCESS_KEY_ID]}}]\n"
        f"volumes: {{claim: {tmp_path / 'mounted'}}}\n"
    )
    finding = look("profile", profile=str(file))
    assert finding.verdict == "ok" and "ConfigMap s, t" in finding.found, "outside a pod nothing of it is expected"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    finding = look("profile", profile=str(file))
    assert finding.verdict == "failed"
    assert all(word in finding.found for word in ("RUSHES_STORE", "AWS_ACCESS_KEY_ID", str(tmp_path / "mounted")))
    monkeypatch.setenv("RUSHES_STORE", "x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    (tmp_path / "mounted").mkdir()
    assert look("profile", profile=str(file)).verdict == "ok"
