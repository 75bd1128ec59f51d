"""`rushes pretrain`: footage to a backbone, by a task made from the footage itself. Reads unlabelled and train only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes import plugins
from rushes.config import NO_TASK, Recipe
from rushes.steps.base import InitialWeights, Job, read_input, read_start, reported, run_step
from rushes.steps.ranks import rank_count, train_in_ranks
from rushes.steps.train import WEIGHTS, train
from rushes.store import Manifest
from rushes.strict import digest_record

if TYPE_CHECKING:
    from rushes.footage.reader import Footage


@reported("pretrain")
def pretrain(*, recipe: Recipe, footage: Path, out: Path) -> Manifest:
    """Trains `recipe.pretrain`; the backbone's weights, its description and the curves go to the store.

    Args:
        recipe: sections `pretrain` and `seed` count.
        footage: pointer from `sample`.
        out: where the pointer to the backbone goes.
    """
    source = read_input(footage, "footage")
    start = read_start(recipe.pretrain.init, "pretrain.init")
    plugins.use(recipe.plugins)
    own = {"seed": recipe.seed, "init": start.identity}
    names = plugins.record(task=recipe.pretrain.task, backbone=recipe.pretrain.backbone)
    return run_step(
        "pretrain",
        kind="backbone",
        config=digest_record(recipe.pretrain) | own | names,
        inputs={"footage": source} | start.inputs,
        out=out,
        build=lambda job: _pretrain(job, recipe=recipe, source=source, start=start),
    )


def _pretrain(job: Job, *, recipe: Recipe, source: Manifest, start: InitialWeights) -> Mapping[str, Any]:
    from rushes.footage.reader import Footage

    config = recipe.pretrain
    footage = Footage(source, job.store, short_side=config.short_side)
    model = {
        "backbone": config.backbone,
        "clip_frames": config.clip_frames,
        "crop": config.crop,
        "short_side": footage.short_side,
        "fps": footage.fps,
        "seed": recipe.seed,
    }
    (job.folder / "model.json").write_text(json.dumps(model, indent=1))
    if config.task == NO_TASK:
        return _untrained(job, recipe=recipe, footage=footage, start=start)
    count = rank_count(config)
    if count > 1:
        return train_in_ranks(count, job, recipe=recipe, footage=source)
    return train(job, recipe=recipe, footage=footage, start=start)


def _untrained(job: Job, *, recipe: Recipe, footage: "Footage", start: InitialWeights) -> Mapping[str, Any]:
    """Writes the weights that pretraining would start from; random ones with batch norm's statistics of the footage."""
    import torch
    from safetensors.torch import save_file

    from rushes.backbones import make_backbone
    from rushes.training.calibration import random_backbone
    from rushes.training.device import pick_device
    from rushes.training.weights import load_start

    config, file = recipe.pretrain, start.weights(job.store)
    if file is None:
        geometry: dict[str, Any] = {"clip_frames": config.clip_frames, "crop": config.crop}
        device = pick_device(config.device)
        backbone = random_backbone(config.backbone, seed=recipe.seed, footage=footage, device=device, **geometry)
    else:
        torch.manual_seed(recipe.seed)
        backbone = make_backbone(config.backbone)
        load_start(backbone, file, source=str(start))
    save_file({key: value.cpu().contiguous() for key, value in backbone.state_dict().items()}, job.folder / WEIGHTS)
    (job.folder / "history.json").write_text("[]")
    return {"task": config.task}
