"""What components hand to Kubeflow Pipelines is what its launcher accepts, whatever a step's summary holds."""

import ast
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorOutput

from components.deploy.component import deploy
from pipelines.readmes import COMPONENTS, names
from rushes.ledger import Champion, Ledger, LedgerEntry
from rushes.orchestration.metadata import metadata_of, storable
from rushes.orchestration.pages import show_evaluation
from rushes.recipes import load_recipe
from rushes.store import Manifest, Store
from rushes.strict import to_record


class RefusedByLauncherError(Exception):
    """The launcher exits with an error, after the task has done its work."""


def taken_by_launcher(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """An artifact's metadata as the launcher reads it from the file that kfp's executor writes.

    Go's protobuf reads JSON as the standard has it, so neither NaN nor Infinity; what it has read becomes one value of
    MLMD per field, for which a null has no kind. Numbers become doubles, and nulls deeper down are kept.
    """
    output = {"artifacts": {"made": {"artifacts": [{"name": "made", "uri": "s3://b/made", "metadata": metadata}]}}}
    text = json.dumps(output)
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise RefusedByLauncherError(str(error)) from error
    read = json_format.Parse(text, ExecutorOutput())
    fields = read.artifacts["made"].artifacts[0].metadata.fields
    for name, value in fields.items():
        if value.WhichOneof("kind") in (None, "null_value"):
            raise RefusedByLauncherError(f"{name}: unknown/unsupported value type")
    taken: dict[str, Any] = json_format.MessageToDict(read.artifacts["made"].artifacts[0].metadata)
    return taken


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


numbers = st.floats() | st.integers(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
summaries = st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=6)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@given(summaries)
def test_the_launcher_reads_what_is_left_of_any_summary(summary: dict[str, Any]) -> None:
    manifest = Manifest(kind="k", step="s", digest="0", inputs={}, config={}, code="", files={}, summary=summary)
    metadata = metadata_of(manifest, model="m")
    assert taken_by_launcher(metadata) == metadata
    found = leaves(metadata)
    assert None not in found and all(math.isfinite(leaf) for leaf in found if isinstance(leaf, float))
    kept = {name for name, value in summary.items() if value is not None and not _is_endless(value)}
    assert set(metadata) == kept | {"model", "ref"}


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


@given(st.lists(values, max_size=5))
def test_a_list_keeps_its_positions(items: list[Any]) -> None:
    found = storable({"items": items})["items"]
    assert len(found) == len(items)
    for item, kept in zip(items, found, strict=True):
        if isinstance(item, str | bool | int):
            assert kept == item
        elif item is None or _is_endless(item):
            assert kept == str(item)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_each_of_them_fails_a_task_where_it_is_handed_over_as_it_is(value: float | None) -> None:
    with pytest.raises(RefusedByLauncherError):
        taken_by_launcher({"champion": value})
    assert taken_by_launcher(storable({"champion": value, "top1": {"value": value}})) == {"top1": {}}


def test_a_deployment_of_an_endpoint_without_a_champion_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    store = Store(str(tmp_path / "home" / "store"))
    entry = LedgerEntry(
        number=1,
        endpoint="gestures",
        decision="refused",
        challenger=Champion(version=1, bundle="export/x", onnx_sha256="0"),
        champion=None,
        reason="above chance: fail",
        time="now",
    )
    assert Ledger(store, "gestures").append(entry)
    decided = Manifest(
        kind="decision",
        step="promote",
        digest="0",
        inputs={},
        config={},
        code="",
        files={"gate.json": store.put_bytes(entry.to_json().encode())},
        summary={"endpoint": "gestures", "decision": "refused", "entry": 1, "version": 1, "champion": None},
    )
    decided.write(tmp_path / "decision.json")
    deployment = dsl.Artifact(name="deployment", uri=str(tmp_path / "deployment.json"), metadata={})
    decision = dsl.Artifact(name="decision", uri=str(tmp_path / "decision.json"), metadata={})
    recipe = to_record(load_recipe("pace-r2plus1d", size="cpu"))
    deploy.python_func(recipe=recipe, decision=decision, deployment=deployment)
    assert taken_by_launcher(deployment.metadata)["endpoint"] == "gestures"
    assert not {"version", "decided", "served_by"} & deployment.metadata.keys()


def evaluated(store: Store, *, labels: int, value: float) -> Manifest:
    confusion = [[row * labels + column for column in range(labels)] for row in range(labels)]
    figures = {"labels": [f"class {number:03d}" for number in range(labels)], "confusion": confusion}
    return Manifest(
        kind="evaluation",
        step="evaluate",
        digest="0",
        inputs={},
        config={},
        code="",
        files={
            "metrics.json": store.put_bytes(json.dumps(figures).encode()),
            "report.html": store.put_bytes(b"<html>"),
        },
        summary={"top1": {"fine-tune, pretrained": {"value": value}, "fine-tune, random": {"value": 0.5}}},
    )


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    store = Store(str(tmp_path / "home" / "store"))

    def show(*, labels: int, value: float = 0.5) -> tuple[dsl.Metrics, dsl.ClassificationMetrics]:
        metrics, confusion = dsl.Metrics(metadata={}), dsl.ClassificationMetrics(metadata={})
        manifest = evaluated(store, labels=labels, value=value)
        page = dsl.HTML(uri=str(tmp_path / "page.html"))
        show_evaluation(manifest, metrics=metrics, confusion=confusion, report=page)
        return metrics, confusion

    return show


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.25])
def test_a_figure_that_is_no_number_is_not_among_the_metrics(value: float, shown: Any) -> None:
    metrics, confusion = shown(labels=2, value=value)
    expected = {"fine-tune random": 0.5} | ({"fine-tune pretrained": value} if math.isfinite(value) else {})
    assert {name: found for name, found in taken_by_launcher(metrics.metadata).items() if name != "ref"} == expected
    assert taken_by_launcher(confusion.metadata)["confusionMatrix"]["rows"][1] == {"row": [2, 3]}


def test_mlflow_takes_the_names_of_metrics(shown: Any) -> None:
    from mlflow.utils.validation import _validate_metric_name

    metrics, _ = shown(labels=2)
    for name in metrics.metadata:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]


def test_a_confusion_matrix_that_the_metadata_server_would_refuse_is_left_to_the_report(shown: Any) -> None:
    _, small = shown(labels=400)
    assert len(small.metadata["confusionMatrix"]["rows"]) == 400
    _, large = shown(labels=700)
    assert large.metadata == {"left_out": "the confusion matrix of 700 classes, which is in the report"}
    assert len(json.dumps(small.metadata)) < 4e6


@pytest.mark.parametrize("name", names())
def test_every_component_fills_its_metadata_by_the_one_helper(name: str) -> None:
    tree = ast.parse((COMPONENTS / name / "component.py").read_text())
    changed = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".metadata.update"))
        or (isinstance(node, ast.Assign) and any(".metadata[" in ast.unparse(target) for target in node.targets))
    ]
    for node in changed:
        assert isinstance(node, ast.Call), ast.unparse(node)
        (filled,) = node.args
        assert isinstance(filled, ast.Call) and not node.keywords
        assert ast.unparse(filled.func) in ("metadata_of", "storable"), ast.unparse(node)
