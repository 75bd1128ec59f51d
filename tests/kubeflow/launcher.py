"""Kubeflow's launcher and Argo as rules for kfp.local: the tasks of a compiled pipeline as a cluster would run them.

    cluster = Cluster(folder, settings={"RUSHES_STORE": "s3://bucket/store"}, keys={"AWS_ACCESS_KEY_ID": "a"})
    cluster.run(Path("pipelines/pipeline.yaml"), {"videos": "/videos", ...})
    cluster.state, cluster.attempts["pretrain"]

    server.start = cluster.start        # a stand-in server runs here what is submitted to it

kfp.local resolves inputs, loops, conditions and the exit task. Here is what the servers' sources say beyond that:

- A pod has the environment that its task names, from values, ConfigMaps, Secrets and labels, on that of the image. The
  launcher shares it, and nothing of the caller's is in it.
- Its user owns no home and nothing of the image: it may write to its volumes and to /tmp (where `setpriv` can say so).
- The file of outputs is JSON by protobuf's rules, without NaN; no value of an artifact's metadata may be null, and
  the artifact is at most 4 MB.
- Attempts begin and end as Argo says (`tests.kubeflow.argo`), by a clock of its own.
- The exit task is told a word of the metadata server, which often is RUNNING, and no message.
- What the API server knows of a run are its state and Argo's words about each attempt.

No scheduling, no images, no volumes, and not the API server: `tests.kubeflow.server` stands for that.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import yaml
from google.protobuf import json_format
from kfp import components, local
from kfp.local import status, subprocess_task_handler
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.pipeline_spec import pipeline_spec_pb2

from rushes.orchestration.image import yaml_documents
from tests.kubeflow.argo import Attempt, Fate, Retried, Strategy, attempts
from tests.kubeflow.server import Look, Record

UID = 10001
METADATA_BYTES = 4 << 20
"""Of MLMD's messages in Kubeflow Pipelines up to 2.15; later ones take 100 MB."""
ARGUMENT_BYTES = 128 << 10
"""Of one argument of a process, by Linux."""
EXIT_TASK = "summary"
_EXECUTOR = "TESTS_EXECUTOR"
_SAID = {
    "failed": "main: OOMKilled (exit code 137)",
    "pod lost": "pod deleted",
    "deadline": "Pod was active on the node longer than the specified deadline",
    "terminated": "workflow shutdown with strategy: Terminate",
}
"""Argo's message of a pod that was ended so."""
_ERROR = "main: Error (exit code 1)"
Word = Literal["COMPLETE", "FAILED", "RUNNING", "CANCELED"]


class RefusedError(Exception):
    """What a task gave is refused by the launcher: the task fails, although its work is done."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What ends a pod."""

    ends: Literal["failed", "pod lost", "deadline", "terminated"]
    """failed: its main container is killed, as for too much memory; deadline: after its whole timeout; terminated: a
    person ends the run."""
    when: Callable[[], bool] = lambda: True
    """Asked again and again while it runs."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """What the compiled pipeline says of a task's pods."""

    name: str
    task: str
    """Its name in the compiled file."""
    environment: Mapping[str, str]
    timeout: float
    strategy: Strategy


