"""The scenarios of `tests.kubeflow.conformance`: on the stand-in, with scripts; by `make cluster-test`, live.

    RUSHES_TEST_PROFILE=mine.yaml       of the live server; without it, the stand-in is used
    RUSHES_TEST_VIDEOS=s3://rushes/test where the tests put their videos, which the pods can read
    RUSHES_TEST_PODS="kubectl -n kubeflow"      how its pods are reached
    RUSHES_STORE, RUSHES_REPLICAS       as for its pods, but as this machine reaches them

Not tried on a cluster: what has run is the stand-in.
"""

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.kind.upload import upload
from rushes.commands import follow
from rushes.commands.pipeline import compile_pipeline
from rushes.home import open_store
from rushes.journal import Journal, work_of
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.profile import read_profile
from rushes.orchestration.local import compiled_pipeline
from rushes.orchestration.summary import summary_of
from rushes.serving.replicas import VARIABLE
from rushes.store import Manifest
from tests.integration.conftest import write_videos
from tests.kubeflow import conformance
from tests.kubeflow.conformance import SCENARIOS, Target
from tests.kubeflow.server import Kubeflow, Look, Record, serving

LIVE = os.environ.get("RUSHES_TEST_PROFILE", "")
BROKEN = "FAILED(main: Error (exit code 2))"
LOST = "ERROR(pod deleted)"
TERMINATED = "FAILED(workflow shutdown with strategy: Terminate)"
DONE = {
    "pin": "SUCCEEDED",
    "sample": ["SUCCEEDED", "SUCCEEDED"],
    "sample-2": "SUCCEEDED",
    "pretrain": ["SUCCEEDED"],
    "finetune": ["SUCCEEDED"],
    "promote": "SUCCEEDED",
    "summary": "SUCCEEDED",
}


@dataclass(frozen=True, kw_only=True)
class Script:
    """What a run on the stand-in does."""

    end: Look = ("SUCCEEDED", DONE | {"deploy": "SUCCEEDED"})
    waits_for: str = ""
    """Its pin runs until the run is `terminated`, or its pod `lost`."""
    journal: Sequence[tuple[str, str, str]] = (("end", "promote", ""), ("end", "deploy", ""))
    """Event, step, and what it was for or said."""
    decision: str = "promoted"


STOPPED = Script(
    end=("FAILED", {"pin": TERMINATED, "summary": "SUCCEEDED"}),
    waits_for="terminated",
    journal=[("start", "pin", "")],
)
FAILING = [("error", "pin", "videos: 's3://b/none' has no videos")] * 3
SCRIPTS: Mapping[str, Script] = {
    "refused_promotion": Script(end=("SUCCEEDED", DONE), journal=[("end", "promote", "")], decision="refused"),
    "failing_step": Script(
        end=("FAILED", {"pin": f"{BROKEN}>{BROKEN}>{BROKEN}", "summary": "SUCCEEDED"}), journal=FAILING
    ),
    "lost_pod": Script(end=("SUCCEEDED", DONE | {"deploy": "SUCCEEDED", "pin": f"{LOST}>SUCCEEDED"}), waits_for="lost"),
    "terminated_run": STOPPED,
    "check_per_change": STOPPED,
}
"""Of the runs of a scenario, if it is not Script()."""
WRONG: Sequence[tuple[str, str, Script]] = (
    ("success", "Always", Script(end=("FAILED", DONE | {"deploy": BROKEN}))),
    ("success", "Always", Script(decision="refused")),
    ("success", "Always", Script(end=("SUCCEEDED", DONE | {"deploy": "SUCCEEDED", "pin": f"{BROKEN}>SUCCEEDED"}))),
    ("refused_promotion", "Always", Script()),
    ("failing_step", "Always", Script(end=("FAILED", {"pin": BROKEN}), journal=FAILING)),
    ("failing_step", "OnError", SCRIPTS["failing_step"]),
    ("failing_step", "Always", Script(end=("FAILED", {"pin": BROKEN}), journal=[("start", "pin", "")])),
    ("lost_pod", "OnError", Script(end=("FAILED", {"pin": LOST}), waits_for="lost", journal=[])),
    ("lost_pod", "Always", Script(waits_for="lost")),
    ("terminated_run", "Always", Script(waits_for="terminated")),
)
"""What a server may not do: scenario, policy of retries, and runs."""


@dataclass
class Stage:
    """The stand-in, whose runs follow a script."""

    server: Kubeflow
    script: Script = field(default_factory=Script)
    lost: threading.Event = field(default_factory=threading.Event)

    def start(self, run: Record, compiled: str) -> Callable[[], Look]:
        """Begins a run; its journal and summary are there once it has ended."""
        script, running = self.script, {"pin": "RUNNING"}
        self.lost.clear()

        def look() -> Look:
            if not {"": True, "lost": self.lost.is_set(), "terminated": "CANCELING" in _states(run)}[script.waits_for]:
                return ("RUNNING", running)
            if run["state"] not in ("SUCCEEDED", "FAILED"):
                written(run, script)
            return script.end

        return look


