"""How large a run's Argo workflow is, and what becomes of one that is too large.

Argo keeps a workflow in one object of Kubernetes. Where its JSON is longer than 1 MiB, the nodes are packed (gzip,
base64); where that is too long as well, the workflow ends with an error and the nodes that it had before (Argo 4.0;
Kubeflow Pipelines installs no database that nodes could go to instead).

Nodes are long by their parameters. By Kubeflow's compiler and driver (2.17), a driver is given its component, task,
container and settings for Kubernetes as JSON, and gives a patch of the pod: command, arguments and inputs, which is an
input of each node around the pod, and of the pod.
"""

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
LIMIT = 1 << 20
"""Bytes of a workflow; Argo's MAX_WORKFLOW_SIZE."""
TOO_LARGE = "Request entity too large: limit is 3145728"
"""Kubernetes' answer to nodes that could not be packed, which Argo makes the workflow's message."""
_SMALL = 250
"""Nodes of a workflow that is not measured: not even sixteen recipes make it too large."""
_RANDOM = 16
"""Bytes of a random ID."""


def with_parameters(workflow: Record, pipeline: Record, platform: Record, arguments: Mapping[str, Any]) -> Record:
    """The workflow with the parameters of its nodes; one of few nodes as it is.

    Args:
        workflow: by `tests.kubeflow.workflows`.
        pipeline: the compiled pipeline.
        platform: its settings for Kubernetes.
        arguments: the run's.
    """
    nodes = workflow["status"]["nodes"]
    if len(nodes) <= _SMALL:
        return workflow
    texts = _Texts(pipeline=pipeline, platform=platform, arguments=arguments)
    parameters = {key: texts.parameters(node["name"]) for key, node in nodes.items()}
    full = {key: nodes[key] | parameters[key] for key in sorted(nodes)}
    spec = workflow["spec"] | {"arguments": {"parameters": [_dumped(pipeline), _dumped(platform)]}}
    return workflow | {"spec": spec, "status": workflow["status"] | {"nodes": full}}


def stored_size(workflow: Record) -> int:
    """Bytes of the workflow as Argo stores it."""
    text = _dumped(workflow)
    if len(text) <= LIMIT:
        return len(text)
    status = workflow["status"]
    packed = base64.b64encode(gzip.compress(_dumped(status["nodes"]).encode(), 6)).decode()
    return len(_dumped(workflow | {"status": status | {"nodes": None, "compressedNodes": packed}}))


def is_too_large(workflow: Record) -> bool:
    """Whether Argo cannot store it."""
    return stored_size(workflow) > LIMIT


def failed(before: Record | None, workflow: Record) -> Record:
    """What Argo makes of a workflow that is too large: an error, with the nodes of the last one that was not."""
    nodes = before["status"]["nodes"] if before else {}
    return workflow | {"status": {"phase": "Error", "message": TOO_LARGE, "nodes": nodes}}


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Parameters of a workflow's nodes."""

    pipeline: Mapping[str, Any]
    platform: Mapping[str, Any]
    arguments: Mapping[str, Any]

    def parameters(self, node: str) -> Record:
        """Inputs and outputs of a node, by its name."""
        parts = [re.sub(r"\(\d+\)$", "", part) for part in node.split(".")]
        task = next((part for part in reversed(parts) if part.removesuffix("-driver") in self.tasks), "")
        if parts[-1].endswith("-driver"):
            name = task.removesuffix("-driver")
            inputs = self._driver_inputs(name) if name else {}
            patch = {"pod-spec-patch": self._patch(name, node)} if self._executor(name) else {}
            return _inputs(inputs) | {"outputs": _parameters(patch | {"condition": "true"})}
        if task == parts[-1] or parts[-1] == "executor":
            return _inputs({"pod-spec-patch": self._patch(task, node)}) if self._executor(task) else _inputs({})
        return _inputs({"parent-dag-id": "12", "condition": ""})

    @functools.cached_property
    def tasks(self) -> dict[str, Record]:
        """All tasks, by their names in the compiled file."""
        graphs = [self.pipeline["root"], *self.pipeline["components"].values()]
        return {name: task for graph in graphs for name, task in graph.get("dag", {}).get("tasks", {}).items()}

    def _component(self, task: str) -> Record:
        found: Record = self.pipeline["components"][self.tasks[task]["componentRef"]["name"]] if task else {}
        return found

    def _executor(self, task: str) -> str:
        return str(self._component(task).get("executorLabel", ""))

    def _driver_inputs(self, task: str) -> dict[str, str]:
        """What a driver is given."""
        found = {"component": _dumped(self._component(task)), "task": _dumped(self.tasks[task]), "task-name": task}
        if label := self._executor(task):
            found |= {"container": _dumped(self._container(label)), "kubernetes-config": _dumped(self._settings(label))}
        return found

    def _container(self, label: str) -> Record:
        found: Record = self.pipeline["deploymentSpec"]["executors"][label]["container"]
        return found

    def _settings(self, label: str) -> Record:
        found: Record = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].get(label, {})
        return found

    def _patch(self, task: str, node: str) -> str:
        """The patch of a task's pod, which is the same wherever the iteration's nodes have it."""
        iteration = "".join(re.findall(r"iteration-iterations\(\d+", node))
        label, given = self._executor(task), _dumped(self._executor_input(task, f"{task} {iteration}"))
        container = self._container(label)
        launched = ["--executor_input", given, "--component_spec", _dumped(self._component(task))]
        words = [*container.get("command", ()), *container.get("args", ())]
        main = {"command": launched, "args": [given if word == "{{$}}" else word for word in words]}
        return _dumped({"containers": [main], "settings": self._settings(label)})

    def _executor_input(self, task: str, seed: str) -> Record:
        """The inputs of a task, and where its outputs go."""
        given, outputs = self.tasks[task].get("inputs", {}), self._component(task).get("outputDefinitions", {})
        lists = self._component(task).get("inputDefinitions", {}).get("artifacts", {})
        return {
            "inputs": {
                "parameterValues": {name: self._value(name) for name in given.get("parameters", {})},
                "artifacts": {
                    name: {"artifacts": list(self._artifacts(name, seed, bool(lists[name].get("isArtifactList"))))}
                    for name in given.get("artifacts", {})
                },
            },
            "outputs": {
                "parameters": {name: f"/tmp/kfp/outputs/{name}" for name in outputs.get("parameters", {})},
                "artifacts": {name: _artifact(name, f"{seed} {name}") for name in outputs.get("artifacts", {})},
            },
        }

    def _value(self, name: str) -> Any:
        return self.arguments["models"][0] if name == "recipe" else self.arguments.get(name, "a value")

    def _artifacts(self, name: str, seed: str, several: bool) -> Iterator[Record]:
        count = int(self.arguments.get("partitions", 1)) if name == "parts" else len(self.arguments["models"])
        for number in range(count if several else 1):
            one = f"{seed} {name} {number}"
            yield _artifact(name, one) | {"metadata": {"ref": _identifier(f"{one} ref")}}


def _artifact(name: str, seed: str) -> Record:
    run, task = _identifier("run"), _identifier(seed)
    return {"name": name, "type": {"schemaTitle": "system.Artifact"}, "uri": f"minio://mlpipeline/{run}/{task}/{name}"}


def _identifier(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()[: 2 * _RANDOM]


def _inputs(values: Mapping[str, str]) -> Record:
    return {"inputs": _parameters(values)}


def _parameters(values: Mapping[str, str]) -> Record:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
