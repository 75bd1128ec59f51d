"""What must hold of a cluster, whichever it is: each scenario runs on the stand-ins and, by `make cluster-test`, live.

    target = Target(host="http://127.0.0.1:38888", store=open_store(), ...)
    success(target)

`tests.kubeflow.test_conformance` calls them, of a server that `RUSHES_TEST_PROFILE` names, or else of the stand-in with
scripts; `tests.integration.test_launcher` holds what `reports_agree` and `served` say against runs that it makes.
"""

import contextlib
import functools
import io
import json
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import yaml

from rushes.cli import main, parse
from rushes.cli.workflow import Run
from rushes.commands.follow import Started, follow
from rushes.commands.pipeline import Destination, named_now, start
from rushes.errors import RushesError
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.profile import read_profile
from rushes.kubeflow.workflow import Workflow
from rushes.ledger import Ledger
from rushes.orchestration.run import Arguments
from rushes.serving.replicas import await_replicas
from rushes.store import Store
from tests.integration.conftest import QUICK

MODEL = "pace-r2plus1d"
STRICT = ("--promote.confidence", "0.99999")
"""A gate that refuses every first model: no p-value of some thousand random swaps is that small."""
_ARGO = r"(?m)^(?:.*(?:-driver|executor|iteration|onExit|exit-handler)|root)\b.*: "
_PATIENCE = 600.0
"""Seconds until a pod runs."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that was followed to its end."""

    status: int
    """Of the command that followed it."""
    shown: str
    error: str
    """What it wrote to standard error, on one line."""
    run: str
    summary: Mapping[str, Any]

    @property
    def tasks(self) -> dict[str, str]:
        """The last state that was shown of each task."""
        return dict(re.findall(r"(?m)^([a-z].*?): ((?:pending|running|succeeded|failed)\b.*)$", self.shown))


def _deletes_none(pod: str) -> None:
    raise AssertionError(f"{pod}: nothing here deletes pods")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server of Kubeflow Pipelines, its store, and what is submitted to it."""

    host: str
    store: Store
    """Also that of RUSHES_STORE."""
    profile: str
    pipeline: Path
    """Compiled for the profile."""
    videos: str
    """Folder or URL of a few videos in classes, which pods can read."""
    lose: Callable[[str], object] = _deletes_none
    """Deletes a pod."""
    replicas: str = ""
    """host:port of the probes of Triton's replicas; empty where there are none."""
    recipe: Sequence[str] = QUICK

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The server."""
        return Cluster(self.host, experiment=read_profile(self.profile).experiment)

    def command(self, *words: str) -> tuple[int, str, str]:
        """Calls the command line here; returns exit status, output and errors."""
        with _captured() as (shown, error):
            status = main([*words, "--host", self.host])
        return status, shown.getvalue(), " ".join(error.getvalue().split())

    def run(self, *more: str, endpoint: str, videos: str = "") -> Ended:
        """`rushes pipeline submit --wait`."""
        to = ("--endpoint", endpoint, "--profile", self.profile, "--pipeline", str(self.pipeline), "--wait")
        status, shown, error = self.command("pipeline", "submit", *self._words(videos), *more, *to)
        found = re.search(r"(?m)^Run \S+ \((\S+)\) of ", shown)
        assert found, shown + error
        return self._ended(status, shown, error, found[1])

    def start(self, *, endpoint: str) -> Started:
        """The same without waiting."""
        command = parse(["run", *self._words("")])
        assert isinstance(command, Run)
        arguments = Arguments(models=command.models, endpoint=endpoint, data=command.data).to_record()
        to = Destination(profile=self.profile, pipeline=self.pipeline, host=self.host)
        with _captured():
            return start(arguments, to=to, name=named_now(endpoint))

    def follow(self, started: Started) -> Ended:
        """Follows a run that was started, as `--wait` does."""
        status, why = 0, ""
        with _captured() as (shown, _):
            try:
                follow(started)
            except RushesError as error:
                status, why = error.exit_code, str(error)
        return self._ended(status, shown.getvalue(), " ".join(why.split()), started.run)

    def workflow(self, run: str) -> Workflow:
        """A run's workflow, which the API's earlier version has to give."""
        found = self.cluster.workflow(run)
        assert found is not None, "the API's earlier version (v1beta1) does not give the workflow"
        return found

    def pod_of(self, started: Started, task: str) -> str:
        """Waits until a task's pod runs; returns its name."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            self.cluster.progress(started.run)
            workflow = self.cluster.workflow(started.run)  # it may not be there yet
            for found in workflow.tasks(started.pipeline.tasks, started.labels) if workflow else ():
                if (found.name, found.state) == (task, "RUNNING") and found.pod:
                    return found.pod
            time.sleep(0.2)
        raise AssertionError(f"no pod of {task} runs after {_PATIENCE:g} s")

    def terminate(self, run: str) -> None:
        """What a person does in Kubeflow's page of the run."""
        self.cluster._client.terminate_run(run)

    def _words(self, videos: str) -> list[str]:
        return [MODEL, "--size", "cpu", "--videos", videos or self.videos, *self.recipe]

    def _ended(self, status: int, shown: str, error: str, run: str) -> Ended:
        written = self.store.read(f"runs/{run}/summary.json")
        assert written is not None, f"run {run} has no summary: {shown}{error}"
        return Ended(status=status, shown=shown, error=error, run=run, summary=json.loads(written))


