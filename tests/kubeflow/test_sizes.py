"""A run that outgrows what Argo can store is warned of before it is submitted, and reported as what it is."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rushes.cli import main
from rushes.commands import follow
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.sizes import LIMIT, size_warning
from rushes.orchestration.image import yaml_documents
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.recipes import load_recipe
from rushes.resources import bundled
from rushes.strict import to_record
from tests.kubeflow import packer
from tests.kubeflow.server import Kubeflow, serving
from tests.kubeflow.workflows import workflow_of

MODELS = sorted(path.parent.name for path in bundled("models").glob("*/recipe.yaml"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow, "_PATIENCE", 1.0)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    with serving() as state:
        yield state


@functools.cache
def compiled(path: Path) -> tuple[Pipeline, dict[str, Any], dict[str, Any]]:
    pipeline = Pipeline.read(path)
    spec, platform = yaml_documents(pipeline.text)
    return pipeline, spec, platform


def share(path: Path, *, partitions: int, models: int, chains: int = 0, policy: str = "OnError") -> float:
    """Size of a run's workflow when all is done, in parts of what Argo can store."""
    pipeline, spec, platform = compiled(path)
    counts = {"": 1, "sample-parts": partitions, "models": models, "chains": chains}
    tasks = {
        name: ["SUCCEEDED"] * counts[task.loop] if task.loop else "SUCCEEDED" for name, task in pipeline.tasks.items()
    }
    names = [MODELS[number % len(MODELS)] for number in range(models)]
    recipes = [to_record(load_recipe(name, size="full")) | {"name": str(number)} for number, name in enumerate(names)]
    workflow = workflow_of(spec, state="SUCCEEDED", tasks=tasks, retry_policy=policy)
    arguments = {"videos": "s3://archive/videos", "models": recipes, "partitions": partitions}
    return packer.stored_size(packer.with_parameters(workflow, spec, platform, arguments)) / packer.LIMIT


def first_warned(**given: int) -> int:
    """The least number of what is left open that is warned of: partitions, or else chains."""
    name = "chains" if "partitions" in given else "partitions"
    return next(count for count in range(1, 2000) if size_warning(**{**given, name: count}))


@pytest.mark.parametrize("models", [1, 2, 7, 8])
def test_what_is_not_warned_of_can_be_stored_and_what_is_was_near_it(models: int) -> None:
    partitions = first_warned(models=models)
    found = share(compiled_pipeline(), partitions=partitions - 1, models=models)
    assert packer.LIMIT == LIMIT
    assert 0.4 < found < 0.95, f"{models} models, {partitions - 1} partitions: {found:.2f}"
    assert share(compiled_pipeline(), partitions=partitions - 1, models=models, policy="") < found


def test_a_comparison_that_is_not_warned_of_can_be_stored() -> None:
    chains = first_warned(models=8, partitions=4)
    assert 0.3 < share(compiled_comparison(), partitions=4, models=8, chains=chains - 1) < 0.95


def test_the_runbooks_numbers_are_the_estimates() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "runbook.md").read_text().split())
    found = re.search(
        r"about (\d+) partitions with one model, or (\d+) with eight; a comparison about (\d+) chains", text
    )
    assert found
    one, eight, chains = map(int, found.groups())
    for given in ((one, 1, 0), (eight, 8, 0), (4, 2, chains)):
        warning = size_warning(**dict(zip(("partitions", "models", "chains"), given, strict=True)))
        size = re.search(r"make a workflow of about (\d\.\d) MB", warning)
        assert size and 0.9 <= float(size[1]) <= 1.1, warning


def wait(server: Kubeflow, folder: Path, *, partitions: int) -> int:
    """Submits a run in this many partitions, which samples all of them, and follows it."""
    done = {"pin": "SUCCEEDED", "sample": ["SUCCEEDED"] * partitions}
    server.fate = [("RUNNING", {"pin": "SUCCEEDED"}), ("SUCCEEDED", done)]
    profile = folder / "profile.yaml"
    profile.write_text(f"partitions: {partitions}\n")
    command = ["pipeline", "submit", "vcop-r3d", "--videos", "s3://archive/videos", "--endpoint", "e", "--wait"]
    return main([*command, "--profile", str(profile), "--host", server.url])


def test_a_run_that_outgrows_its_workflow_is_warned_of_and_its_end_is_explained(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(server, tmp_path, partitions=450) == 1
    captured = capsys.readouterr()
    assert re.search(r"Mind: 450 partitions, 1 models make a workflow of about \d\.\d MB, and Argo ends", captured.out)
    assert "sample a part" not in captured.out, "the workflow is the last one that could be stored"
    error = " ".join(captured.err.split())
    assert f"run: failed: Argo stopped it: {packer.TOO_LARGE}; the steps' messages are in runs/" in error


def test_a_run_of_many_partitions_that_can_be_stored_is_not(
    server: Kubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(server, tmp_path, partitions=first_warned(models=1) - 1) == 0
    assert "Mind" not in capsys.readouterr().out


def test_few_nodes_are_not_measured_since_they_cannot_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most recipes that a workflow of so few nodes can have, one task for each."""
    _, spec, platform = compiled(compiled_pipeline())
    tasks = {"pin": "SUCCEEDED", "pretrain": ["SUCCEEDED"] * 16}
    workflow = workflow_of(spec, state="RUNNING", tasks=tasks, retry_policy="OnError")
    assert len(workflow["status"]["nodes"]) <= packer._SMALL
    recipes = [to_record(load_recipe(MODELS[number % len(MODELS)], size="full")) for number in range(16)]
    assert packer.with_parameters(workflow, spec, platform, {"models": recipes}) is workflow
    monkeypatch.setattr(packer, "_SMALL", 0)
    assert not packer.is_too_large(packer.with_parameters(workflow, spec, platform, {"models": recipes}))
