"""Pointers that do not belong together are refused, whichever: all combinations of those of three real models."""

import dataclasses
import functools
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from rushes import processes
from rushes.config import ExportConfig, Recipe
from rushes.digests import step_digest
from rushes.errors import ServiceError, UserError
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.journal import Journal
from rushes.ledger import Champion, Ledger, LedgerEntry, now
from rushes.orchestration.summary import summary_of
from rushes.recipes import parse_recipe
from rushes.serving.repository import Repository
from rushes.steps.deploy import deploy
from rushes.steps.evaluate import evaluate
from rushes.steps.export import export
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.promote import promote
from rushes.steps.register import register
from rushes.steps.sample import sample
from rushes.store import Manifest
from rushes.tracking.registry import Registry
from rushes.tracking.server import start_mlflow, tracking_url
from tests.chain import TINY
from tests.integration.conftest import free_ports, write_videos

MODELS = ("x1", "x2", "y1")
"""Two on the footage x, which share a backbone, and one on the footage y."""


def recipe_of(model: str, **promotion: Any) -> Recipe:
    finetuning = TINY["finetune"] | {"epochs": 2 if model == "x2" else 1}
    lenient = {"require": "non_inferior", "margin": 0.99, "min_groups": 2, "resamples": 100} | promotion
    return parse_recipe({"name": "tiny", **TINY, "finetune": finetuning, "promote": lenient})


