"""The compiled comparison: current, whole, within the policies, and of the shape that a cluster is to run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines.comparison import make_comparison
from pipelines.pipeline import COMPARISON, compile_to
from rushes.cli.workflow import Compare
from rushes.kubeflow.policy import violations
from rushes.kubeflow.profile import DEFAULT, read_profile
from rushes.orchestration.image import with_tag, yaml_documents
from rushes.orchestration.local import compiled_comparison
from tests.pipelines.test_pipeline import step_of, tasks_of

Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def documents() -> Documents:
    return yaml_documents(COMPARISON.read_text())


def loops(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks that are run for each item of a list, by the name of the first task in them."""
    found = {}
    for component in (spec["root"], *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "parameterIterator" in task:
                inside = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]
                found["+".join(sorted(step_of(one) for one in inside.values()))] = task
    return found


def test_the_committed_compilation_is_current(tmp_path: Path) -> None:
    compile_to(tmp_path / "comparison.yaml", read_profile(DEFAULT), make=make_comparison)
    assert (tmp_path / "comparison.yaml").read_text() == COMPARISON.read_text()
    assert compiled_comparison() == COMPARISON


def test_it_parses_as_a_pipeline_spec_and_as_kubernetes_settings(documents: Documents) -> None:
    spec, platform = documents
    assert json_format.ParseDict(spec, PipelineSpec()).pipeline_info.name == "rushes-comparison"
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(settings) == set(spec["deploymentSpec"]["executors"])
    for record in settings.values():
        parsed = json_format.ParseDict(record, KubernetesExecutorConfig())
        assert json_format.MessageToDict(parsed) == record


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_it_keeps_to_the_policies_and_only_chains_ask_for_a_gpu(profile: str, tmp_path: Path) -> None:
    compile_to(tmp_path / "comparison.yaml", read_profile(profile), make=make_comparison)
    documents = yaml_documents(with_tag((tmp_path / "comparison.yaml").read_text()))
    assert violations(documents) == []
    containers = {name: one["container"] for name, one in documents[0]["deploymentSpec"]["executors"].items()}
    asking = [name for name, container in containers.items() if "accelerator" in container["resources"]]
    assert asking == (["exec-chain"] if profile == "gpu" else [])


def test_a_chain_is_a_pod_and_the_profile_says_how_many_at_a_time(documents: Documents, tmp_path: Path) -> None:
    fan_out = loops(documents[0])
    assert sorted(fan_out) == ["chain", "sample"]
    assert fan_out["chain"]["iteratorPolicy"] == {"parallelismLimit": read_profile(DEFAULT).parallel}
    few = dataclasses.replace(read_profile(DEFAULT), parallel=2)
    compile_to(tmp_path / "few.yaml", few, make=make_comparison)
    spec = yaml_documents((tmp_path / "few.yaml").read_text())[0]
    assert loops(spec)["chain"]["iteratorPolicy"] == {"parallelismLimit": 2}


def test_every_task_is_there_once_and_the_summary_is_written_however_it_ends(documents: Documents) -> None:
    tasks = {step_of(task): task for _, task in tasks_of(documents[0])}
    assert sorted(step_of(task) for _, task in tasks_of(documents[0])) == sorted(tasks)
    assert sorted(tasks) == ["chain", "comparison", "folds", "plan", "sample", "summary"]
    assert tasks["summary"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_it_takes_what_the_command_line_takes_by_default(documents: Documents) -> None:
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    for field in dataclasses.fields(Compare):
        if field.name in inputs and field.name not in ("videos", "models"):
            assert inputs[field.name].get("defaultValue", "") == field.default, field.name
    assert {name for name, one in inputs.items() if not one.get("isOptional")} == {"videos", "models", "name"}
