"""Steps in containers: what they are given, that a failure is told from a success, and that none outlives its run."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rushes.errors import UserError
from rushes.orchestration import docker as runner
from rushes.orchestration.docker import docker_runner, end_orphans, environment, images, mounts, require_docker
from rushes.orchestration.image import tag
from rushes.orchestration.local import compiled_pipeline

TINY = "rushes-test/tiny:1"
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RUSHES_STORE", "RUSHES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what `docker_runner` changes in its process."""
    from kfp.local import docker_task_handler

    monkeypatch.setattr(docker_task_handler, "run_docker_container", docker_task_handler.run_docker_container)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A Docker engine that has a tiny image: busybox, and nothing else."""
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    busybox = shutil.which("busybox")
    if busybox is None or subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode == 0:
        pytest.skip("no static busybox to make an image of: apt-get install busybox-static")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(Path(busybox).resolve(), "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    name, tag = TINY.split(":")
    client.api.import_image_from_data(archive.getvalue(), repository=name, tag=tag)
    yield client
    client.images.remove(TINY)
    client.close()


def run_in_kfp(script: str, folder: Path, kfps_runner: Any, env: dict[str, str] | None = None) -> str:
    """Runs a shell script as kfp.local runs a step; returns kfp's word for how it ended."""
    from kfp.local.docker_task_handler import DockerTaskHandler

    command = ["/bin/sh", "-c", script]
    return str(DockerTaskHandler(TINY, command, str(folder), kfps_runner, env or {}).run().name)


# Without an engine ---------------------------------------------------------------------------------------------------


