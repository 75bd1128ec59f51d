"""The members of a comparison: overrides, the common footage, rows that are computed once."""

import dataclasses
import json
from pathlib import Path

import pytest

from rushes.comparing.chains import Chain
from rushes.comparing.initialisations import Initialisation, initialisations_of
from rushes.comparing.members import Member, common_sample, parse_member
from rushes.errors import UserError
from rushes.recipes import load_recipe
from rushes.strict import digest_record
from rushes.training.budget import flops_of


def members(*texts: str) -> list[Member]:
    return [parse_member(text, size="cpu") for text in texts]


def rows_of(*texts: str, budget: float = 0.0) -> list[Initialisation]:
    found = members(*texts)
    return initialisations_of(found, common_sample(found), budget=budget)


def test_a_member_is_a_recipe_with_overrides() -> None:
    member = parse_member(
        "vcop-r3d:pretrain.epochs=5,pretrain.options.gap=4,finetune.optimizer.lr=1e-2,finetune.flip=true", size="cpu"
    )
    plain = load_recipe("vcop-r3d", size="cpu")
    assert member.name.startswith("vcop-r3d:pretrain.epochs=5")
    assert member.recipe.pretrain.epochs == 5
    assert member.recipe.pretrain.options == {**plain.pretrain.options, "gap": 4}
    assert (member.recipe.finetune.optimizer.lr, member.recipe.finetune.flip) == (0.01, True)
    assert member.recipe.sample == plain.sample
    assert parse_member("vcop-r3d", size="cpu").recipe == plain


def test_a_name_stands_before_the_model() -> None:
    named = parse_member("long=vcop-r3d:pretrain.epochs=50", size="cpu")
    assert (named.name, named.recipe.pretrain.epochs) == ("long", 50)
    assert parse_member("mine=vcop-r3d", size="cpu").name == "mine"


def test_another_task_begins_with_its_own_options_and_weights_are_found_from_any_folder() -> None:
    changed = parse_member("vcop-r3d:pretrain.task=pace,pretrain.options.strides=2,pretrain.init=w.pth", size="cpu")
    assert changed.recipe.pretrain.options == {"strides": 2}
    assert changed.recipe.pretrain.init == str(Path("w.pth").absolute())
    same = parse_member("vcop-r3d:pretrain.task=clip_order", size="cpu")
    assert same.recipe == load_recipe("vcop-r3d", size="cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vcop", r"model: 'vcop' .* did you mean 'vcop-"),
        ("vcop-r3d:pretrain.epoch=5", r"vcop-r3d:pretrain\.epoch=5.* unknown key 'epoch'; did you mean 'epochs'"),
        ("vcop-r3d:pretrain.epochs", r"'pretrain.epochs' is not an override; write section\.field=value"),
        ("vcop-r3d:pretrain.epochs=many", r"epochs: 'many' is not an int"),
        ("vcop-r3d:pretrain.epochs=0", r"pretrain\.epochs: 0 is not allowed"),
        ("vcop-r3d:train.epochs=1", r"'train' is not a section"),
        ("vcop-r3d:pretrain.epochs.x=1", r"'epochs' is not a section"),
        ("vcop-r3d:pretrain.crop=400", r"pretrain\.crop: 400 does not fit"),
        ("vcop-r3d:pretrain.optimizer.milestones=[0.6", r"milestones: '\[0\.6' is not allowed"),
        ("vcop-r3d:pretrain.init=s3://b/w.pt", r"pretrain\.init: 's3://b/w\.pt' is not allowed; a file"),
    ],
)
def test_a_bad_member_is_told_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_member(text, size="cpu")


def test_footage_is_as_large_as_the_largest_member_needs_and_others_read_it_smaller() -> None:
    small, large = "small=vcop-r3d", "large=vcop-r3d:sample.short_side=64,pretrain.crop=56"
    assert common_sample(members(small, large)).short_side == 64
    sides = {row.name: row.recipe.pretrain.short_side for row in rows_of(small, large)}
    assert (sides["small"], sides["large"]) == (56, 0)
    # At other geometry, random weights see something else: a row of their own.
    assert sides["random tiny_r3d"] == 56
    assert sides["random tiny_r3d of large"] == 0


