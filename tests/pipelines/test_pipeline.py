"""What is committed is what the sources compile to, and dvc.yaml says the same."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines import dvc
from pipelines.comparison import make_comparison
from pipelines.pipeline import COMPILED, compile_to, make_pipeline
from rushes.cli import COMMANDS, parse
from rushes.kubeflow.profile import DEFAULT, Profile, read_profile
from rushes.orchestration.image import yaml_documents
from rushes.orchestration.local import compiled_pipeline, for_one_machine
from rushes.steps import STEPS


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return yaml_documents(COMPILED.read_text())


@pytest.fixture(scope="module")
def compiled(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


def tasks_of(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All tasks that run a container, at any depth: name and task."""
    for component in (spec["root"], *spec["components"].values()):
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                yield name, task


def _read(path: Path) -> Iterator[dict[str, Any]]:
    return iter(yaml_documents(path.read_text()))


def step_of(task: dict[str, Any]) -> str:
    return str(task["componentRef"]["name"]).removeprefix("comp-").rstrip("-0123456789").replace("-", "_")


def test_the_committed_compilation_is_current(tmp_path_factory: pytest.TempPathFactory) -> None:
    fresh = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_to(fresh, read_profile(DEFAULT))
    assert fresh.read_text() == COMPILED.read_text()


def test_it_is_what_a_run_executes() -> None:
    assert compiled_pipeline() == COMPILED


def test_it_parses_as_a_pipeline_spec_and_as_kubernetes_settings(documents: list[dict[str, Any]]) -> None:
    spec, platform = documents
    assert json_format.ParseDict(spec, PipelineSpec()).pipeline_info.name == "rushes"
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(settings) == set(spec["deploymentSpec"]["executors"])
    for record in settings.values():
        parsed = json_format.ParseDict(record, KubernetesExecutorConfig())
        assert json_format.MessageToDict(parsed) == record


def test_kfp_caches_nothing_since_the_store_answers(compiled: dict[str, Any]) -> None:
    assert not [name for name, task in tasks_of(compiled) if task["cachingOptions"].get("enableCache")]


def test_every_step_runs_and_sampling_and_fine_tuning_run_twice(compiled: dict[str, Any]) -> None:
    steps = sorted(step_of(task) for _, task in tasks_of(compiled))
    assert steps == sorted([*STEPS, "sample", "finetune", "summary"])
    inits = [
        task["inputs"]["parameters"]["init"]["runtimeValue"]["constant"]
        for _, task in tasks_of(compiled)
        if "init" in task["inputs"].get("parameters", {})
    ]
    assert sorted(inits) == ["pretrained", "random"]


def test_only_what_was_chosen_sees_the_test_set(compiled: dict[str, Any]) -> None:
    dags = [c["dag"]["tasks"] for c in compiled["components"].values() if "dag" in c]
    (each_model,) = [sorted(step_of(task) for task in tasks.values()) for tasks in dags if "pretrain" in tasks]
    assert each_model == ["finetune", "pretrain"]
    (evaluate,) = [task for _, task in tasks_of(compiled) if step_of(task) == "evaluate"]
    sources = {name: source["taskOutputArtifact"] for name, source in evaluate["inputs"]["artifacts"].items()}
    assert sources["classifier"]["producerTask"] == sources["backbone"]["producerTask"] == "choose"
    assert evaluate["inputs"]["parameters"]["recipe"]["taskOutputParameter"]["producerTask"] == "choose"


def test_only_what_was_promoted_is_deployed(compiled: dict[str, Any]) -> None:
    (condition,) = [
        task
        for c in compiled["components"].values()
        for task in c.get("dag", {}).get("tasks", {}).values()
        if task.get("triggerPolicy", {}).get("condition")
    ]
    assert condition["triggerPolicy"]["condition"].endswith("== 'promoted'")
    inside = compiled["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert [step_of(task) for task in inside.values()] == ["deploy"]


def test_parts_and_models_run_side_by_side(compiled: dict[str, Any], tmp_path: Path) -> None:
    few = dataclasses.replace(read_profile(DEFAULT), parallel=2)
    compile_to(tmp_path / "few.yaml", few)
    for spec, limit in ((compiled, read_profile(DEFAULT).parallel), (next(_read(tmp_path / "few.yaml")), 2)):
        tasks = [task for c in spec["components"].values() for task in c.get("dag", {}).get("tasks", {}).values()]
        loops = {task["taskInfo"]["name"]: task for task in tasks if "parameterIterator" in task}
        assert sorted(loops) == ["models", "sample-parts"]
        assert "iteratorPolicy" not in loops["sample-parts"], "as many as there are parts"
        assert loops["models"]["iteratorPolicy"] == {"parallelismLimit": limit}


def test_the_summary_is_written_however_a_run_ends(compiled: dict[str, Any]) -> None:
    (task,) = [task for _, task in tasks_of(compiled) if step_of(task) == "summary"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    (status,) = task["inputs"]["parameters"]["status"].values()
    assert compiled["root"]["dag"]["tasks"][status["producerTask"]]["taskInfo"]["name"] == "run"


def test_one_machine_runs_the_same_without_trying_again() -> None:
    whole, here = COMPILED.read_text(), for_one_machine(COMPILED.read_text())
    assert "retryPolicy" in whole and "retryPolicy" not in here
    before, after = yaml_documents(whole)[0], yaml_documents(here)[0]
    assert [name for name, _ in tasks_of(before)] == [name for name, _ in tasks_of(after)]
    assert before["deploymentSpec"] == after["deploymentSpec"]


@pytest.mark.parametrize(("make", "reads"), [(make_pipeline, "pin"), (make_comparison, "plan")])
def test_what_may_hash_a_whole_archive_has_the_time_of_what_samples_it(
    make: Callable[[Profile], Callable[..., Any]], reads: str, tmp_path: Path
) -> None:
    profile = read_profile(DEFAULT)
    compile_to(tmp_path / "compiled.yaml", profile, make=make)
    _, platform = yaml_documents((tmp_path / "compiled.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    seconds = {name: executors[f"exec-{name}"]["activeDeadlineSeconds"] for name in (reads, "sample", "summary")}
    light, cpu = (60 * resources.timeout_minutes for resources in (profile.light, profile.cpu))
    assert seconds == {reads: str(cpu), "sample": str(cpu), "summary": str(light)} and light < cpu


def test_dvc_yaml_is_current() -> None:
    assert dvc.render() == dvc.DVC_YAML.read_text()


def test_dvc_stages_read_what_earlier_stages_write() -> None:
    written: set[str] = set()
    for name, stage in dvc.stages().items():
        read = {dep for dep in stage["deps"] if dep.startswith("artifacts/")}
        assert read <= written, name
        written |= set(stage["outs"])


def test_dvc_commands_are_commands_of_ours() -> None:
    for stage in dvc.stages().values():
        program, *arguments = stage["cmd"].split()
        assert program == "rushes"
        assert isinstance(parse(arguments), COMMANDS[arguments[0]])
