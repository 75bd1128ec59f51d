"""The compiled pipeline under the rules of Kubeflow's launcher and of Argo: its summary and `--wait` say what happened.

Runs are submitted to a stand-in server, which runs them by the launcher's rules; the command follows them there, and
reads the journal that their steps write.
"""

import contextlib
import dataclasses
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

from rushes.commands import follow
from rushes.home import open_store
from rushes.orchestration.local import compiled_pipeline
from rushes.serving.control_key import KEY_VARIABLE, read_key
from rushes.serving.environment import can_run_triton
from rushes.serving.server import address, start_triton, stop_triton
from rushes.serving.sidecar import Watcher, watch
from rushes.store import Store
from tests.integration.conftest import Cli, free_ports
from tests.kubeflow.conformance import STRICT, Ended, Target, reports_agree, served
from tests.kubeflow.launcher import Cluster, Fault, RefusedError, check_outputs
from tests.kubeflow.server import serving
from tests.s3 import S3, running

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore:Task .* have no effect:UserWarning")]


@dataclass
class World:
    """A cluster, its server and its store."""

    cluster: Cluster
    target: Target

    def run(self, *more: str, endpoint: str = "clustered", **changes: Any) -> Ended:
        """Submits a run and follows it to its end; `--wait`, the summary and Argo have to agree about it."""
        for name, value in ({"faults": {}, "retried": "OnFailure"} | changes).items():
            setattr(self.cluster, name, value)
        ended = self.target.run(*more, endpoint=endpoint)
        self.cluster.thread.join()
        assert not self.cluster.broken, self.cluster.broken
        reports_agree(ended)
        assert (ended.status == 0) == (self.cluster.state == "SUCCEEDED"), self.logs()
        for name, attempts in self.cluster.attempts.items():
            shown = {state for task, state in ended.tasks.items() if task.startswith(name)}
            count = f", attempt {len(attempts)}" if len(attempts) > 1 else ""
            word = "succeeded" if attempts[-1].ends == "success" else "failed"
            assert any(state.partition(":")[0] == f"{word}{count}" for state in shown), (name, ended.shown)
        return ended

    def logs(self) -> str:
        folder = self.cluster.folder / self.cluster.run_id
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
        with pytest.MonkeyPatch.context() as patch, serving() as kubeflow:
            cluster = _cluster(folder, cli, server, patch)
            kubeflow.start, kubeflow.retry_policy = cluster.start, ""
            patch.setattr(follow, "_POLL_SECONDS", 1.0)
            (folder / "profile.yaml").write_text("partitions: 2\n")
            target = Target(
                host=kubeflow.url,
                store=open_store(),
                profile=str(folder / "profile.yaml"),
                pipeline=compiled_pipeline(),
                videos=str(folder / "videos"),
            )
            with replica(cluster, target.store, tmp_path_factory.mktemp("replica"), patch) as replicas:
                yield World(cluster, dataclasses.replace(target, replicas=replicas))


@contextlib.contextmanager
def replica(cluster: Cluster, store: Store, home: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Triton with its reconciler, which the pods know by RUSHES_REPLICAS."""
    if (reason := can_run_triton()) is not None:
        pytest.skip(reason)
    first, *_, probes = free_ports(4)
    server = start_triton(home=home, port=first)
    patch.setenv(KEY_VARIABLE, str(read_key(home)))
    watcher, stop = Watcher(home=home, store=store, server=address(server)), threading.Event()
    thread = threading.Thread(target=watch, args=(watcher,), kwargs={"every": 2.0, "port": probes, "stop": stop})
    thread.start()
    replicas = f"127.0.0.1:{probes}"
    cluster.settings = {**cluster.settings, "RUSHES_REPLICAS": replicas}
    try:
        yield replicas
    finally:
        stop.set()
        thread.join()
        stop_triton(home=home)


def _cluster(folder: Path, cli: Cli, server: S3, patch: pytest.MonkeyPatch) -> Cluster:
    """Also makes this process one that reads the cluster's store."""
    for variable, value in server.environment.items():
        patch.setenv(variable, value)
    patch.setenv("RUSHES_HOME", str(folder / "home"))
    patch.setenv("RUSHES_STORE", "s3://bucket/store")
    patch.setenv("RUSHES_CACHE", str(folder / "mine"))
    fsspec.filesystem("s3").mkdir("bucket")
    keys = {name: value for name, value in server.environment.items() if "KEY" in name}
    settings = {name: value for name, value in server.environment.items() if "KEY" not in name}
    settings |= {
        "RUSHES_STORE": "s3://bucket/store",
        "RUSHES_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{cli.extra['RUSHES_MLFLOW_PORT']}",
    }
    return Cluster(folder / "runs", settings=settings, keys=keys)


def test_a_run_in_which_a_step_fails_once_and_one_is_killed_at_its_deadline(world: World) -> None:
    faults = {
        "sample a part": [Fault(ends="failed")],
        "pretrain": [Fault(ends="deadline")],
    }
    ended = world.run(faults=faults)
    assert ended.status == 0, world.logs()
    assert [attempt.ends for attempt in world.cluster.attempts["pretrain"]] == ["failed", "success"]
    assert [attempt.ends for attempt in world.cluster.attempts["sample a part"]] == ["failed", "success"]
    again = ("sample a part 1/2", "sample a part 2/2", "pretrain pace-r2plus1d")
    assert {task for task, state in ended.tasks.items() if state == "succeeded, attempt 2"} == set(again)
    assert (ended.summary["state"], ended.summary["error"]) == ("SUCCEEDED", "")
    assert ended.summary["decision"]["decision"] == "promoted"
    assert world.cluster.words[-1] == "RUNNING", "the word that no summary may believe"
    served(world.target, ended, endpoint="clustered")


def test_a_refused_first_model(world: World) -> None:
    ended = world.run(*STRICT, endpoint="refused")
    assert ended.status == 0 and world.cluster.refused == [], world.logs()
    summary = ended.summary
    assert (summary["state"], summary["error"], summary["champion"]) == ("SUCCEEDED", "", None)
    assert summary["decision"]["decision"] == "refused" and "deploy" not in ended.tasks


def test_a_step_that_is_not_tried_again_and_a_run_as_it_should_be(world: World) -> None:
    """By the defaults of Kubeflow Pipelines 2.17 only a pod that is lost is tried again."""
    ended = world.run(faults={"finetune": [Fault(ends="failed")]}, retried="OnError")
    assert ended.status == 1
    assert ended.summary["state"] == "STOPPED" and "out of memory" in ended.summary["error"], ended
    assert ended.error.endswith("run: failed: finetune pace-r2plus1d: main: OOMKilled (exit code 137)")
    assert len(world.cluster.attempts["finetune"]) == 1
    again = world.run()
    assert again.status == 0, world.logs()
    assert world.cluster.words[-1] == "COMPLETE"
    assert (again.summary["state"], again.summary["error"]) == ("SUCCEEDED", "")


def test_a_run_that_a_person_terminates(world: World) -> None:
    ended = world.run(faults={"pretrain": [Fault(ends="terminated")]})
    assert ended.status == 1
    assert "finetune" not in world.cluster.attempts
    summary, why = ended.summary, "pretrain pace-r2plus1d: workflow shutdown with strategy: Terminate"
    assert summary["state"] in ("CANCELED", "STOPPED") and "a person terminated the run" in summary["error"]
    assert ended.error.endswith(f"run: terminated by a person: {why}")


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
