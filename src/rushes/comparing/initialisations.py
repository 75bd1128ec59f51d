"""What fine-tuning starts from: a member's pretraining, weights from a file, or the random weights of its network.

Each initialisation is a row of the table and goes through the same chain (`rushes.comparing.chains`) per fold and seed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from rushes import plugins
from rushes.backbones import make_backbone
from rushes.comparing.members import Member, on_footage
from rushes.config import NO_TASK, PretrainConfig, Recipe, SampleConfig
from rushes.pretext import make_task
from rushes.strict import digest_record
from rushes.training.budget import elements_of, within_budget


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """A row of the table: the weights that training on labels starts from."""

    name: str
    init: str
    """random, supervised, pretext, or supervised + pretext."""
    recipe: Recipe
    baseline: str
    """Name of the random weights of the same network; its own name if it is these."""


def initialisations_of(members: Sequence[Member], sample: SampleConfig, *, budget: float = 0.0) -> list[Initialisation]:
    """Members in their order; before the first member of each network, its random and its supervised weights.

    Args:
        members: as the user named them.
        sample: of the common footage; smaller members read it scaled down.
        budget: backbone training FLOPs of every pretraining; 0 leaves each recipe's own length.

    Raises:
        UserError: task, network and geometry do not fit together, or the budget is less than a step.
    """
    found: dict[str, Initialisation] = {}
    names: dict[str, str] = {}
    """Of untrained weights, by their identity."""
    for member in members:
        recipe = on_footage(member.recipe, sample)
        _check(recipe)
        random = _untrained(recipe, init="")
        baseline = _add(random, "random", member, baseline="", found=found, names=names)
        init = recipe.pretrain.init
        if init:
            _add(_untrained(recipe, init=init), "supervised", member, baseline=baseline, found=found, names=names)
        if recipe.pretrain.task != NO_TASK:
            kind = "supervised + pretext" if init else "pretext"
            trained = _within(recipe, budget)
            found[member.name] = Initialisation(name=member.name, init=kind, recipe=trained, baseline=baseline)
    return list(found.values())


def _add(
    recipe: Recipe,
    init: str,
    member: Member,
    *,
    baseline: str,
    found: dict[str, Initialisation],
    names: dict[str, str],
) -> str:
    """Adds untrained weights unless they are there already; returns their name."""
    identity = _identity(recipe)
    if identity not in names:
        name = _free_name(f"{init} {recipe.pretrain.backbone}", member, found)
        names[identity] = name
        found[name] = Initialisation(name=name, init=init, recipe=recipe, baseline=baseline or name)
    return names[identity]


def _free_name(name: str, member: Member, taken: Mapping[str, object]) -> str:
    return f"{name} of {member.name}" if name in taken else name


def _untrained(recipe: Recipe, *, init: str) -> Recipe:
    """The weights that pretraining begins with, in a form that does not depend on the pretext task."""
    own = recipe.pretrain
    bare = PretrainConfig(
        task=NO_TASK,
        backbone=own.backbone,
        clip_frames=own.clip_frames,
        crop=own.crop,
        short_side=own.short_side,
        init=init,
        device=own.device,
    )
    return replace(recipe, pretrain=bare)


def _identity(recipe: Recipe) -> str:
    sections = [digest_record(section) for section in (recipe.pretrain, recipe.finetune, recipe.evaluate)]
    return json.dumps(sections, sort_keys=True)


def _check(recipe: Recipe) -> None:
    """Raises UserError if task, network and geometry do not fit together, before anything runs."""
    plugins.use(recipe.plugins)
    own = recipe.pretrain
    with torch.device("meta"):  # shapes only
        make_backbone(own.backbone).check(frames=own.clip_frames, height=own.crop, width=own.crop)
    if own.task != NO_TASK:
        make_task(own.task, own.options).check(clip_frames=own.clip_frames)


def _within(recipe: Recipe, budget: float) -> Recipe:
    if not budget:
        return recipe
    return replace(recipe, pretrain=within_budget(recipe.pretrain, flops=budget, elements=elements_of(recipe)))