@dataclass
class Cluster:
    """A cluster that runs one pipeline after the other.

    Args:
        folder: for the runs' files.
        settings: the ConfigMap.
        keys: the Secret.
        retried: what the installation tries again.
        faults: of the first attempts of tasks, by the name that the pipeline gives them.
    """

    folder: Path
    settings: Mapping[str, str]
    keys: Mapping[str, str]
    retried: Retried = "OnFailure"
    faults: Mapping[str, Sequence[Fault]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run_id = ""
        self.state = "PENDING"
        """The run's, as the API server gives it."""
        self.tasks: dict[str, list[list[str]]] = {}
        """State and message of each attempt, by iteration, by the task's name in the compiled file."""
        self.attempts: dict[str, list[Attempt]] = {}
        self.refused: list[str] = []
        self.words: list[Word] = []
        """What the exit task of each run was told."""
        self.broken: list[Exception] = []
        """Errors of this stand-in itself, in runs that a server started."""
        self.thread = threading.Thread()
        """Of the run that a server started last."""
        self._terminated = threading.Event()
        self._unseen = self._failed = False

    def start(self, run: Record, compiled: str) -> Callable[[], Look]:
        """Starts a run that a server was given; returns what looks at it find."""
        self.state, self.tasks = "PENDING", {}

        def execute() -> None:
            try:
                self.run(compiled, run["runtime_config"]["parameters"], run_id=run["run_id"])
            except Exception as error:
                self.broken.append(error)
                self.state = "FAILED"

        self.thread = threading.Thread(target=execute)
        self.thread.start()
        return self.look

    def look(self) -> Look:
        """State of the run and of its tasks."""
        state = "CANCELING" if self.state == "RUNNING" and self._terminated.is_set() else self.state
        return state, {name: [">".join(attempts) for attempts in parts] for name, parts in list(self.tasks.items())}

    def run(self, compiled: str, arguments: Mapping[str, Any], *, run_id: str) -> bool:
        """Runs a compiled pipeline to its end; returns whether all tasks succeeded."""
        self.run_id, self.attempts, self.refused = run_id, {}, []
        self.state, self.tasks = "RUNNING", {}
        self._terminated.clear()
        self._unseen = self._failed = False
        succeeded = self._execute(compiled, arguments)
        self.state = "SUCCEEDED" if succeeded else "FAILED"
        return succeeded

    def _execute(self, compiled: str, arguments: Mapping[str, Any]) -> bool:
        folder = self.folder / self.run_id
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        pods, text = self._pods(compiled)
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(folder),
            workspace_root=str(folder),
            raise_on_error=True,
        )
        with _rules(self, pods, folder):
            try:
                components.load_component_from_text(text)(**arguments)
            except RuntimeError:
                return False
        return True

    def word(self) -> Word:
        """The state of the run by the metadata server, which only launchers write to."""
        if self._terminated.is_set() or self._unseen:
            return "RUNNING"
        if self._failed:
            return "FAILED"
        return "COMPLETE" if "deploy" in self.attempts else "RUNNING"  # a condition that does not hold is no success

    def attempt(self, command: Sequence[str], pod: Pod, folder: Path, fault: Fault | None) -> Fate:
        """Runs a pod to its end."""
        if max(map(len, command)) > ARGUMENT_BYTES:
            raise RefusedError(f"{pod.name}: an argument of {max(map(len, command)):,} bytes")
        log = folder / f"{pod.name.replace(' ', '-')}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*_other_user(), *command],
                cwd="/",
                env=self._environment(pod),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            killed = self._wait(process, pod, fault)
        if killed is not None:
            self._unseen = True
            if killed == "terminated":
                self._terminated.set()
            ends: Literal["failed", "pod lost"] = "pod lost" if killed == "pod lost" else "failed"
            runs = pod.timeout + 1 if killed == "deadline" else 1.0
            return Fate(pending=1.0, runs=runs, ends=ends, message=_SAID[killed])
        if process.returncode:
            self._failed = True
            return Fate(pending=1.0, runs=1.0, ends="failed", message=_ERROR)
        try:
            check_outputs(command)
        except RefusedError as error:
            self._failed = True
            self.refused.append(f"{pod.name}: {error}")
            return Fate(pending=1.0, runs=1.0, ends="failed", message=_ERROR)
        return Fate(pending=1.0, runs=1.0, ends="success")

    def _wait(self, process: "subprocess.Popen[bytes]", pod: Pod, fault: Fault | None) -> str | None:
        """Until the pod has ended; what ended it, if not itself. A person's word spares the exit task."""
        while process.poll() is None:
            due = fault is not None and fault.when()
            if due or (self._terminated.is_set() and pod.name != EXIT_TASK):
                os.killpg(process.pid, 9)
                process.wait()
                return fault.ends if fault is not None and due else "terminated"
            time.sleep(0.02)
        return None

    def is_terminated(self) -> bool:
        """Whether a person has ended the run: nothing but the exit task begins any more."""
        return self._terminated.is_set()

    def _environment(self, pod: Pod) -> dict[str, str]:
        image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "HOME": "/"}
        image |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        return image | dict(pod.environment)

    def _pods(self, compiled: str) -> tuple[dict[str, Pod], str]:
        """The pods of each executor, and the pipeline without retries, in which each executor knows its name."""
        pipeline, platform = yaml_documents(compiled)
        settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        pods = {}
        for component in [pipeline["root"], *pipeline["components"].values()]:
            for key, task in component.get("dag", {}).get("tasks", {}).items():
                inner = pipeline["components"][task["componentRef"]["name"]]
                if "executorLabel" in inner:
                    label = inner["executorLabel"]
                    pods[label] = Pod(
                        name=task["taskInfo"]["name"],
                        task=key,
                        environment=self._variables(pipeline["deploymentSpec"]["executors"][label], settings[label]),
                        timeout=float(settings[label]["activeDeadlineSeconds"]),
                        strategy=Strategy.of(task, retried=self.retried),
                    )
                    del task["retryPolicy"]
                if "parameterIterator" in task:
                    task["iteratorPolicy"] = {"parallelismLimit": 1}
        for label, executor in pipeline["deploymentSpec"]["executors"].items():
            executor["container"].setdefault("env", []).append({"name": _EXECUTOR, "value": label})
        return pods, yaml.safe_dump_all([pipeline, platform], sort_keys=False)

    def _variables(self, executor: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """A pod's environment variables; one that is demanded and missing keeps the pod from starting."""
        found = {entry["name"]: entry["value"] for entry in executor["container"].get("env", ())}
        for source, key in (
            *((source, "configMapKey") for source in settings.get("configMapAsEnv", ())),
            *((source, "secretKey") for source in settings.get("secretAsEnv", ())),
        ):
            values = self.settings if key == "configMapKey" else self.keys
            for entry in source["keyToEnv"]:
                if entry[key] in values:
                    found[entry["envVar"]] = values[entry[key]]
                elif not source.get("optional"):
                    raise RefusedError(f"CreateContainerConfigError: couldn't find key {entry[key]}")
        for entry in settings.get("fieldPathAsEnv", ()):
            assert entry["fieldPath"] == "metadata.labels['pipeline/runid']"
            found[entry["name"]] = self.run_id
        return found


def check_outputs(command: Sequence[str]) -> None:
    """Reads what a task's executor wrote as the launcher does.

    Raises:
        RefusedError: the launcher would fail the task.
    """
    given = json.loads(command[list(command).index("--executor_input") + 1])
    path = Path(given["outputs"]["outputFile"])
    if not path.exists():
        return
    text, found = path.read_text(), pipeline_spec_pb2.ExecutorOutput()
    try:
        json.loads(text, parse_constant=_no_constant)
        json_format.Parse(text, found)
    except (ValueError, json_format.ParseError) as error:
        raise RefusedError(f"proto: syntax error: {error}") from None
    for name, artifacts in found.artifacts.items():
        for artifact in artifacts.artifacts:
            for key, value in artifact.metadata.fields.items():
                if value.WhichOneof("kind") in (None, "null_value"):
                    raise RefusedError(f"unable to produce MLMD artifact {name!r}: unsupported type of {key!r}: null")
            if (size := artifact.ByteSize()) > METADATA_BYTES:
                raise RefusedError(f"received message larger than max ({size} vs. {METADATA_BYTES}): {name!r}")


def _shown(fate: Fate) -> str:
    """An attempt's end as `tests.kubeflow.workflows` has it."""
    state = {"success": "SUCCEEDED", "pod lost": "ERROR"}.get(fate.ends, "FAILED")
    return f"{state}({fate.message})" if fate.message else state


def _no_constant(text: str) -> float:
    raise ValueError(f"invalid value {text}")


@functools.cache
def _other_user() -> tuple[str, ...]:
    """Another user, who may read everything, as from an image that holds it; nobody else where this cannot be."""
    reads = "-all,+dac_read_search"
    command = (
        *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs"),
        *("--inh-caps", reads, "--ambient-caps", reads, "--bounding-set", reads),
    )
    if shutil.which("setpriv") is None:
        return ()
    return () if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True).returncode else command


