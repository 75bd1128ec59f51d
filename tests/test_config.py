"""Recipes: what is refused and how it is said, sizes, round trips, and what a digest covers."""

import dataclasses
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rushes.config import Optimizer, PretrainConfig, Recipe, RecipeSections, SampleConfig
from rushes.errors import UserError
from rushes.recipes import known_models, load_recipe, parse_recipe, recipe_sizes
from rushes.strict import build, digest_record, to_record

EVERY_RECIPE = [(model, size) for model in known_models() for size in recipe_sizes(model)]


def as_pipeline_parameter(record: dict[str, Any]) -> Any:
    """What a KFP STRUCT makes of a recipe: JSON in which every number is a float."""
    return json.loads(json.dumps(record), parse_int=float)


def test_models_of_the_issue_are_known_in_both_sizes() -> None:
    assert {("vcop-r3d", "full"), ("vcop-r3d", "cpu"), ("pace-r2plus1d", "full"), ("pace-r2plus1d", "cpu")} <= set(
        EVERY_RECIPE
    )


@pytest.mark.parametrize(("model", "size"), EVERY_RECIPE)
def test_recipe_survives_the_pipelines_json(model: str, size: str) -> None:
    recipe = load_recipe(model, size=size)
    assert recipe.name == model
    back = parse_recipe(as_pipeline_parameter(to_record(recipe)))
    assert back == recipe
    # Equal is not enough: 8 == 8.0, but they are different text in a digest.
    assert json.dumps(digest_record(back)) == json.dumps(digest_record(recipe))


def test_published_settings_stand_in_the_recipes() -> None:
    lengths = {"vcop-r3d": (8, 300), "pace-r2plus1d": (30, 18)}
    for model, (batch, epochs) in lengths.items():
        recipe = load_recipe(model)
        assert (recipe.pretrain.clip_frames, recipe.pretrain.crop, recipe.pretrain.batch) == (16, 112, batch)
        assert (recipe.pretrain.epochs, recipe.finetune.epochs, recipe.evaluate.clips) == (epochs, 150, 10)
    vcop, pace = (load_recipe(model).pretrain for model in lengths)
    assert vcop.optimizer == Optimizer(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4)
    assert (pace.optimizer.lr, pace.optimizer.weight_decay) == (1e-3, 5e-3)
    assert vcop.options == {"clips": 3, "gap": 8}
    assert pace.options == {"strides": 4, "flip": True}


def test_a_size_overrides_what_it_names_and_nothing_else() -> None:
    record: dict[str, Any] = {
        "name": "m",
        "sample": {"short_side": 200, "qp": 30},
        "pretrain": {"options": {"clips": 3, "gap": 8}, "epochs": 7, "crop": 112},
        "sizes": {"cpu": {"pretrain": {"crop": 64, "options": {"strides": 4}}}, "bare": None},
    }
    full, cpu = parse_recipe(record), parse_recipe(record, size="cpu")
    assert full.pretrain.crop == 112
    assert (cpu.pretrain.crop, cpu.pretrain.epochs, cpu.sample.qp) == (64, 7, 30)
    # Options belong to a task: those of another are not mixed in.
    assert cpu.pretrain.options == {"strides": 4}
    assert parse_recipe(record, size="bare") == full
    with pytest.raises(UserError, match=r"'cpx' is not a size of m; did you mean 'cpu'"):
        parse_recipe(record, size="cpx")