# What holds of every run ----------------------------------------------------------------------------------------------


def reports_agree(ended: Ended) -> None:
    """`--wait` says what the summary says, by the names of our tasks."""
    summary = ended.summary
    assert (ended.status == 0) == (summary["state"] == "SUCCEEDED"), ended
    decisions = re.findall(r"(?m)^Decision: (\w+) \((.*)\)$", ended.shown)
    expected = summary["decision"]
    assert decisions == ([(expected["decision"], expected["reason"])] if expected else []), ended
    assert re.findall(r"(?m)^Tried again: (.*)$", ended.shown) == list(summary["tried_again"]), ended
    assert not re.search(_ARGO, ended.shown), "nodes of Argo's are no tasks"
    if summary["error"] and "no step reported an error" not in summary["error"]:
        assert ended.error.endswith(" ".join(summary["error"].split())), ended


def served(target: Target, ended: Ended, *, endpoint: str) -> None:
    """Every replica serves what the run promoted, and its deployment says so."""
    last = Ledger(target.store, endpoint).last()
    assert last is not None and last.champion is not None
    champion = last.champion
    await_replicas(target.replicas, endpoint=endpoint, wanted=lambda: champion, seconds=120)
    (step,) = [step for step in ended.summary["steps"] if step["step"] == "deploy"]
    deployed = target.store.find(step["ref"])
    assert deployed is not None
    assert (deployed.summary["served_by"], deployed.summary["version"]) == ("triton", champion.version)


# Scenarios ------------------------------------------------------------------------------------------------------------


def success(target: Target) -> None:
    """A model is promoted and served, and its pipeline is uploaded once."""
    endpoint = _new("success")
    ended = target.run(endpoint=endpoint)
    reports_agree(ended)
    assert ended.status == 0 and set(ended.tasks.values()) == {"succeeded"}, ended
    parts = read_profile(target.profile).partitions
    sampled = {f"sample a part {part}/{parts}" for part in range(1, parts + 1)}
    assert sampled | {"pin", f"pretrain {MODEL}", f"finetune {MODEL}", "deploy", "summary"} <= ended.tasks.keys()
    assert ended.summary["decision"]["decision"] == "promoted"
    if target.replicas:
        served(target, ended, endpoint=endpoint)
    pipeline = Pipeline.read(target.pipeline)
    uploaded = target.cluster.version_id(pipeline)
    target.cluster.provide(pipeline)
    assert target.cluster.version_id(pipeline) == uploaded is not None


def refused_promotion(target: Target) -> None:
    """A run whose model is refused has succeeded, and deploys nothing."""
    ended = target.run(*STRICT, endpoint=_new("refused"))
    reports_agree(ended)
    assert (ended.status, ended.summary["champion"]) == (0, None), ended
    assert ended.summary["decision"]["decision"] == "refused" and "deploy" not in ended.tasks


def failing_step(target: Target) -> None:
    """The step's own message is shown, after as many attempts as the server's policy allows."""
    ended = target.run(endpoint=_new("failing"), videos=f"{target.videos}-that-are-not-there")
    reports_agree(ended)
    assert (ended.status, ended.summary["state"]) == (1, "FAILED"), ended
    assert "run: failed: pin: " in ended.error
    retried = target.workflow(ended.run).retry_policy in ("OnFailure", "Always")
    attempts = 1 + read_profile(target.profile).retry.count if retried else 1
    shown = f"failed, attempt {attempts}:" if attempts > 1 else "failed:"
    assert f"{ended.tasks['pin']}:".startswith(shown), ended.tasks


