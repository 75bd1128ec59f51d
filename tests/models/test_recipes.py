"""Every recipe at every size: task, network, crop and clip length fit each other and footage of the usual length."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rushes.backbones import make_backbone
from rushes.cli import main
from rushes.config import SampleConfig
from rushes.pretext import TASKS, make_task
from rushes.recipes import known_models, load_recipe, models_folder, recipe_sizes

EVERY_RECIPE = [(model, size) for model in known_models() for size in recipe_sizes(model)]
every_recipe = pytest.mark.parametrize(("model", "size"), EVERY_RECIPE)
PUBLISHED = {
    "shuffle-and-learn": ("shuffle_and_learn", "caffenet_sl"),
    "opn": ("opn", "caffenet_opn"),
    "o3n": ("o3n", "caffenet_o3n"),
    "vcop-c3d": ("clip_order", "c3d"),
    "vcop-r3d": ("clip_order", "r3d"),
    "vcop-r2plus1d": ("clip_order", "r2plus1d"),
    "pace-r2plus1d": ("pace", "r2plus1d"),
    "arrow-of-time-r3d": ("arrow_of_time", "r3d"),
}


def test_every_published_method_has_its_recipe() -> None:
    for model, parts in PUBLISHED.items():
        pretrain = load_recipe(model).pretrain
        assert (pretrain.task, pretrain.backbone) == parts


@pytest.mark.parametrize("model", known_models())
def test_every_model_has_both_sizes_of_one_task(model: str) -> None:
    assert recipe_sizes(model) == ["full", "cpu"]
    assert load_recipe(model).pretrain.task == load_recipe(model, size="cpu").pretrain.task in TASKS


@every_recipe
def test_task_network_and_footage_fit_each_other(model: str, size: str) -> None:
    recipe = load_recipe(model, size=size)
    pretrain = recipe.pretrain
    task = make_task(pretrain.task, pretrain.options)
    task.check(clip_frames=pretrain.clip_frames)
    with torch.device("meta"):
        make_backbone(pretrain.backbone).check(frames=pretrain.clip_frames, height=pretrain.crop, width=pretrain.crop)
    assert pretrain.crop <= recipe.sample.short_side
    assert recipe.sample.fps is not None
    assert task.span(clip_frames=pretrain.clip_frames) <= SampleConfig().segment_seconds * recipe.sample.fps
    # A labelled clip of the embedded videos, and most of UT-Interaction's, is hardly longer than a second.
    if size == "cpu":
        assert task.span(clip_frames=pretrain.clip_frames) <= 32


@pytest.mark.parametrize(("model", "cells"), [("shuffle-and-learn", 6), ("opn", 2), ("o3n", 6)])
def test_the_crop_leaves_the_grid_that_caffenet_was_published_with(model: str, cells: int) -> None:
    pretrain = load_recipe(model).pretrain
    with torch.device("meta"):
        net: Any = make_backbone(pretrain.backbone)
        maps = net.maps(torch.zeros(1, 3, pretrain.clip_frames, pretrain.crop, pretrain.crop))
        published = net.pool[0](maps.squeeze(2))
    assert published.shape[2:] == (cells, cells)


@every_recipe
def test_networks_of_pictures_are_shown_25_clips_and_networks_of_clips_10(model: str, size: str) -> None:
    recipe = load_recipe(model, size=size)
    pictures = recipe.pretrain.backbone.startswith(("caffenet", "tiny_frame", "tiny_stack"))
    assert recipe.evaluate.clips == recipe.export.clips == (25 if pictures else 10)


@every_recipe
def test_published_sizes_have_published_schedules_and_small_ones_a_cosine(model: str, size: str) -> None:
    recipe = load_recipe(model, size=size)
    kinds = {"full": {"constant", "step"}, "cpu": {"cosine"}}[size]
    assert {recipe.pretrain.optimizer.schedule, recipe.finetune.optimizer.schedule} <= kinds


def test_the_published_iterations_are_what_the_recipes_run() -> None:
    published = [
        ("shuffle-and-learn", 100_000, [80_000]),
        ("opn", 170_000, [130_000]),
        ("pace-r2plus1d", 18 * 3_179, [6 * 3_179, 12 * 3_179]),
        *((model, 300 * 1_092, []) for model in ("vcop-c3d", "vcop-r3d", "vcop-r2plus1d")),
    ]
    for model, iterations, drops in published:
        pretrain = load_recipe(model).pretrain
        steps = pretrain.samples_per_epoch // pretrain.batch * pretrain.epochs
        assert steps == iterations
        assert [share * steps for share in pretrain.optimizer.milestones] == pytest.approx(drops, rel=1e-3)


@pytest.mark.parametrize("model", known_models())
def test_a_card_says_what_it_must(model: str) -> None:
    card = (models_folder() / model / "README.md").read_text()
    assert card.startswith(f"# {model}\n")
    assert f"rushes compare {model} --videos UCF-101 --splits ucfTrainTestlist --folds 3" in card
    for needed in ("| | published | here |", "Published", "](../RESULTS.md)", "Limits", "`--size cpu`"):
        assert needed in card, needed
    assert load_recipe(model).about


def test_what_the_readme_says_of_a_model_is_what_its_recipe_says() -> None:
    """It lists the published ones; `rushes models` lists all."""
    text = " ".join(re.split(r"\s+", (Path(__file__).parents[2] / "README.md").read_text()))
    listed = dict(re.findall(r"\| \[([a-z0-9-]+)\]\(models/\1/README\.md\) \| (.*?) \|", text))
    assert set(PUBLISHED) <= set(listed)
    assert listed == {model: load_recipe(model).about for model in listed}


def test_the_command_lists_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(model in shown for model in known_models())
