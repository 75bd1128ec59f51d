"""The compiled pipeline under the rules of Kubeflow's launcher and of Argo: what its summary says is what happened."""

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rushes.cli import parse
from rushes.cli.workflow import Run
from rushes.orchestration.image import with_tag
from rushes.orchestration.local import compiled_pipeline
from rushes.serving.control_key import KEY_VARIABLE, read_key
from rushes.serving.environment import can_run_triton
from rushes.serving.server import address, start_triton, stop_triton
from rushes.serving.sidecar import Watcher, watch
from rushes.store import Store
from rushes.strict import to_record
from tests.integration.conftest import QUICK, Cli, free_ports
from tests.kubeflow.launcher import Cluster, Fault, RefusedError, check_outputs
from tests.s3 import S3, running

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore:Task .* have no effect:UserWarning")]


@dataclass
class World:
    """A cluster, its store, and how its runs ended."""

    cluster: Cluster
    store: Store
    videos: Path
    runs: int = 0

    def run(self, *more: str, endpoint: str = "clustered", **changes: Any) -> dict[str, Any]:
        """Runs the pipeline; returns the summary that its exit task wrote."""
        for name, value in ({"faults": {}, "retried": "OnFailure"} | changes).items():
            setattr(self.cluster, name, value)
        command = parse(["run", "pace-r2plus1d", "--size", "cpu", "--videos", str(self.videos), *QUICK, *more])
        assert isinstance(command, Run)
        models = [to_record(recipe) for recipe in command.models]
        arguments = {"videos": str(self.videos), "models": models, "endpoint": endpoint, "partitions": 2}
        self.runs += 1
        self.succeeded = self.cluster.run(
            with_tag(compiled_pipeline().read_text()), arguments, run_id=f"run-{self.runs}"
        )
        written = self.store.read(f"runs/run-{self.runs}/summary.json")
        assert written is not None, self.logs()
        found: dict[str, Any] = json.loads(written)
        return found

    def logs(self) -> str:
        folder = self.cluster.folder / f"run-{self.runs}"
        return "".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(folder.glob("*.log")))


@pytest.fixture(scope="module")
def world(cli: Cli, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Pods are another user's, who cannot look into pytest's folders: what they read and write lies beside these."""
    with tempfile.TemporaryDirectory() as name, running(tmp_path_factory.mktemp("s3")) as server:
        folder = Path(name)
        folder.chmod(0o777)
        shutil.copytree(videos, folder / "videos")
        for made in ("cache", "home"):
            (folder / made).mkdir()
            (folder / made).chmod(0o777)
        with pytest.MonkeyPatch.context() as patch:
            world = _world(folder, cli, server, patch)
            with replica(world, tmp_path_factory.mktemp("replica"), patch):
                yield world


@contextlib.contextmanager
def replica(world: World, home: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Triton with its reconciler, which the pods know by RUSHES_REPLICAS."""
    if (reason := can_run_triton()) is not None:
        pytest.skip(reason)
    first, *_, probes = free_ports(4)
    server = start_triton(home=home, port=first)
    patch.setenv(KEY_VARIABLE, str(read_key(home)))
    watcher, stop = Watcher(home=home, store=world.store, server=address(server)), threading.Event()
    thread = threading.Thread(target=watch, args=(watcher,), kwargs={"every": 0.5, "port": probes, "stop": stop})
    thread.start()
    world.cluster.settings = {**world.cluster.settings, "RUSHES_REPLICAS": f"127.0.0.1:{probes}"}
    try:
        yield
    finally:
        stop.set()
        thread.join()
        stop_triton(home=home)


def _world(folder: Path, cli: Cli, server: S3, patch: pytest.MonkeyPatch) -> World:
    for variable, value in server.environment.items():
        patch.setenv(variable, value)
    patch.setenv("RUSHES_HOME", str(folder / "home"))
    fsspec.filesystem("s3").mkdir("bucket")
    keys = {name: value for name, value in server.environment.items() if "KEY" in name}
    settings = {name: value for name, value in server.environment.items() if "KEY" not in name}
    settings |= {
        "RUSHES_STORE": "s3://bucket/store",
        "RUSHES_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{cli.extra['RUSHES_MLFLOW_PORT']}",
    }
    cluster = Cluster(folder / "runs", settings=settings, keys=keys)
    return World(cluster, Store("s3://bucket/store", cache=folder / "mine"), folder / "videos")


def test_a_run_in_which_a_step_fails_once_and_one_is_killed_at_its_deadline(world: World) -> None:
    faults = {
        "sample a part": [Fault(ends="failed")],
        "pretrain": [Fault(ends="deadline")],
    }
    summary = world.run(faults=faults)
    assert world.succeeded, world.logs()
    assert [attempt.ends for attempt in world.cluster.attempts["pretrain"]] == ["failed", "success"]
    assert [attempt.ends for attempt in world.cluster.attempts["sample a part"]] == ["failed", "success"]
    assert (summary["state"], summary["error"]) == ("SUCCEEDED", "")
    assert summary["decision"]["decision"] == "promoted"
    assert world.cluster.words[-1] == "RUNNING", "the word that no summary may believe"


def test_a_refused_first_model(world: World) -> None:
    summary = world.run("--finetune.epochs", "1", "--finetune.optimizer.lr", "1e-9", endpoint="refused")
    assert world.succeeded and world.cluster.refused == [], world.logs()
    assert (summary["state"], summary["error"], summary["champion"]) == ("SUCCEEDED", "", None)
    assert summary["decision"]["decision"] == "refused"


def test_a_step_that_is_not_tried_again_and_a_run_as_it_should_be(world: World) -> None:
    """By the defaults of Kubeflow Pipelines 2.17 only a pod that is lost is tried again."""
    summary = world.run(faults={"evaluate": [Fault(ends="failed")]}, retried="OnError")
    assert not world.succeeded
    assert summary["state"] == "STOPPED" and "out of memory" in summary["error"], summary
    assert len(world.cluster.attempts["evaluate"]) == 1
    again = world.run()
    assert world.succeeded, world.logs()
    assert world.cluster.words[-1] == "COMPLETE"
    assert (again["state"], again["error"]) == ("SUCCEEDED", "")


def test_a_run_that_a_person_terminates(world: World) -> None:
    summary = world.run(faults={"export": [Fault(ends="terminated")]})
    assert not world.succeeded
    assert "register" not in world.cluster.attempts
    assert summary["state"] in ("CANCELED", "STOPPED") and "a person terminated the run" in summary["error"]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [('{"champion": null}', "null"), ('{"top1": NaN}', "NaN"), ('{"text": "' + "x" * (5 << 20) + '"}', "larger")],
    ids=["null", "NaN", "too large"],
)
def test_the_stand_in_refuses_what_the_launcher_refuses(tmp_path: Path, metadata: str, words: str) -> None:
    written = tmp_path / "output.json"
    written.write_text(f'{{"artifacts": {{"decision": {{"artifacts": [{{"name": "d", "metadata": {metadata}}}]}}}}}}')
    given = json.dumps({"outputs": {"outputFile": str(written)}})
    with pytest.raises(RefusedError, match=words):
        check_outputs(["python3", "--executor_input", given])
