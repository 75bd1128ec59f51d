"""What a component does when it is called: through `.python_func`, with artifacts as Kubeflow's launcher makes them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.choose.component import choose
from components.pin.component import pin
from components.sample.component import sample
from components.summary.component import summary
from rushes.errors import UserError
from rushes.journal import RUN, Journal
from rushes.ledger import Champion, Ledger, LedgerEntry
from rushes.orchestration.summary import page_of, summary_of
from rushes.recipes import load_recipe
from rushes.store import Manifest, Store
from rushes.strict import to_record
from tests.integration.conftest import write_videos


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RUN, "a-run")
    return Store(str(tmp_path / "home" / "store"))


def model(name: str, *, fps: float = 25.0) -> dict[str, Any]:
    recipe = load_recipe("pace-r2plus1d", size="cpu")
    small = dataclasses.replace(recipe.sample, short_side=48, fps=fps, shard_segments=2)
    return to_record(dataclasses.replace(recipe, name=name, sample=small))


def artifact(path: Path, kind: Any = dsl.Artifact, **metadata: Any) -> Any:
    return kind(name=path.name, uri=str(path), metadata=metadata)


def read(made: Any) -> Manifest:
    return Manifest.read(Path(made.path))


def test_parts_and_what_joins_them_are_the_footage_that_one_call_makes(store: Store, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", files=3)
    pinned = artifact(tmp_path / "pinned")
    parts = pin.python_func(
        videos=str(tmp_path / "videos"), labels="", splits="", fold=1, revision="", partitions=2, pinned=pinned
    )
    assert parts == ["1/2", "2/2"] and pinned.metadata["videos"] == 6
    encoded = []
    for number, part in enumerate(parts):
        encoded.append(artifact(tmp_path / f"part-{number}", dsl.Dataset))
        sample.python_func(models=[model("a"), model("b")], pin=pinned, footage=encoded[-1], partition=part)
        assert encoded[-1].metadata["partition"] == part
    whole = artifact(tmp_path / "whole", dsl.Dataset)
    sample.python_func(models=[model("a"), model("b")], pin=pinned, footage=whole, parts=encoded)
    assert read(whole).kind == "footage" and whole.metadata["ref"] == read(whole).ref
    again = artifact(tmp_path / "again", dsl.Dataset)
    sample.python_func(models=[model("b")], pin=pinned, footage=again)
    assert read(again).ref == read(whole).ref


def test_models_that_want_other_footage_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models: sample.fps: 'a' wants 25.0, 'b' wants 10.0"):
        sample.python_func(
            models=[model("a"), model("b", fps=10.0)], pin=artifact(tmp_path), footage=artifact(tmp_path / "out")
        )


def trained(folder: Path, name: str, **summary: Any) -> tuple[Any, Any]:
    """Pointers of a backbone and a classifier, as the loop over models leaves them."""
    made = []
    for kind, step in (("backbone", "pretrain"), ("classifier", "finetune")):
        manifest = Manifest(
            kind=kind, step=step, digest=f"{name}-{kind}", inputs={}, config={}, code="", files={}, summary=summary
        )
        manifest.write(folder / f"{name}-{kind}")
        made.append(artifact(folder / f"{name}-{kind}", dsl.Model, model=name, ref=manifest.ref))
    return made[0], made[1]


def test_the_best_on_validation_goes_on_whatever_the_order_of_artifacts(store: Store, tmp_path: Path) -> None:
    a = trained(tmp_path, "a", val_accuracy=0.4, val_loss=1.0)
    b = trained(tmp_path, "b", val_accuracy=0.6, val_loss=1.2)
    c = trained(tmp_path, "c", val_accuracy=0.6, val_loss=1.1)
    models = [model("a"), model("b"), model("c")]
    outputs = {name: artifact(tmp_path / f"out-{name}", dsl.Model) for name in ("backbone", "classifier", "choice")}
    chosen = choose.python_func(models=models, backbones=[b[0], c[0], a[0]], classifiers=[a[1], b[1], c[1]], **outputs)
    assert chosen == models[2]
    assert read(outputs["backbone"]).digest == "c-backbone" and read(outputs["classifier"]).digest == "c-classifier"
    assert outputs["classifier"].metadata["model"] == "c"
    assert read(outputs["choice"]).summary == {"chosen": "c", "validation": {"a": 0.4, "b": 0.6, "c": 0.6}}


def test_of_several_without_validation_none_is_chosen(store: Store, tmp_path: Path) -> None:
    a, b = trained(tmp_path, "a", accuracy=0.9), trained(tmp_path, "b", val_accuracy=0.2, val_loss=1.0)
    outputs = {name: artifact(tmp_path / f"out-{name}", dsl.Model) for name in ("backbone", "classifier", "choice")}
    with pytest.raises(UserError, match="models: 'a' was not scored on validation"):
        choose.python_func(models=[model("a"), model("b")], backbones=[a[0], b[0]], classifiers=[a[1], b[1]], **outputs)
    assert choose.python_func(models=[model("a")], backbones=[a[0]], classifiers=[a[1]], **outputs)["name"] == "a"


def test_the_summary_tells_what_failed_and_what_is_served(store: Store, tmp_path: Path) -> None:
    champion = Champion(version=3, bundle="export/x", onnx_sha256="0")
    Ledger(store, "gestures").append(
        LedgerEntry(
            number=1,
            endpoint="gestures",
            decision="promoted",
            challenger=champion,
            champion=champion,
            reason="better",
            time="now",
        )
    )
    write_videos(tmp_path / "videos", files=2)
    pinned, page = artifact(tmp_path / "pinned"), artifact(tmp_path / "page", dsl.Markdown)
    where = {"videos": str(tmp_path / "videos"), "labels": "", "splits": "", "fold": 1, "revision": ""}
    pin.python_func(**where, partitions=1, pinned=pinned)
    with pytest.raises(UserError):
        pin.python_func(**(where | {"videos": str(tmp_path / "away")}), partitions=1, pinned=pinned)
    status = dsl.PipelineTaskFinalStatus(
        state="FAILED", pipeline_job_resource_name="job", pipeline_task_name="run", error_code=1, error_message="exit 2"
    )
    summary.python_func(endpoint="gestures", status=status, page=page)
    text = Path(page.path).read_text()
    assert "# gestures: failed" in text and "**pin: videos: " in text and "Champion: version 3" in text
    record = json.loads(store.read("runs/a-run/summary.json") or b"")
    assert [step["ref"] for step in record["steps"]] == [read(pinned).ref]
    assert (record["decision"], record["champion"]) == (None, 3), "the decision was another run's"


def test_the_summary_of_a_success_holds_no_error_of_a_step_that_was_tried_again(store: Store) -> None:
    journal = Journal(store, "r")
    journal.add("error", step="pretrain", message="node went away")
    for step in ("pretrain", "evaluate", "promote"):
        journal.add("end", step=step, seconds=1.0, cached=False, ref=f"{step}/0")
    champion = Champion(version=1, bundle="export/x", onnx_sha256="0")
    Ledger(store, "g").append(
        LedgerEntry(
            number=1,
            endpoint="g",
            decision="promoted",
            challenger=champion,
            champion=champion,
            reason="another run's",
            time="now",
        )
    )
    own = {"decision": "promoted", "reason": "first"}
    said = {"caveats": ["pretraining: the pretext task stayed at chance"]}
    for kind, step, found in (("decision", "promote", own), ("evaluation", "evaluate", said)):
        store.publish(
            Manifest(kind=kind, step=step, digest="0", inputs={}, config={}, code="", files={}, summary=found)
        )
    record = summary_of(store, run="r", endpoint="g", state="SUCCEEDED", error="")
    assert (record["error"], record["tried_again"]) == ("", ["pretrain: node went away"])
    assert record["decision"] == {"decision": "promoted", "reason": "first"}
    page = page_of(record)
    assert "Mind: pretraining: the pretext task stayed at chance" in page
    assert "**" not in page and "Tried again: pretrain: node went away" in page
    failed = summary_of(store, run="r", endpoint="g", state="FAILED", error="exit 1")
    assert (failed["error"], failed["tried_again"]) == ("exit 1", ["pretrain: node went away"])