@contextmanager
def _rules(cluster: Cluster, pods: Mapping[str, Pod], folder: Path) -> Iterator[None]:
    """Puts the cluster's rules in the place of kfp.local's."""

    class Handler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]  # kfp has no types
        def run(self) -> status.Status:
            pod = pods[self.env_vars[_EXECUTOR]]
            if cluster.is_terminated() and pod.name != EXIT_TASK:
                return status.Status.FAILURE
            command = subprocess_task_handler.replace_python_executable(self.full_command, sys.executable)
            faults, fates, shown = list(cluster.faults.get(pod.name, ())), list[Fate](), list[str]()
            cluster.tasks.setdefault(pod.task, []).append(shown)
            while True:
                fault = faults[len(fates)] if len(fates) < len(faults) else None
                shown.append("RUNNING")
                fates.append(cluster.attempt(command, pod, folder, fault))
                shown[-1] = _shown(fates[-1])
                made = attempts(pod.strategy, timeout=pod.timeout, fates=fates)
                cluster.attempts[pod.name] = made[: len(fates)]
                if fates[-1].ends == "success":
                    return status.Status.SUCCESS
                if len(made) == len(fates) or cluster.is_terminated():
                    return status.Status.FAILURE

    resolve = OrchestratorUtils.make_task_arguments

    def arguments(*args: Any, **named: Any) -> dict[str, Any]:
        found: dict[str, Any] = resolve(*args, **named)
        for value in found.values():
            if isinstance(value, dict) and "pipeline_job_resource_name" in value:
                cluster.words.append(cluster.word())
                value.update(state=cluster.words[-1], error={})
        return found

    with (
        mock.patch.object(subprocess_task_handler, "SubprocessTaskHandler", Handler),
        mock.patch.object(OrchestratorUtils, "make_task_arguments", arguments),
    ):
        yield
