"""What is committed is what the sources compile to, and dvc.yaml says the same."""

from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines import dvc
from pipelines.pipeline import COMPILED, compile_to
from rushes.orchestration.local import compiled_pipeline
from rushes.steps import STEPS


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    document: dict[str, Any] = next(yaml.safe_load_all(COMPILED.read_text()))
    return document


def test_the_committed_compilation_is_current(tmp_path_factory: pytest.TempPathFactory) -> None:
    fresh = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_to(fresh)
    assert fresh.read_text() == COMPILED.read_text()


def test_it_is_what_a_run_executes() -> None:
    assert compiled_pipeline() == COMPILED


def test_it_parses_as_a_pipeline_spec(compiled: dict[str, Any]) -> None:
    spec = json_format.ParseDict(compiled, PipelineSpec())
    assert spec.pipeline_info.name == "rushes"


def test_kfp_caches_nothing_since_the_store_answers(compiled: dict[str, Any]) -> None:
    tasks = compiled["root"]["dag"]["tasks"].values()
    assert not [task for task in tasks if task["cachingOptions"].get("enableCache")]


def test_every_step_runs_and_fine_tuning_runs_twice(compiled: dict[str, Any]) -> None:
    steps = [task["componentRef"]["name"] for task in compiled["root"]["dag"]["tasks"].values()]
    assert len(steps) == len(STEPS) + 1
    inits = [
        task["inputs"]["parameters"]["init"]["runtimeValue"]["constant"]
        for task in compiled["root"]["dag"]["tasks"].values()
        if "init" in task["inputs"].get("parameters", {})
    ]
    assert sorted(inits) == ["pretrained", "random"]


def test_dvc_yaml_is_current() -> None:
    assert dvc.render() == dvc.DVC_YAML.read_text()


def test_dvc_stages_read_what_earlier_stages_write() -> None:
    written: set[str] = set()
    for name, stage in dvc.stages().items():
        read = {dep for dep in stage["deps"] if dep.startswith("artifacts/")}
        assert read <= written, name
        written |= set(stage["outs"])


def test_dvc_commands_are_commands_of_ours() -> None:
    from rushes.cli import COMMANDS, parse

    for stage in dvc.stages().values():
        program, *arguments = stage["cmd"].split()
        assert program == "rushes"
        assert isinstance(parse(arguments), COMMANDS[arguments[0]])
