"""What is registered tells its lineage, and by whose word an output of earlier code stands."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from rushes.home import open_store
from rushes.recipes import load_recipe
from rushes.steps.base import Context
from rushes.steps.register import _chain, _registration
from rushes.store import Manifest

WORD = {"ref": "pretrain/0a", "code": "c0", "reason": "a message changed", "by": "ada", "time": "2026-11-30T10:00:00"}
NOTHING: dict[str, str] = {}
METRICS = {"rows": [], "test": {"manifest_sha256": "aa"}}


def published(
    step: str,
    *,
    inputs: Mapping[str, str],
    files: Mapping[str, str] = NOTHING,
    accepted: Mapping[str, str] = NOTHING,
    digest: str = "0b",
) -> Manifest:
    store = open_store()
    made = Manifest(
        kind=step,
        step=step,
        digest=digest,
        inputs=inputs,
        config={},
        code="c1",
        files={name: store.put_bytes(text.encode()) for name, text in files.items()},
        accepted=accepted,
    )
    store.publish(made)
    return made


def test_the_tags_say_whose_word_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    backbone = published("pretrain", inputs={}, files={"history.json": "[]"}, accepted=WORD)
    evaluated = published(
        "evaluate", inputs={"backbone": backbone.ref}, files={"metrics.json": json.dumps(METRICS)}, accepted={}
    )
    exported = published("export", inputs={}, files={"model.onnx": "graph"}, accepted={})
    tags = _registration(
        Context(step="register"),
        tmp_path,
        recipe=load_recipe("pace-r2plus1d"),
        endpoint="first",
        exported=exported,
        evaluated=evaluated,
    ).tags
    assert tags["rushes.backbone"] == "pretrain/0b"
    assert tags["rushes.backbone.accepted"] == ("pretrain/0a of code c0: a message changed (ada, 2026-11-30T10:00:00)")
    assert "rushes.evaluation.accepted" not in tags and "rushes.export.accepted" not in tags


def test_of_two_inputs_of_one_name_the_nearest_is_the_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pretraining began with the weights of an earlier run, on other footage."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))

    def made(step: str, digest: str, **inputs: Manifest) -> Manifest:
        return published(step, digest=digest, inputs={name: manifest.ref for name, manifest in inputs.items()})

    def run(digest: str, **init: Manifest) -> dict[str, Manifest]:
        pin = made("pin", digest)
        footage = made("sample", digest, pin=pin)
        backbone = made("pretrain", digest, footage=footage, **init)
        classifier = made("finetune", digest, footage=footage, backbone=backbone)
        return {"pin": pin, "footage": footage, "backbone": backbone, "classifier": classifier}

    earlier = run("0a")
    own = run("0b", init=earlier["classifier"])
    inputs = {name: own[name] for name in ("footage", "backbone", "classifier")}
    evaluated = made("evaluate", "0b", **inputs, baseline=own["classifier"])
    chain = _chain(Context(step="register"), evaluated)
    assert {name: chain[name].ref for name in own} == {name: manifest.ref for name, manifest in own.items()}
    assert chain["init"] == earlier["classifier"]
