"""The plan of a comparison: the same on a cluster as on one machine, through JSON and kfp's floats."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rushes.comparing.comparison_plan import ComparisonPlan, ComparisonSettings, numbers_of
from rushes.comparing.initialisations import Initialisation, initialisations_of
from rushes.comparing.members import Member, common_sample, named_recipes, parse_member
from rushes.comparing.result import result_of
from rushes.comparing.tasks import write_plan
from rushes.errors import UserError
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.store import Manifest
from rushes.strict import to_record
from tests.steps.test_downstream import write_videos

MEMBERS = (
    "small=vcop-r3d",
    "large=pace-r2plus1d:sample.short_side=64,pretrain.crop=56",
    "weights=vcop-r3d:pretrain.init=k.pt",
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RUSHES_STORE", raising=False)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "classes"
    write_videos(folder, files=3)
    return folder


def members(*texts: str) -> list[Member]:
    return [parse_member(text, size="cpu") for text in texts]


def as_kfp_passes(recipes: Sequence[Any]) -> list[Any]:
    """Through JSON, with every number a float."""
    return list(json.loads(json.dumps([to_record(recipe) for recipe in recipes]), parse_int=float))


def unnamed_recipes(rows: Sequence[Initialisation]) -> list[Initialisation]:
    """Without the recipes' names, on which nothing depends."""
    return [dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, name="-")) for row in rows]


def test_a_cluster_compares_what_one_machine_compares(videos: Path, tmp_path: Path) -> None:
    found = members(*MEMBERS)
    settings = ComparisonSettings(data=DataReference(videos=str(videos)), folds=3, seeds=2, numbers=(1, 5), budget=1e14)
    plan = write_plan(
        models=as_kfp_passes(named_recipes(found)), settings=settings, out=tmp_path / "plan", pin=tmp_path / "first"
    )
    here = initialisations_of(found, common_sample(found), budget=1e14)
    assert [row.name for row in here] == [
        "random tiny_r3d",
        "small",
        "random tiny_r2plus1d",
        "large",
        "supervised tiny_r3d",
        "weights",
    ]
    assert unnamed_recipes(plan.initialisations) == unnamed_recipes(here)
    assert ComparisonPlan.read(tmp_path / "plan") == plan
    names = [chain.name for chain in plan.chains]
    assert len(set(names)) == len(names) == 6 * 3 * 2
    assert {chain.labels for chain in plan.chains} == {(1, 5, 0)}


def test_each_group_is_test_in_one_fold_and_the_first_fold_is_what_is_sampled_first(
    videos: Path, tmp_path: Path
) -> None:
    settings = ComparisonSettings(data=DataReference(videos=str(videos)), folds=3)
    plan = write_plan(
        models=as_kfp_passes(named_recipes(members("vcop-r3d"))),
        settings=settings,
        out=tmp_path / "plan",
        pin=tmp_path / "pin",
    )
    pins = [Manifest.from_json(pointer) for pointer in plan.pins]
    assert Manifest.read(tmp_path / "pin", kind="pin") == pins[0]
    tested: list[str] = []
    for pin in pins:
        listing = json.loads(open_store().path(pin.files["listing.json"]).read_text())
        tested += [one["path"] for one in listing["annotations"] if one["split"] == "test"]
    assert len(tested) == len(set(tested)) == 6


@pytest.mark.parametrize(
    ("models", "folds", "words"),
    [
        ((), 3, "models: none given"),
        (("vcop-r3d", "vcop-r3d"), 3, "models: 'vcop-r3d' is there twice"),
        (("vcop-r3d", "pace-r2plus1d:sample.fps=10"), 3, r"models: sample\.fps: 'vcop-r3d' wants 25"),
        (("vcop-r3d",), 7, "folds: 7 is not allowed; the labels have 6 groups"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_encoded(
    models: tuple[str, ...], folds: int, words: str, videos: Path, tmp_path: Path
) -> None:
    recipes = [member.recipe for member in members(*models)]
    settings = ComparisonSettings(data=DataReference(videos=str(videos)), folds=folds)
    with pytest.raises(UserError, match=words):
        write_plan(models=as_kfp_passes(recipes), settings=settings, out=tmp_path / "plan", pin=tmp_path / "pin")


def test_what_a_chain_read_must_still_be_there() -> None:
    found = members("vcop-r3d:pretrain.task=none")
    rows = initialisations_of(found, common_sample(found))
    plan = ComparisonPlan(
        settings=ComparisonSettings(data=DataReference(videos="v"), folds=1), initialisations=tuple(rows), pins=("",)
    )
    lost = {"backbone": "pretrain/0", "classifier-0": "finetune/0"}
    answers = Manifest(kind="measurement", step="measure", digest="0", inputs=lost, config={}, code="", files={})
    with pytest.raises(UserError, match="pretrain/0 is missing: run the step that made it again"):
        result_of(plan, {chain.name: answers for chain in plan.chains})


def test_numbers_of_labels_are_in_order_and_0_is_all_only() -> None:
    assert numbers_of("10,1,5,5") == (1, 5, 10)
    assert numbers_of("0") == ()


@pytest.mark.parametrize("budget", [-1.0, math.nan, math.inf])
def test_a_budget_is_a_number_of_flops(budget: float) -> None:
    with pytest.raises(UserError, match=r"budget: .* is not allowed; FLOPs"):
        ComparisonSettings(data=DataReference(videos="/films"), budget=budget)
