"""The Argo workflow that Kubeflow's compiler makes of a pipeline, as far as a client can see it: nodes and their names.

What Kubeflow's API lists as a run's tasks are all of these nodes, by their display names alone; the workflow itself is
in the answers of the API's earlier version.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import Any

Record = dict[str, Any]
Tasks = Mapping[str, str | Sequence[str]]
"""State of each task that has begun, by its name in the compiled file; of a task in a loop, one state per iteration, ""
where it has not begun. Attempts are joined by `>`, and may have a message: `FAILED(main: Error (exit code 1))>RUNNING`.
After a last `>` Argo waits to try again. PENDING is a pod that waits for a node. DRIVER is a driver that failed."""
_BEGUN = datetime(2026, 11, 30, 10, tzinfo=UTC)
_PHASES = {"RUNTIME_STATE_UNSPECIFIED": "Omitted"}


@dataclass
class Builder:
    """Nodes in the order in which Argo makes them."""

    spec: Mapping[str, Any]
    workflow: str
    tasks: Tasks
    failed: bool
    """Whether the run has failed: what has not begun is omitted."""
    wrapped: bool
    """Whether the controller's defaults retry every template, as KFP 2.17 installs them."""
    nodes: dict[str, Record] = field(default_factory=dict)

    def add(self, path: str, kind: str, state: str, *, parent: str = "", template: str = "", message: str = "") -> str:
        """Adds a node, and the one around it; returns the path for what it holds."""
        if self.wrapped and kind in ("DAG", "Pod") and not re.search(r"executor\(\d+\)$", path):
            self.add(path, "Retry", state, parent=parent, template=template)
            parent, path = path, f"{path}(0)"
        display = path.removeprefix(f"{self.workflow}.").rpartition(".")[2]
        self.nodes[path] = {
            "id": self.identifier(path),
            "name": path,
            "displayName": display,
            "type": kind,
            "templateName": template or "a-template",
            "phase": _PHASES.get(state, state.capitalize()),
            "startedAt": f"{_BEGUN + timedelta(seconds=len(self.nodes)):%Y-%m-%dT%H:%M:%SZ}",
            "children": [],
        } | ({"message": message} if message else {})
        if parent in self.nodes:
            self.nodes[parent]["children"].append(self.nodes[path]["id"])
        return path

    def identifier(self, path: str) -> str:
        number = int(hashlib.sha256(path.encode()).hexdigest()[:8], 16)
        return self.workflow if path == self.workflow else f"{self.workflow}-{number}"

    def dag(self, component: str, path: str, state: str, index: int | None = None) -> None:
        """The tasks of a component that is a graph."""
        described = self.spec["root"] if component == "root" else self.spec["components"][component]
        tasks = described["dag"]["tasks"]
        after = {name: task.get("dependentTasks", ()) for name, task in tasks.items()}
        for name in TopologicalSorter(after).static_order():
            task = tasks[name]
            inner = task["componentRef"]["name"]
            below = list(self.executors(inner, name))
            begun = [one for one in below if one in self.tasks]
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
                if begun:
                    hook = self.add(f"{path}.{task['dependentTasks'][0]}.onExit", "DAG", "Succeeded", parent=path)
                    self.task(name, hook, None)
            elif "dag" not in self.spec["components"][inner]:
                self.task(name, path, index)
            elif begun and "parameterIterator" in task:
                self.loop(inner, self.add(f"{path}.{name}", "DAG", state, parent=path), begun, state)
            elif begun:
                self.add(f"{path}.{name}-driver", "Pod", "Succeeded", parent=path)
                self.dag(inner, self.add(f"{path}.{name}", "DAG", state, parent=path), state)

    def executors(self, component: str, name: str) -> Iterator[str]:
        """Names of the tasks that run pods, in a component."""
        described = self.spec["components"][component]
        if "dag" not in described:
            yield name
        for inner, task in described.get("dag", {}).get("tasks", {}).items():
            yield from self.executors(task["componentRef"]["name"], inner)

    def loop(self, component: str, path: str, begun: Sequence[str], state: str) -> None:
        """Each iteration of a loop, and what Argo puts around it."""
        self.add(f"{path}.iteration-driver", "Pod", "Succeeded", parent=path)
        group = self.add(f"{path}.iteration-iterations", "TaskGroup", state, parent=path)
        for index in range(max(len(self.tasks[name]) for name in begun)):
            around = self.add(f"{path}.iteration-iterations({index}:{index})", "DAG", state, parent=group)
            self.add(f"{around}.iteration-item-driver", "Pod", "Succeeded", parent=around)
            item = self.add(f"{around}.iteration-item", "DAG", state, parent=around)
            self.dag(component, item, state, index)

    def task(self, name: str, path: str, index: int | None) -> None:
        """A task's driver, its graph, the node around its attempts, and a pod per attempt."""
        given = self.tasks.get(name, "")
        text = given if isinstance(given, str) else (given[index or 0] if (index or 0) < len(given) else "")
        if not text:
            for omitted in (f"{name}-driver", name) if self.failed else ():
                self.add(f"{path}.{omitted}", "Skipped", "RUNTIME_STATE_UNSPECIFIED", parent=path)
            return
        if text.startswith("DRIVER"):
            message = _attempt(text)[1]
            self.add(f"{path}.{name}-driver", "Pod", "Failed", parent=path, message=message)
            self.add(f"{path}.{name}", "Skipped", "RUNTIME_STATE_UNSPECIFIED", parent=path)
            return
        attempts = [_attempt(part) for part in text.split(">")]
        last = attempts[-1][0] or "RUNNING"
        state = "RUNNING" if last == "PENDING" else last
        driver = self.add(f"{path}.{name}-driver", "Pod", "Succeeded", parent=path)
        own = self.add(f"{path}.{name}", "DAG", state, parent=driver)
        why = f"child '{own}.executor' failed" if state in ("FAILED", "ERROR") else ""
        self.nodes[own] |= {"message": why} if why else {}
        limits = {"FAILED": "No more retries left", "ERROR": "No more retries left"}
        executor = self.add(
            f"{own}.executor", "Retry", state, parent=own, template="retry-impl", message=limits.get(state, "")
        )
        for number, (attempt, message) in enumerate(attempts):
            if attempt:
                pod = f"{own}.executor({number})"
                self.add(pod, "Pod", attempt, parent=executor, template="retry-impl", message=message)