@dataclass(frozen=True)
class Pool:
    """Pointers by name of the model (of footage and backbone: x1 stands for x2, too) and of the output."""

    folder: Path

    def at(self, model: str, output: str) -> Path:
        shared = output in ("pin", "footage", "backbone")
        return self.folder / f"{model[0] if shared else model}-{output}.json"

    def read(self, model: str, output: str) -> Manifest:
        return Manifest.read(self.at(model, output))

    def make(self, model: str) -> None:
        """Runs the steps up to the bundle."""
        recipe = recipe_of(model)
        at = {name: self.at(model, name) for name in ("pin", "footage", "backbone", "tuned", "random")}
        write_videos(self.folder / model[0], files=3, seed=ord(model[0]))
        pin(data=DataReference(videos=str(self.folder / model[0])), out=at["pin"])
        sample(recipe=recipe, pin=at["pin"], out=at["footage"])
        pretrain(recipe=recipe, footage=at["footage"], out=at["backbone"])
        on: dict[str, Any] = {"recipe": recipe, "footage": at["footage"], "backbone": at["backbone"]}
        finetune(**on, out=at["tuned"])
        finetune(**on, init="random", out=at["random"])
        bundle = self.at(model, "bundle")
        export(recipe=recipe, classifier=at["tuned"], out=bundle)
        judged: dict[str, Any] = {"classifier": at["tuned"], "baseline": at["random"], "bundle": bundle}
        evaluate(**on, **judged, out=self.at(model, "evaluation"))

    def register(self, model: str, endpoint: str = "e") -> Manifest:
        bundle, evaluation = self.at(model, "bundle"), self.at(model, "evaluation")
        out = self.at(model, "version")
        return register(recipe=recipe_of(model), endpoint=endpoint, bundle=bundle, evaluation=evaluation, out=out)

    def promote(self, model: str, **promotion: Any) -> Manifest:
        names = ("version", "bundle", "evaluation", "footage")
        pointers = {name: self.at(model, name) for name in names}
        return promote(recipe=recipe_of(model, **promotion), **pointers, out=self.at(model, "decision"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        for name in ("RUSHES_STORE", "RUSHES_CACHE", "RUSHES_PROGRESS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        made = Pool(folder)
        for model in MODELS:
            made.make(model)
        yield made
        torch.set_num_threads(threads)


def refused(action: Any, **pointers: Path) -> str:
    """The message: one line that names a field, two refs and what to run."""
    with pytest.raises(UserError) as caught:
        action(**pointers)
    message = str(caught.value)
    assert "\n" not in message and "run `rushes " in message
    assert any(f"{field}: {Manifest.read(path).ref} " in message for field, path in pointers.items()), message
    assert len(re.findall(r"[a-z]+/[0-9a-z-]+", message)) >= 2, message
    return message


# Evaluation and registration -----------------------------------------------------------------------------------------


PAIR = ("tuned", "random")


def test_evaluation_takes_one_model_its_baseline_and_their_footage(pool: Pool, tmp_path: Path) -> None:
    passed = {}
    for footage, backbone, tuned, baseline, bundle in itertools.product("xy", "xy", MODELS, MODELS, MODELS):
        for outputs in itertools.product(("tuned", "random"), repeat=2):
            pointers: dict[str, Any] = {
                "footage": pool.at(footage, "footage"),
                "backbone": pool.at(backbone, "backbone"),
                "classifier": pool.at(tuned, outputs[0]),
                "baseline": pool.at(baseline, outputs[1]),
                "bundle": pool.at(bundle, "bundle"),
            }
            step = functools.partial(evaluate, recipe=recipe_of(tuned), out=tmp_path / "out.json")
            if footage == backbone == tuned[0] and tuned == baseline == bundle and outputs == PAIR:
                passed[tuned] = step(**pointers).ref
            else:
                refused(step, **pointers)
    assert passed == {model: pool.read(model, "evaluation").ref for model in MODELS}


def test_what_was_swapped_or_trained_otherwise_is_named(pool: Pool, tmp_path: Path) -> None:
    on: dict[str, Any] = {name: pool.at("x1", name) for name in ("footage", "backbone")}
    step = functools.partial(evaluate, recipe=recipe_of("x1"), out=tmp_path / "out.json", **on)
    tuned, random, longer = pool.at("x1", "tuned"), pool.at("x1", "random"), pool.at("x2", "random")
    bundle = pool.at("x1", "bundle")
    with pytest.raises(UserError, match=r"^baseline: \S+ was fine-tuned with init 'pretrained', classifier: \S+ with "):
        step(classifier=random, baseline=tuned, bundle=bundle)
    with pytest.raises(UserError, match=r"^baseline: \S+ was fine-tuned with epochs 2, classifier: \S+ with 1: run "):
        step(classifier=tuned, baseline=longer, bundle=bundle)
    with pytest.raises(
        UserError, match=r"^bundle: export/\w+ was made from classifier finetune/\w+, and classifier is "
    ):
        step(classifier=tuned, baseline=random, bundle=pool.at("x2", "bundle"))


def test_an_evaluation_of_another_model_is_not_registered(pool: Pool, tmp_path: Path) -> None:
    step = functools.partial(register, recipe=recipe_of("x1"), endpoint="e", out=tmp_path / "out.json")
    for bundle, evaluation in itertools.permutations(MODELS, 2):
        pointers = {"bundle": pool.at(bundle, "bundle"), "evaluation": pool.at(evaluation, "evaluation")}
        message = refused(step, **pointers)
        assert all(pool.read(model, "bundle").ref in message for model in (bundle, evaluation))


# Promotion -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registered(pool: Pool) -> Iterator[Pool]:
    """The models, registered with a real MLflow."""
    home = pool.folder / "home"
    server = start_mlflow(home=home, port=free_ports(1)[0])
    try:
        for model in MODELS:
            pool.register(model)
        yield pool
    finally:
        processes.stop(name=server.name, home=home)


def test_promotion_takes_the_four_pointers_of_one_model_and_no_others(registered: Pool, tmp_path: Path) -> None:
    pool, passed = registered, {}
    for version, bundle, evaluation, footage in itertools.product(MODELS, MODELS, MODELS, "xy"):
        pointers: dict[str, Any] = {
            "version": pool.at(version, "version"),
            "bundle": pool.at(bundle, "bundle"),
            "evaluation": pool.at(evaluation, "evaluation"),
            "footage": pool.at(footage, "footage"),
        }
        step = functools.partial(promote, recipe=recipe_of(version), out=tmp_path / "out.json")
        if version == bundle == evaluation and footage == version[0]:
            passed[version] = step(**pointers)
        else:
            refused(step, **pointers)
    assert {model: made.inputs["bundle"] for model, made in passed.items()} == {
        model: pool.read(model, "bundle").ref for model in MODELS
    }


def made_again(manifest: Manifest) -> Manifest:
    """The same files by other code."""
    found = {name: open_store().find(ref) for name, ref in manifest.inputs.items()}
    contents = {name: source.content for name, source in found.items() if source is not None}
    digest = step_digest(step=manifest.step, config=manifest.config, inputs=contents, code="other")
    return dataclasses.replace(manifest, code="other", digest=digest)


def test_the_same_content_under_another_name_belongs(registered: Pool, tmp_path: Path) -> None:
    """As where an earlier step ran again, by other code, and made the same."""
    pool, again = registered, tmp_path / "again.json"
    made_again(pool.read("x1", "footage")).write(again)
    pointers = {name: pool.at("x1", name) for name in ("version", "bundle", "evaluation")}
    promote(recipe=recipe_of("x1"), **pointers, footage=again, out=tmp_path / "out.json")
    made_again(pool.read("x1", "bundle")).write(again)
    pointers = {name: pool.at("x1", name) for name in ("version", "footage", "evaluation")}
    promote(recipe=recipe_of("x1"), **pointers, bundle=again, out=tmp_path / "out.json")


def test_an_input_that_was_made_again_with_other_bytes_is_noticed(registered: Pool, tmp_path: Path) -> None:
    """As fine-tuning on a GPU, which does not repeat itself to the last digit, after its output was lost."""
    tuned, store = registered.read("x1", "tuned"), open_store()
    other = {"weights.safetensors": store.put_bytes(b"other weights")}
    store.publish(dataclasses.replace(tuned, files={**tuned.files, **other}))
    message = r"^evaluation: evaluate/\w+: its inputs \(.*finetune/\w+.*\) were made again since, "
    with pytest.raises(UserError, match=message):
        registered.promote("x1")
    store.discard(other["weights.safetensors"].sha256)
    with pytest.raises(UserError, match=message):
        registered.promote("x1")
    store.publish(tuned)
    registered.promote("x1")


def test_a_version_that_mlflow_has_for_another_bundle_is_refused(registered: Pool, ledger: Ledger) -> None:
    """As after its database was made anew: its numbers begin at 1 again."""
    client = Registry(tracking_url(registered.folder / "home")).client
    version, bundle = str(registered.read("x1", "version").summary["version"]), registered.read("x1", "bundle").ref
    registered.promote("x1")
    client.set_model_version_tag("e", version, "rushes.bundle", "export/other")
    with pytest.raises(
        UserError, match=rf"^version: version {version} of e in MLflow at http\S+ has bundle export/oth"
    ):
        registered.promote("x1")
    client.set_model_version_tag("e", version, "rushes.bundle", bundle)
    registered.promote("x1")


# Decisions -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(registered: Pool) -> Ledger:
    """An endpoint without decisions."""
    root = open_store().local
    assert root is not None
    for folder in (root / "ledger", root / "steps" / "promote"):
        shutil.rmtree(folder, ignore_errors=True)
    return Ledger(open_store(), "e")


def named(pool: Pool, model: str) -> Champion:
    bundle, version = pool.read(model, "bundle"), pool.read(model, "version")
    sha256 = bundle.files["model.onnx"].sha256
    return Champion(version=version.summary["version"], bundle=bundle.ref, onnx_sha256=sha256)


def write_entry(ledger: Ledger, champion: Champion | None, *, challenger: Champion, **report: str) -> LedgerEntry:
    """An entry as by hand."""
    number = len(ledger.entries()) + 1
    entry = LedgerEntry(
        number=number,
        endpoint="e",
        decision="promoted",
        challenger=challenger,
        champion=champion,
        reason=f"by hand {number}",
        time=now(),
        report=report,
    )
    assert ledger.append(entry)
    return entry


def test_a_champions_run_after_anothers_refusal_reports_its_own_entry(registered: Pool, ledger: Ledger) -> None:
    pool, champion, store = registered, named(registered, "x1"), open_store()
    write_entry(ledger, champion, challenger=champion)
    first = pool.promote("x1")
    other = pool.promote("x2", require="better", min_groups=1000)
    assert (other.summary["decision"], other.summary["champion"], other.summary["entry"]) == (
        "refused",
        champion.version,
        2,
    )
    again = pool.promote("x1")
    assert again == first and again.summary["decision"] == "promoted" and again.summary["reason"] == "by hand 1"
    assert store.find(other.ref) == other and other.inputs["bundle"] == pool.read("x2", "bundle").ref
    assert pool.promote("x2", require="better", min_groups=1000) == other
    assert len(ledger.entries()) == 2
    journal = Journal(store, "run")
    journal.add("end", step="promote", seconds=1.0, cached=True, ref=again.ref)
    record = summary_of(store, run="run", endpoint="e", state="SUCCEEDED", error="")
    assert record["decision"] == {"decision": "promoted", "reason": "by hand 1"}


def test_a_refusal_that_others_followed_is_not_recorded_again(registered: Pool, ledger: Ledger) -> None:
    champion, strict = named(registered, "y1"), {"require": "better", "min_groups": 1000}
    write_entry(ledger, champion, challenger=champion)
    refusals = [registered.promote(model, **strict) for model in ("x1", "x2", "x1", "x2")]
    assert [made.summary["entry"] for made in refusals] == [2, 3, 2, 3]
    assert len(ledger.entries()) == 3


def test_a_rollback_by_hand_is_not_undone_by_the_next_identical_run(registered: Pool, ledger: Ledger) -> None:
    pool, old, new = registered, named(registered, "x1"), named(registered, "x2")
    write_entry(ledger, old, challenger=old)
    write_entry(ledger, new, challenger=new)
    write_entry(ledger, old, challenger=old)
    made = pool.promote("x2")
    assert (made.summary["decision"], made.summary["champion"], made.summary["entry"]) == ("refused", old.version, 4)
    assert made.summary["reason"].startswith(f"replaced: fail: version {new.version} was the champion until entry 3 (")
    assert pool.promote("x2") == made and len(ledger.entries()) == 4
    assert pool.promote("x1").summary["entry"] == 3
    # Withdrawn, with nothing in its stead.
    write_entry(ledger, None, challenger=old)
    assert pool.promote("x1").summary["decision"] == "refused"
    assert (last := ledger.last()) and last.champion is None and "put no version in its stead" in last.reason


def test_other_test_videos_decide_anew(registered: Pool, ledger: Ledger) -> None:
    pool, old, new = registered, named(registered, "x1"), named(registered, "x2")
    write_entry(ledger, new, challenger=new, test_sha256="of other videos")
    write_entry(ledger, old, challenger=old)
    assert "replaced" not in pool.promote("x2").summary["reason"]
    last = ledger.last()
    assert last is not None and last.report["evaluation"] == pool.read("x2", "evaluation").ref
    assert len(last.report["test_sha256"]) == 64


def test_the_same_graph_with_another_contract_is_another_model(
    registered: Pool, ledger: Ledger, tmp_path: Path
) -> None:
    pool, champion = registered, named(registered, "x1")
    write_entry(ledger, champion, challenger=champion)
    recipe = dataclasses.replace(recipe_of("x1"), export=ExportConfig(clips=2))
    pointers = {name: tmp_path / f"{name}.json" for name in ("bundle", "version")}
    bundle = export(recipe=recipe, classifier=pool.at("x1", "tuned"), out=pointers["bundle"])
    assert bundle.files["model.onnx"].sha256 == champion.onnx_sha256
    evaluation, footage = tmp_path / "evaluation.json", pool.at("x1", "footage")
    judged: dict[str, Any] = {"classifier": pool.at("x1", "tuned"), "baseline": pool.at("x1", "random")}
    backbone = pool.at("x1", "backbone")
    evaluate(recipe=recipe, footage=footage, backbone=backbone, **judged, bundle=pointers["bundle"], out=evaluation)
    register(recipe=recipe, endpoint="e", bundle=pointers["bundle"], evaluation=evaluation, out=pointers["version"])
    made = promote(recipe=recipe, **pointers, evaluation=evaluation, footage=footage, out=tmp_path / "out.json")
    assert made.summary["entry"] == 2 and made.inputs["bundle"] == bundle.ref


def test_the_alias_follows_the_champions_bundle(registered: Pool, ledger: Ledger) -> None:
    client = Registry(tracking_url(registered.folder / "home")).client
    champion = named(registered, "x1")
    # As from a database before this one, in which the version had another number.
    write_entry(ledger, moved := dataclasses.replace(champion, version=99), challenger=moved)
    registered.promote("x2", require="better", min_groups=1000)
    assert int(client.get_model_version_by_alias("e", "champion").version) == champion.version
    write_entry(ledger, gone := dataclasses.replace(champion, bundle="export/gone"), challenger=gone)
    registered.promote("x2", require="better", min_groups=1000)
    assert "champion" not in client.get_registered_model("e").aliases


# Deployment ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def decided(registered: Pool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setenv("RUSHES_NO_TRITON", "1")
    champion = named(registered, "x1")
    write_entry(ledger, champion, challenger=champion)
    return registered.promote("x1")


def test_what_is_deployed_is_what_was_promoted(registered: Pool, decided: Manifest, tmp_path: Path) -> None:
    out, decision, champion = tmp_path / "out.json", registered.at("x1", "decision"), named(registered, "x1")
    made = deploy(recipe=recipe_of("x1"), decision=decision, out=out)
    assert made.summary == {
        "endpoint": "e",
        "decided": champion.version,
        "version": champion.version,
        "bundle": registered.read("x1", "bundle").ref,
        "served_by": "in-process graph",
    }
    contract = Repository(registered.folder / "home", "e").version_folder(champion.version) / "contract.json"
    text = contract.read_text()
    contract.write_text(text.replace("moving", "resting?"))
    with pytest.raises(
        ServiceError, match=r"^endpoint e: \S+/contract.json has digest \w+, in bundle export/\w+ it is"
    ):
        deploy(recipe=recipe_of("x1"), decision=decision, out=out)
    contract.write_text(text)
    deploy(recipe=recipe_of("x1"), decision=decision, out=out)


def test_a_champion_named_since_the_decision_is_served_and_said(
    registered: Pool, decided: Manifest, ledger: Ledger, tmp_path: Path
) -> None:
    later = named(registered, "x2")
    write_entry(ledger, later, challenger=later)
    made = deploy(recipe=recipe_of("x1"), decision=registered.at("x1", "decision"), out=tmp_path / "out.json")
    assert (made.summary["decided"], made.summary["version"]) == (named(registered, "x1").version, later.version)


def test_a_decision_of_another_store_is_not_deployed(
    registered: Pool, decided: Manifest, ledger: Ledger, tmp_path: Path
) -> None:
    step = functools.partial(
        deploy, recipe=recipe_of("x1"), decision=registered.at("x1", "decision"), out=tmp_path / "o"
    )
    root = open_store().local
    assert root is not None
    shutil.rmtree(root / "ledger")
    with pytest.raises(
        UserError, match=r"^decision: promote/e-000001 is about version \d; entry 1 of .* does not exist"
    ):
        step()
    other = named(registered, "y1")
    write_entry(ledger, other, challenger=other)
    with pytest.raises(UserError, match=rf"is about version {other.version}: by hand 1: run `rushes promote` on this"):
        step()
