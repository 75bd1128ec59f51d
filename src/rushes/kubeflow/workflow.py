"""The tasks of a run, found in the Argo workflow that Kubeflow Pipelines made of it.

A task is several of a workflow's nodes: `pin-driver`, `pin`, `executor`, and a pod per attempt, `executor(0)`. A node's
name is the path to it:

    rushes-x7k2p.root.exit-handler-1.for-loop-3.iteration-iterations(1:1).iteration-item.pretrain.executor(0)

Where the server's defaults retry every template, each part of a path may be numbered too: `pin(0)`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rushes.kubeflow.compiled import PipelineTask

_ITERATION = re.compile(r"iteration-iterations\((\d+):[^)]*\)(\(\d+\))?")
_ATTEMPT = re.compile(r"\(\d+\)$")
_STATES: Mapping[str, str] = {"": "PENDING", "ERROR": "FAILED"}
"""Argo's phases that have another name for people."""
Labels = Mapping[str, Sequence[str]]
"""What the iterations of each loop are for, by the loop's name."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a run that has begun."""

    name: str
    """As it is shown, with its partition, model or chain."""
    group: str
    """The name that it shares with the other iterations of its loop."""
    loop: str = ""
    """Name of the loop that it is in."""
    state: str
    """PENDING: its pod waits for a node, an image or a volume. RUNNING, SUCCEEDED, FAILED, ..."""
    attempts: int = 1
    message: str = ""
    """What Argo says of its last pod: why it waits, or why it ended."""
    pod: str = ""
    """Name of its last pod; empty where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a workflow."""

    path: tuple[str, ...]
    """Without the workflow's name."""
    phase: str
    message: str
    pod: str

    @property
    def names(self) -> tuple[str, ...]:
        """The path without numbers of attempts."""
        return tuple(part if ":" in part else _ATTEMPT.sub("", part) for part in self.path)

    @property
    def iteration(self) -> int | None:
        """Number of the iteration that it is in."""
        found = [match for part in self.path if (match := _ITERATION.fullmatch(part))]
        return int(found[-1][1]) if found else None


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A run's Argo workflow."""

    nodes: tuple[Node, ...]
    retry_policy: str
    """Which failures are tried again where a task does not say it: OnFailure, OnError, Always."""
    layers_retried: bool
    """Whether the defaults also retry the templates around a step, each of which multiplies its attempts."""
    error: str = ""
    """Why Argo could not go on with it, as where it is too large to be stored; empty otherwise, also where a task
    failed."""

    @classmethod
    def parse(cls, manifest: str) -> Self:
        """Reads the JSON of a workflow.

        Raises:
            ValueError: it is none.
        """
        try:
            record = json.loads(manifest)
            name, spec = str(record["metadata"]["name"]), record["spec"]
            status = record.get("status") or {}
            nodes = status.get("nodes") or {}
            defaults = (spec.get("templateDefaults") or {}).get("retryStrategy") or {}
            found = sorted(nodes.values(), key=lambda node: (str(node.get("startedAt")), node["name"]))
            return cls(
                nodes=tuple(_node(node, name) for node in found),
                retry_policy=defaults.get("retryPolicy") or "OnFailure",
                layers_retried=bool(defaults) and str(defaults.get("limit")) != "0",
                error=str(status.get("message") or "") if status.get("phase") == "Error" else "",
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no workflow: {type(error).__name__}: {error}") from error

    def tasks(self, declared: Mapping[str, PipelineTask], labels: Labels) -> tuple[Task, ...]:
        """The tasks that have begun, or whose driver failed or waits, in the order in which they began.

        Args:
            declared: the compiled pipeline's tasks that run pods, by their names in it.
            labels: iterations of loops that are not in it are numbered.
        """
        found: dict[tuple[str, ...], list[Node]] = {}
        for node in self.nodes:
            if path := _task_path(node, declared):
                found.setdefault(path, []).append(node)
        tasks = (_task(path[-1], nodes, declared[path[-1]], labels) for path, nodes in found.items())
        return tuple(task for task in tasks if task is not None)


def tasks_by_name(nodes: Sequence[tuple[str, str]], declared: Mapping[str, PipelineTask]) -> tuple[Task, ...]:
    """The tasks as far as names and states of the nodes tell: not which iteration each is, nor why.

    Args:
        nodes: name and state of each, as the API lists them.
        declared: as in `Workflow.tasks`.
    """
    omitted = "RUNTIME_STATE_UNSPECIFIED"  # what it depends on failed
    tasks = [
        Task(name=declared[name].shown, group=declared[name].shown, loop=declared[name].loop, state=state)
        for name, state in nodes
        if name in declared and state not in (omitted, "SKIPPED")
    ]
    waiting = any(name.startswith("executor(") and state == "PENDING" for name, state in nodes)
    return (*tasks, Task(name="a pod", group="a pod", state="PENDING")) if waiting else tuple(tasks)


def _node(record: Mapping[str, Any], workflow: str) -> Node:
    number = record["id"].rpartition("-")[2]
    return Node(
        path=tuple(record["name"].removeprefix(workflow).strip(".").split(".")),
        phase=str(record.get("phase") or "").upper(),
        message=record.get("message") or "",
        pod=f"{workflow}-{record.get('templateName')}-{number}" if record.get("type") == "Pod" else "",
    )


def _task_path(node: Node, declared: Mapping[str, PipelineTask]) -> tuple[str, ...]:
    """Path of the task that a node belongs to, with the task's name at its end; empty for other nodes."""
    for position, name in enumerate(node.names):
        for task in (name, name.removesuffix("-driver")):
            if task in declared:
                return (*node.names[:position], task)
    return ()


def _task(name: str, nodes: Sequence[Node], declared: PipelineTask, labels: Labels) -> Task | None:
    drivers = [node for node in nodes if f"{name}-driver" in node.names]
    driver = [node for node in drivers if node.phase in ("FAILED", "ERROR", "PENDING")]
    started = [node for node in nodes if node not in drivers and node.phase not in ("OMITTED", "SKIPPED")]
    if not started and not driver:
        return None
    pods = [node for node in started if node.names[-1] == "executor" and node.pod]
    last = (pods or driver or started)[-1]
    phase = next((node.phase for node in started if node.path[-1] == name), (driver or started)[-1].phase)
    waits = bool(pods) and phase == "RUNNING" and last.phase in ("PENDING", "")
    return Task(
        name=f"{declared.shown} {_label(labels.get(declared.loop, ()), last.iteration)}".rstrip(),
        group=declared.shown,
        loop=declared.loop,
        state="PENDING" if waits else _STATES.get(phase, phase),
        attempts=max(len(pods), 1),
        message="; ".join(_messages(last, started if pods else driver)),
        pod=last.pod,
    )


def _messages(last: Node, others: Sequence[Node]) -> list[str]:
    """Of the last pod, and of the node around it where the time for all attempts is over."""
    limits = [node.message for node in others if "duration limit" in node.message]
    return list(dict.fromkeys(text for text in (last.message, *limits) if text))


def _label(names: Sequence[str], index: int | None) -> str:
    if index is None:
        return ""
    return names[index] if index < len(names) else str(index + 1)