def _attempt(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\w*)(?:\((.*)\))?", text)
    assert match, text
    return match[1], match[2] or ""


def workflow_of(
    spec: Mapping[str, Any], *, state: str, tasks: Tasks, retry_policy: str = "", limit: str = "2"
) -> Record:
    """The workflow of a run of a compiled pipeline, with a retry strategy that the defaults of the server set."""
    name, wrapped = "rushes-x7k2p", bool(retry_policy)
    begun = state if state in ("SUCCEEDED", "FAILED") else "RUNNING"
    builder = Builder(spec=spec, workflow=name, tasks=tasks, failed=state == "FAILED", wrapped=wrapped)
    builder.add(name, "DAG", begun)
    if tasks:
        start = f"{name}(0)" if wrapped else name
        builder.add(f"{start}.root-driver", "Pod", "Succeeded", parent=start)
        builder.dag("root", builder.add(f"{start}.root", "DAG", begun, parent=start), begun)
    strategy = {"limit": limit, "retryPolicy": retry_policy}
    defaults = {"templateDefaults": {"retryStrategy": strategy}} if retry_policy else {}
    return {
        "metadata": {"name": name, "namespace": "kubeflow"},
        "spec": {"entrypoint": "entrypoint", **defaults},
        "status": {"phase": begun.capitalize(), "nodes": {node["id"]: node for node in builder.nodes.values()}},
    }


def details_of(workflow: Record) -> list[Record]:
    """What the API of today lists: every node, without its ID, its path, its pod and its message."""
    states = {"Omitted": "RUNTIME_STATE_UNSPECIFIED", "Error": "FAILED"}
    nodes = sorted(workflow["status"]["nodes"].values(), key=lambda node: node["id"])
    return [
        {
            "task_id": hashlib.sha256(node["id"].encode()).hexdigest()[:32],
            "display_name": node["displayName"],
            "state": states.get(node["phase"], node["phase"].upper()),
            "start_time": node["startedAt"],
            "child_tasks": [{"pod_name": child} for child in node["children"]],
        }
        for node in nodes
    ]