@pytest.mark.parametrize("sizes", [["cpu"], {"cpu": [1]}, "cpu"])
def test_sizes_of_the_wrong_form_are_refused(sizes: object) -> None:
    with pytest.raises(UserError, match="sizes"):
        parse_recipe({"name": "m", "sizes": sizes}, size="cpu")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pretrain: {epoch: 3}", r"pretrain: unknown key 'epoch'; did you mean 'epochs'\?"),
        ("pretrian: {epochs: 3}", r"unknown key 'pretrian'; did you mean 'pretrain'\?"),
        ("pretrain: {zzzz: 3}", r"unknown key 'zzzz' \(known: epochs, "),
        ("pretrain: {epochs: 10.5}", r"pretrain: epochs: 10.5 is not an int"),
        ("pretrain: {epochs: '10'}", r"epochs: '10' is not an int"),
        ("pretrain: {epochs: true}", r"epochs: True is not an int"),
        ("pretrain: {epochs: null}", r"epochs: None is not an int"),
        ("pretrain: {epochs: .inf}", r"epochs: inf is not an int"),
        ("pretrain: {epochs: 0}", r"pretrain.epochs: 0 is not allowed; at least 1"),
        ("pretrain: {checkpoint_seconds: -1}", r"pretrain.checkpoint_seconds: -1.0 is not allowed"),
        ("pretrain: {optimizer: {lr: 1e-3}}", r"lr: '1e-3' is not a float \(write 1.0e-3, not 1e-3"),
        ("pretrain: {optimizer: {lr: .inf}}", r"lr: inf is not allowed"),
        ("pretrain: {optimizer: {lr: .nan}}", r"lr: nan is not allowed"),
        ("pretrain: {optimizer: {lr: true}}", r"lr: True is not a float"),
        ("pretrain: {optimizer: {name: adam}}", r"name: 'adam' is not allowed; one of sgd, adamw"),
        ("pretrain: {optimizer: {name: [adam]}}", r"name: \['adam'\] is not allowed; one of sgd, adamw"),
        ("pretrain: {optimizer: {schedule: step}}", r"milestones: \[\] is not allowed; rising shares"),
        ("pretrain: {optimizer: {milestones: [0.8, 0.5]}}", r"milestones: \[0.8, 0.5\] is not allowed"),
        ("pretrain: {optimizer: {milestones: [80]}}", r"milestones: \[80.0\] is not allowed"),
        ("pretrain: {optimizer: {milestones: 0.8}}", r"milestones: 0.8 is not a list"),
        ("pretrain: {options: [1]}", r"options: \[1\] is not a mapping"),
        ("pretrain: 3", r"pretrain: expected a mapping, found 3"),
        ("pretrain:", r"pretrain: expected a mapping, found None"),
        ("pretrain: {crop: 130}", r"crop: 130 does not fit in sample.short_side 128"),
        ("sample: {fps: 2e1}", r"fps: '2e1' is not a float \(write"),
        ("finetune: {flip: 1}", r"flip: 1 is not a bool"),
        ("sample: {short_side: 129}", r"sample.short_side: 129 is not allowed; even"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_remedy(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_recipe({"name": "m", **yaml.safe_load(text)})


def test_a_recipe_needs_a_name_and_sections() -> None:
    with pytest.raises(UserError, match="name"):
        parse_recipe({})
    with pytest.raises(UserError, match="expected a mapping of sections, found list"):
        parse_recipe([])  # type: ignore[arg-type]


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'vcop-r3' is not known; did you mean 'vcop-r3d'\?.*pace-r2plus1d"):
        load_recipe("vcop-r3")
    with pytest.raises(UserError, match="not known"):
        load_recipe("../models/vcop-r3d")


def test_numbers_are_what_the_field_says() -> None:
    recipe = parse_recipe({"name": "m", "seed": 7.0, "pretrain": {"epochs": 10.0, "options": {"gap": 8.0, "x": 0.5}}})
    assert (type(recipe.seed), type(recipe.pretrain.epochs)) == (int, int)
    assert [type(value) for value in recipe.pretrain.options.values()] == [int, float]
    assert isinstance(build(SampleConfig, {"fps": 25}, "sample").fps, float)
    assert build(SampleConfig, {"fps": None}, "sample").fps is None


sections = {f.name: f.default_factory for f in dataclasses.fields(RecipeSections) if f.name != "seed"}


@given(st.sampled_from(sorted(sections)), st.data())
def test_any_field_of_any_type_is_accepted_or_refused_by_name(section: str, data: st.DataObject) -> None:
    kind = sections[section]
    assert kind is not dataclasses.MISSING
    names = [f.name for f in dataclasses.fields(kind())]
    name = data.draw(st.sampled_from([*names, "nonsense"]))
    value = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.integers())
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
    )
    try:
        recipe = parse_recipe({"name": "m", section: {name: value}})
    except UserError as error:
        assert name in str(error)
        assert "\n" not in str(error)
    else:
        assert parse_recipe(json.loads(json.dumps(to_record(recipe)))) == recipe


FREE = {
    "sample": {"workers"},
    "pretrain": {"checkpoint_seconds", "device", "workers"},
    "finetune": {"checkpoint_seconds", "device", "workers"},
    "evaluate": {"batch", "device"},
}


@pytest.mark.parametrize("section", sorted(sections))
def test_a_digest_covers_every_field_but_the_free_ones(section: str) -> None:
    default = getattr(Recipe(name="m"), section)
    names = {f.name for f in dataclasses.fields(default)}
    assert set(digest_record(default)) == names - FREE.get(section, set())


def test_free_fields_change_no_digest_and_others_do() -> None:
    default = PretrainConfig()
    same = dataclasses.replace(default, workers=9, device="cuda:1", checkpoint_seconds=5)
    assert digest_record(same) == digest_record(default)
    other = dataclasses.replace(default, optimizer=Optimizer(lr=0.5))
    assert digest_record(other) != digest_record(default)
