"""Every policy holds for what is committed, and each one sees its own violation."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.pipeline import COMPILED, compile_to
from rushes.kubeflow.policy import violations
from rushes.kubeflow.profile import read_profile
from rushes.orchestration.image import with_tag, yaml_documents

Documents = list[dict[str, Any]]
GPU_TASKS = ("evaluate", "finetune", "finetune-2", "pretrain")


@pytest.fixture(scope="module")
def committed() -> Documents:
    return yaml_documents(with_tag(COMPILED.read_text()))


def task(documents: Documents, name: str) -> dict[str, Any]:
    dags = [c["dag"]["tasks"] for c in documents[0]["components"].values() if "dag" in c]
    found: list[dict[str, Any]]
    found = [tasks[name] for tasks in [*dags, documents[0]["root"]["dag"]["tasks"]] if name in tasks]
    return found[0]


def container(documents: Documents, name: str) -> dict[str, Any]:
    executors: dict[str, Any] = documents[0]["deploymentSpec"]["executors"]
    found: dict[str, Any] = executors[f"exec-{name}"]["container"]
    return found


def settings(documents: Documents, name: str) -> dict[str, Any]:
    found: dict[str, Any] = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]
    return found


def names(documents: Documents) -> list[str]:
    return [name.removeprefix("exec-") for name in documents[0]["deploymentSpec"]["executors"]]


def test_what_is_committed_keeps_to_all(committed: Documents) -> None:
    assert violations(committed) == []


def test_the_steps_that_train_ask_for_a_gpu_and_no_other(committed: Documents) -> None:
    asking = [name for name in names(committed) if "accelerator" in container(committed, name)["resources"]]
    assert sorted(asking) == sorted(GPU_TASKS)


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_the_profiles_that_come_along_keep_to_all(profile: str, tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", read_profile(profile))
    documents = yaml_documents(with_tag((tmp_path / "pipeline.yaml").read_text()))
    assert violations(documents) == []
    asking = [name for name in names(documents) if "accelerator" in container(documents, name)["resources"]]
    assert bool(asking) == (profile == "gpu")


def _pop(get: Callable[[Documents, str], dict[str, Any]], *keys: str) -> Callable[[Documents, str], None]:
    def change(documents: Documents, name: str) -> None:
        record = get(documents, name)
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return change


def _set(get: Callable[[Documents, str], dict[str, Any]], value: Any, *keys: str) -> Callable[[Documents, str], None]:
    def change(documents: Documents, name: str) -> None:
        record = get(documents, name)
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


ANY = {
    "tried again": _pop(task, "retryPolicy"),
    "no timeout": _pop(settings, "activeDeadlineSeconds"),
    "may run as root": _pop(settings, "securityContext", "runAsNonRoot"),
    "root": _set(settings, "0", "securityContext", "runAsUser"),
    "can be moved: ": _set(container, "rushes/python:latest", "image"),
    "'rushes/python:this-code' can be moved": _set(container, "rushes/python:this-code", "image"),
    "'rushes/python' can be moved": _set(container, "rushes/python", "image"),
    "'rushes/python:0.1.0' can be moved": _set(container, "rushes/python:0.1.0", "image"),
    "resourceMemoryLimit": _pop(container, "resources", "resourceMemoryLimit"),
    "resourceCpuLimit": _pop(container, "resources", "resourceCpuLimit"),
    "cached by KFP": _set(task, {"enableCache": True}, "cachingOptions"),
    "AWS_SECRET_ACCESS_KEY in its environment": _set(
        container, [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}], "env"
    ),
    "MLFLOW_TRACKING_PASSWORD from a ConfigMap": _set(
        settings, [{"keyToEnv": [{"envVar": "MLFLOW_TRACKING_PASSWORD"}]}], "configMapAsEnv"
    ),
    "takes AWS_ENDPOINT_URL, which KFP's launcher would use for its own store": _set(
        settings, [{"keyToEnv": [{"envVar": "AWS_ENDPOINT_URL"}]}], "configMapAsEnv"
    ),
    "takes AWS_ACCESS_KEY_ID, which KFP's launcher would use for its own store": _set(
        settings, [{"keyToEnv": [{"envVar": "AWS_ACCESS_KEY_ID"}]}], "secretAsEnv"
    ),
    "RUSHES_TRITON_KEY from a ConfigMap": _set(
        settings, [{"keyToEnv": [{"envVar": "RUSHES_TRITON_KEY"}]}], "configMapAsEnv"
    ),
    "given api_token as an argument": _set(
        task, {"runtimeValue": {"constant": "x"}}, "inputs", "parameters", "api_token"
    ),
}
GPU = {
    "number": _set(container, {"resourceType": "nvidia.com/gpu"}, "resources", "accelerator"),
    "without a toleration": _pop(settings, "tolerations"),
    "without /dev/shm": _pop(settings, "emptyDirMounts"),
}


@pytest.mark.parametrize("words", ANY)
def test_a_violation_is_seen_at_whichever_task_it_is(committed: Documents, words: str) -> None:
    for name in names(committed):
        documents = copy.deepcopy(committed)
        ANY[words](documents, name)
        (line,) = violations(documents)
        assert line.startswith(f"{name}: ") and words in line


@pytest.mark.parametrize("name", GPU_TASKS)
@pytest.mark.parametrize("words", GPU)
def test_a_gpu_task_needs_what_makes_a_gpu_reachable(committed: Documents, words: str, name: str) -> None:
    documents = copy.deepcopy(committed)
    GPU[words](documents, name)
    (line,) = violations(documents)
    assert line.startswith(f"{name}: ") and words in line


@pytest.mark.parametrize(
    "image", ["registry.example.com:5000/team/rushes@sha256:" + "0" * 64, "rushes/python:0.1.0-0123456789ab"]
)
def test_a_digest_is_immutable(committed: Documents, image: str) -> None:
    documents = copy.deepcopy(committed)
    container(documents, "pin")["image"] = image
    assert violations(documents) == []


def test_a_pipeline_without_settings_for_kubernetes_breaks_nearly_all(committed: Documents) -> None:
    found = violations(committed[:1])
    assert {line.removeprefix("every task: ") for line in found if line.startswith("every task: ")} == {
        "has no timeout: profile timeout_minutes",
        "may run as root: profile user",
    }
    (toleration,) = [line for line in found if "without a toleration" in line]
    assert sorted(toleration.partition(":")[0].split(", ")) == sorted(GPU_TASKS), "once, with the tasks that it is of"