def lost_pod(target: Target) -> None:
    """A pod that is gone with its node is replaced, where the server's policy says so, and the run then succeeds."""
    started = target.start(endpoint=_new("lost"))
    target.lose(target.pod_of(started, "pin"))
    ended = target.follow(started)
    reports_agree(ended)
    retried = target.workflow(ended.run).retry_policy in ("OnError", "Always")
    assert ended.status == (0 if retried else 1), ended
    assert not retried or ended.tasks["pin"] == "succeeded, attempt 2", ended.tasks


def terminated_run(target: Target) -> None:
    """A run that a person terminates is reported as such, not as one that failed."""
    started = target.start(endpoint=_new("terminated"))
    target.pod_of(started, "pin")
    target.terminate(started.run)
    ended = target.follow(started)
    reports_agree(ended)
    assert ended.status == 1 and "run: terminated by a person" in ended.error, ended
    assert ended.summary["state"] in ("CANCELED", "STOPPED"), ended.summary


def schedules_applied_twice(target: Target) -> None:
    """A second apply changes nothing; a changed schedule is changed, and one that is gone is removed."""
    with _schedules(target) as apply:
        assert apply(cron="0 0 2 1 JAN *") == ["create"]
        assert apply(cron="0 0 2 1 JAN *") == ["keep"]
        assert apply(cron="0 0 3 1 JAN *") == ["change"]
        assert apply(cron="0 0 3 1 JAN *") == ["keep"]
        assert apply(cron="0 0 3 1 JAN *", enabled=False) == ["disable"]


def check_per_change(target: Target) -> None:
    """`schedules check` submits one run whenever the data has changed."""
    videos, runs = f"{target.videos}-{_new('checked')}", []
    with _schedules(target, videos=videos) as apply:
        try:
            for number, content in enumerate((b"a film", b"another film"), start=1):
                _write(f"{videos}/{number}.mp4", content)
                apply(cron="0 0 2 1 JAN *")
                assert (apply.check(), apply.check()) == ("submitted", "unchanged")
                runs.append(apply.submitted(number))
                assert target.cluster.progress(runs[-1]).state
        finally:
            for run in runs:
                target.terminate(run)


SCENARIOS: tuple[Callable[[Target], None], ...] = (
    success,
    refused_promotion,
    failing_step,
    lost_pod,
    terminated_run,
    schedules_applied_twice,
    check_per_change,
)


class _Schedules:
    """A file with one schedule, in an experiment of its own."""

    def __init__(self, target: Target, folder: Path, videos: str) -> None:
        self.target, self.file, self.videos = target, folder / "schedules.yaml", videos
        self.experiment = _new("schedules")

    def __call__(self, **changes: Any) -> list[str]:
        """Applies it; returns what that did to schedules."""
        entry = {
            "name": "yearly",
            "pipeline": Pipeline.read(self.target.pipeline).digest,
            "data": {"videos": self.videos},
            "parameters": {"endpoint": "scheduled", "models": [MODEL]},
        }
        return self.apply(entry | changes)

    def apply(self, *entries: Mapping[str, Any]) -> list[str]:
        self.file.write_text(yaml.safe_dump({"experiment": self.experiment, "schedules": [*entries]}))
        shown = self._command("apply")
        return re.findall(r"(?m)^\s*(create|change|keep|enable|disable|remove) +yearly\b", shown)

    def check(self) -> str:
        """What a check did."""
        (kind,) = re.findall(r"(?m)^\s*yearly +(\w+)", self._command("check"))
        return str(kind)

    def submitted(self, number: int) -> str:
        """ID of the run of a check."""
        record = self.target.store.read(f"schedules/{self.experiment}/yearly/runs/{number:06d}.json")
        assert record is not None
        return str(json.loads(record)["run"])

    def _command(self, verb: str) -> str:
        words = ("schedules", verb, str(self.file), "--pipeline", str(self.target.pipeline))
        status, shown, error = self.target.command(*words)
        assert status == 0, shown + error
        return shown


@contextlib.contextmanager
def _schedules(target: Target, *, videos: str = "") -> Iterator[_Schedules]:
    """Schedules that are removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        made = _Schedules(target, Path(folder), videos or target.videos)
        try:
            yield made
        finally:
            assert made.apply() in ([], ["remove"])


@contextlib.contextmanager
def _captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        yield out, error


def _new(name: str) -> str:
    """A name that no earlier run of the tests has used."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def _write(url: str, content: bytes) -> None:
    files, path = fsspec.core.url_to_fs(url)
    if "://" not in url:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.pipe_file(path, content)