def test_a_step_is_given_what_its_arguments_name_and_writes_into_the_home_only(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("videos", "repository/data/films"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / "start.safetensors").touch()
    arguments = {
        "videos": str(tmp_path / "videos"),
        "labels": "",
        "fold": 1,
        "endpoint": "none_such",
        "splits": "x" * 5000,
        "recipe": {"pretrain": {"init": "start.safetensors", "sizes": [1, str(tmp_path / "repository/data/films")]}},
    }
    assert mounts(arguments) == {
        tmp_path / "videos": True,
        tmp_path / "start.safetensors": True,
        tmp_path / "repository": True,
        home: False,
    }
    assert home.is_dir(), "what is absent cannot be mounted"
    gone = {"videos": str(tmp_path / "repository" / "of" / "a" / "revision")}
    assert mounts(gone) == {tmp_path / "repository": True, home: False}


def test_a_store_and_a_cache_elsewhere_are_written_too_and_a_url_is_no_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("RUSHES_CACHE", str(tmp_path / "cache"))
    assert mounts({}) == {home: False, tmp_path / "store": False, tmp_path / "cache": False}
    monkeypatch.setenv("RUSHES_STORE", "s3://bucket/prefix")
    assert mounts({}) == {home: False, tmp_path / "cache": False}
    monkeypatch.setenv("RUSHES_STORE", (tmp_path / "by url").as_uri().replace("%20", " "))
    assert (tmp_path / "by url") in mounts({}), "a folder, however it is written"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUSHES_STORE", "~/own")
    assert (tmp_path / "own") in mounts({})


def test_a_folder_that_is_read_and_written_is_written(home: Path) -> None:
    home.mkdir()
    assert mounts({"videos": str(home)}) == {home: False}


def test_variables_of_ours_and_of_the_servers_reach_a_step_and_others_do_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_PROGRESS", "/a/progress.jsonl")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    monkeypatch.setenv("PYTHONPATH", "/of/this/machine")
    monkeypatch.setenv("SECRET_OF_ANOTHER", "x")
    given = environment()
    assert given["RUSHES_PROGRESS"] == "/a/progress.jsonl"
    assert (given["MLFLOW_TRACKING_URI"], given["AWS_ENDPOINT_URL"]) == ("http://tracking", "http://store")
    assert given["RUSHES_HOME"] == str(home)
    assert not given.keys() & {"PYTHONPATH", "PATH", "SECRET_OF_ANOTHER"}


def test_steps_run_as_the_caller_beside_this_machines_servers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = docker_runner({}, folder=home / "runs" / "one").container_run_args
    assert given["user"] == f"{os.getuid()}:{os.getgid()}"
    assert (given["network_mode"], given["pid_mode"]) == ("host", "host")
    assert given["labels"]["rushes.run"] == str(home / "runs" / "one")


def test_the_images_are_those_of_the_compiled_pipeline() -> None:
    assert images(compiled_pipeline()) == [f"rushes/python:{tag()}"]


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    with pytest.raises(UserError, match=r"no Docker engine answers .*: start one"):
        require_docker(compiled_pipeline())


def test_the_command_ends_with_2_before_anything_starts_where_there_is_no_engine(tmp_path: Path) -> None:
    (tmp_path / "arguments.json").write_text("{}")
    command = [sys.executable, "-m", "rushes.orchestration.local", str(tmp_path), "--runner", "docker"]
    ran = subprocess.run(
        command, env=os.environ | {"DOCKER_HOST": NOWHERE}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "no Docker engine answers" in ran.stderr and "Traceback" not in ran.stderr


def test_a_kfp_that_runs_containers_in_another_way_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.local import docker_task_handler

    monkeypatch.setattr(docker_task_handler, "run_docker_container", lambda image: 0)
    with pytest.raises(UserError, match=r"kfp 2\.\S+ runs containers in a way that is not known"):
        docker_runner({}, folder=home)


# With an engine ------------------------------------------------------------------------------------------------------


def test_an_image_that_is_absent_is_asked_for_by_name(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "images", lambda _: [TINY, "rushes-test/none:1"])
    with pytest.raises(UserError, match="image rushes-test/none:1 is absent: build it with `make image`"):
        require_docker(compiled_pipeline())


def test_none_of_40_failing_containers_is_reported_as_a_success(engine: Any, home: Path, tmp_path: Path) -> None:
    """What kfp 2.17.0 does by itself now and then (kubeflow/pipelines#13332)."""
    kfps_runner = docker_runner({}, folder=home)
    with ThreadPoolExecutor(4) as pool:
        endings = list(pool.map(lambda n: run_in_kfp(f"exit {n}", tmp_path, kfps_runner), range(1, 41)))
    assert endings == ["FAILURE"] * 40
    assert run_in_kfp("exit 0", tmp_path, kfps_runner) == "SUCCESS"
    assert containers_of(engine, home) == []


def test_a_step_prints_and_writes_as_the_caller_and_only_into_the_home(
    engine: Any, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a checkout: the home and the run's outputs lie inside the repository of the videos."""
    videos, outputs = tmp_path / "data" / "videos", home / "runs" / "one" / "outputs"
    for folder in (videos, outputs, tmp_path / ".git"):
        folder.mkdir(parents=True)
    (videos / "film.mp4").write_text("frames\n")
    kfps_runner = docker_runner({"videos": str(videos)}, folder=home)
    script = f"read word < {videos}/film.mp4; echo $word $A; echo x > {outputs}/made; echo x > {home}/made; "
    assert run_in_kfp(f"{script} echo x > {videos}/spoilt", outputs, kfps_runner, {"A": "of the task"}) == "FAILURE"
    printed = capsys.readouterr().out
    assert "frames of the task" in printed and "Read-only file system" in printed
    assert {path.stat().st_uid for path in (home / "made", outputs / "made")} == {os.getuid()}
    assert not (videos / "spoilt").exists()


def test_a_container_ends_with_the_process_that_runs_it(engine: Any, home: Path) -> None:
    with sleeping(engine, home) as process:
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert containers_of(engine, home) == []


def test_what_a_killed_process_left_is_ended_by_the_next_and_nothing_else(
    engine: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sleeping(engine, home / "runs" / "killed") as process:
        process.kill()
    with sleeping(engine, home / "runs" / "at work") as process:
        monkeypatch.setenv("RUSHES_HOME", str(home.parent / "another"))
        end_orphans()
        assert len(containers_of(engine, home / "runs" / "killed")) == 1, "of another home"
        monkeypatch.setenv("RUSHES_HOME", str(home))
        end_orphans()
        assert containers_of(engine, home / "runs" / "killed") == []
        assert len(containers_of(engine, home / "runs" / "at work")) == 1, "its runner is alive"


@contextlib.contextmanager
def sleeping(engine: Any, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A runner whose container is up."""
    code = f"""
import docker
from pathlib import Path
from rushes.orchestration.docker import docker_runner, run_container
given = docker_runner({{}}, folder=Path({str(folder)!r})).container_run_args
run_container(docker.from_env(), {TINY!r}, ["/bin/sh", "-c", "/bin/busybox sleep 600"], {{}}, **given)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            while not any(container.status == "running" for container in containers_of(engine, folder)):
                assert process.poll() is None
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()


def containers_of(engine: Any, folder: Path) -> list[Any]:
    found: list[Any] = engine.containers.list(all=True, filters={"label": f"rushes.run={folder}"}, ignore_removed=True)
    return found