def _states(run: Record) -> list[str]:
    return [entry["state"] for entry in run.get("state_history", ())]


def written(run: Record, script: Script) -> None:
    """Writes the journal and the summary as a run's steps would."""
    store, name = open_store(), run["run_id"]
    summary = {"decision": script.decision, "reason": "a reason"}
    decision = Manifest(
        kind="decision", step="promote", digest=name, inputs={}, config={}, code="", files={}, summary=summary
    )
    store.publish(decision)
    for event, step, text in script.journal:
        if event == "error":
            Journal(store, name).add(event, step=step, message=text)
        else:
            with work_of(text):
                Journal(store, name).add(event, step=step, seconds=1.0, cached=False, ref=f"{step}/{name}")
    endpoint = run["runtime_config"]["parameters"]["endpoint"]
    record = summary_of(store, run=name, endpoint=endpoint, state="RUNNING", error="")
    store.write(f"runs/{name}/summary.json", json.dumps(record).encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tests' videos, where the pods can read them."""
    folder = tmp_path_factory.mktemp("videos") / "motion"
    write_videos(folder, files=16 if LIVE else 1)
    if not LIVE:
        return str(folder)
    url = os.environ["RUSHES_TEST_VIDEOS"]
    upload(folder, url)
    return url


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with serving() as server:
        stage = Stage(server)
        server.start = stage.start
        yield stage


@pytest.fixture
def target(
    stage: Stage,
    videos: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Target:
    """The live server, or the stand-in."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    if LIVE:
        return live(LIVE, videos, tmp_path)
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    stage.server.retry_policy = "Always"
    (tmp_path / "stand-in.yaml").write_text("partitions: 2\n")
    return Target(
        host=stage.server.url,
        store=open_store(),
        profile=str(tmp_path / "stand-in.yaml"),
        pipeline=compiled_pipeline(),
        videos=videos,
        lose=lambda pod: stage.lost.set(),
    )


def live(profile: str, videos: str, folder: Path) -> Target:
    """The server that a profile names."""
    pipeline, pods = folder / "pipeline.yaml", shlex.split(os.environ["RUSHES_TEST_PODS"])
    compile_pipeline(profile, comparison=False, out=pipeline)
    return Target(
        host=read_profile(profile).host,
        store=open_store(),
        profile=profile,
        pipeline=pipeline,
        videos=videos,
        lose=lambda pod: subprocess.run([*pods, "delete", "pod", pod, "--wait=false"], check=True),
        replicas=os.environ.get(VARIABLE, ""),
    )


def named(value: Any) -> str:
    return str(getattr(value, "__name__", ""))


@pytest.mark.timeout(7200 if LIVE else 120)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_what_holds_of_a_cluster(scenario: Callable[[Target], None], stage: Stage, target: Target) -> None:
    stage.script = SCRIPTS.get(scenario.__name__, Script())
    scenario(target)


@pytest.mark.skipif(bool(LIVE), reason="a live server cannot be made to do wrong")
@pytest.mark.parametrize(("name", "policy", "script"), WRONG)
def test_a_server_that_does_otherwise_is_found_out(
    name: str, policy: str, script: Script, stage: Stage, target: Target
) -> None:
    stage.script, stage.server.retry_policy = script, policy
    with pytest.raises(AssertionError):
        getattr(conformance, name)(target)


@pytest.mark.skipif(bool(LIVE), reason="this is about the stand-in")
def test_a_live_server_is_what_the_profile_and_the_environment_name(
    stage: Stage, videos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RUSHES_STORE", raising=False)
    monkeypatch.setenv("RUSHES_TEST_PODS", "echo kubectl -n 'a namespace'")
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"host: {stage.server.url}\npartitions: 2\nexperiment: mine\n")
    target, stage.script = live(str(profile), videos, tmp_path), SCRIPTS["refused_promotion"]
    conformance.refused_promotion(target)
    (experiment,) = [one for one in stage.server.experiments.values() if one["display_name"] == "mine"]
    (run,) = [one for one in stage.server.runs.values() if one["experiment_id"] == experiment["experiment_id"]]
    digests = {record["description"] for record in stage.server.versions.values()}
    assert run["description"] in digests and run["description"] == Pipeline.read(target.pipeline).digest
    target.lose("a-pod")
    assert capfd.readouterr().out.endswith("kubectl -n a namespace delete pod a-pod --wait=false\n")


def test_every_script_is_of_a_scenario() -> None:
    names = {scenario.__name__ for scenario in SCENARIOS}
    assert {*SCRIPTS, *(name for name, _, _ in WRONG)} <= names
