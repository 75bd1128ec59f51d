"""The arithmetic of training, so that methods can be compared at the same cost.

Backbone training FLOPs: forward and backward passes of the backbone over all elements of the tuples. Heads, validation
and decoding are left out, and so are the optimiser's updates, which cost next to nothing (docs/methods.md#trap-13).
"""

import functools
from dataclasses import replace

import torch

from rushes import plugins
from rushes.backbones import make_backbone
from rushes.config import PretrainConfig, Recipe
from rushes.errors import UserError
from rushes.pretext import make_task


def elements_of(recipe: Recipe) -> int:
    """Clips (or frames) per tuple of the recipe's task."""
    plugins.use(recipe.plugins)
    return make_task(recipe.pretrain.task, recipe.pretrain.options).elements


def flops_of(recipe: Recipe, *, tuples: int) -> float:
    """Backbone training FLOPs of `tuples` tuples of the recipe's task."""
    return tuples * tuple_flops(recipe.pretrain, elements=elements_of(recipe)) if tuples else 0.0


def frames_of(recipe: Recipe, *, tuples: int) -> int:
    """Frames in `tuples` tuples of the recipe's task."""
    return tuples * elements_of(recipe) * recipe.pretrain.clip_frames if tuples else 0


def tuple_flops(config: PretrainConfig, *, elements: int) -> float:
    """Backbone training FLOPs of one tuple of `elements` clips; a multiplication and an addition count as two."""
    return elements * _clip_flops(config.backbone, config.clip_frames, config.crop)


@functools.cache
def _clip_flops(backbone: str, frames: int, crop: int) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # shapes only: nothing is computed
        net = make_backbone(backbone).train()
        clips = torch.empty(2, 3, frames, crop, crop)
    with FlopCounterMode(display=False) as counter:
        net(clips).sum().backward()
    return float(counter.get_total_flops()) / len(clips)


def within_budget(config: PretrainConfig, *, flops: float, elements: int) -> PretrainConfig:
    """The same pretraining at a length that costs `flops`, by shorter or longer epochs: exact to one part in `epochs`.

    There are fewer epochs only where there are fewer steps than epochs.

    Raises:
        UserError: the budget is less than one step.
    """
    step = config.batch * tuple_flops(config, elements=elements)
    steps = round(flops / step)
    if steps < 1:
        raise UserError(f"budget: {flops:.3g} FLOPs are less than a step of {config.backbone}, which takes {step:.3g}")
    per_epoch = -(-steps // config.epochs)
    return replace(config, epochs=round(steps / per_epoch), samples_per_epoch=per_epoch * config.batch)