def test_members_must_agree_on_footage() -> None:
    with pytest.raises(UserError, match=r"sample\.fps: 'vcop-r3d' wants 25\.0, .*wants 10\.0"):
        common_sample(members("vcop-r3d", "pace-r2plus1d:sample.fps=10"))
    with pytest.raises(UserError, match="member: 'vcop-r3d' is there twice"):
        common_sample(members("vcop-r3d", "vcop-r3d"))


def test_random_weights_are_one_row_per_network_whatever_the_task() -> None:
    rows = rows_of("vcop-r3d", "short=vcop-r3d:pretrain.epochs=2", "pace-r2plus1d")
    assert [(row.name, row.init, row.baseline) for row in rows] == [
        ("random tiny_r3d", "random", "random tiny_r3d"),
        ("vcop-r3d", "pretext", "random tiny_r3d"),
        ("short", "pretext", "random tiny_r3d"),
        ("random tiny_r2plus1d", "random", "random tiny_r2plus1d"),
        ("pace-r2plus1d", "pretext", "random tiny_r2plus1d"),
    ]
    assert rows[0].recipe.pretrain.task == "none"


def test_other_fine_tuning_needs_random_weights_of_its_own() -> None:
    rows = rows_of("vcop-r3d", "slow=vcop-r3d:finetune.epochs=99")
    assert [row.name for row in rows if row.init == "random"] == ["random tiny_r3d", "random tiny_r3d of slow"]
    assert next(row for row in rows if row.name == "slow").baseline == "random tiny_r3d of slow"


def test_weights_of_a_file_are_compared_with_and_without_the_task() -> None:
    rows = rows_of(
        "both=vcop-r3d:pretrain.init=kinetics.pth", "file=vcop-r3d:pretrain.task=none,pretrain.init=other.pth"
    )
    assert [(row.name, row.init) for row in rows] == [
        ("random tiny_r3d", "random"),
        ("supervised tiny_r3d", "supervised"),
        ("both", "supervised + pretext"),
        ("supervised tiny_r3d of file", "supervised"),
    ]
    assert {row.baseline for row in rows} == {"random tiny_r3d"}


def test_a_budget_is_the_same_for_all() -> None:
    rows = rows_of("vcop-r3d", "pace-r2plus1d", budget=2e13)
    for row in rows:
        own = row.recipe.pretrain
        tuples = own.epochs * own.samples_per_epoch if row.init == "pretext" else 0
        assert flops_of(row.recipe, tuples=tuples) == (pytest.approx(2e13, rel=0.05) if tuples else 0.0)


def test_a_list_is_an_override() -> None:
    member = parse_member("vcop-r3d:pretrain.optimizer.milestones=[0.6,0.8],pretrain.epochs=5", size="cpu")
    assert member.recipe.pretrain.optimizer.milestones == (0.6, 0.8)
    assert member.recipe.pretrain.epochs == 5


@pytest.mark.parametrize(
    "names",
    [
        ("a.b", "a-b"),
        ("快", "慢"),
        tuple(f"pace-r2plus1d:pretrain.optimizer.name=sgd,pretrain.optimizer.lr={rate}" for rate in (0.1, 0.01)),
    ],
)
def test_no_two_chains_share_a_folder(names: tuple[str, str], tmp_path: Path) -> None:
    """Else the table would give both the answers of the second."""
    (_, row) = rows_of("vcop-r3d")
    chains = [Chain(initialisation=dataclasses.replace(row, name=name), fold=1, seed=0, labels=(0,)) for name in names]
    assert len({chain.folder(tmp_path) for chain in chains}) == 2


def test_an_order_is_the_recipe_with_the_chains_seed(tmp_path: Path) -> None:
    (random, member) = rows_of("vcop-r3d")
    chains = [
        Chain(initialisation=row, fold=fold, seed=seed, labels=(2, 0))
        for row in (random, member)
        for fold in (1, 2)
        for seed in (0, 1)
    ]
    folders = {chain.write_order(tmp_path) for chain in chains}
    assert len(folders) == len(chains)
    order = json.loads((chains[-1].folder(tmp_path) / "chain.json").read_text())
    assert (order["recipe"]["seed"], order["labels"]) == (1, [2, 0])
    assert order["footage"] == str(tmp_path / "footage-2.json")
    assert order["recipe"]["pretrain"] == json.loads(json.dumps(dataclasses.asdict(member.recipe.pretrain)))
    assert digest_record(member.recipe.pretrain) != digest_record(random.recipe.pretrain)
