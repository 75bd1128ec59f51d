"""`rushes finetune`: a backbone and labelled footage to a classifier.

`--init random` is the baseline of every claim.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes import plugins
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.steps.base import (
    InitialWeights,
    Job,
    network_record,
    read_input,
    read_start,
    reported,
    require_labels,
    run_step,
)
from rushes.store import Manifest
from rushes.strict import digest_record

if TYPE_CHECKING:
    from rushes.footage.reader import Footage
    from rushes.training.data import LabelledClips
    from rushes.training.networks import Classifier

INITS = ("pretrained", "random")


@reported("finetune")
def finetune(*, recipe: Recipe, footage: Path, backbone: Path, out: Path, init: str = "pretrained") -> Manifest:
    """Trains on the labelled `train` segments: from the backbone's weights, random ones, or a file's.

    Args:
        recipe: sections `finetune` and `seed` count.
        footage: pointer from `sample`.
        backbone: pointer from `pretrain`: the weights, and the network and geometry either way.
        out: where the pointer to the classifier goes.
        init: `random` keeps network, data, seed and schedule, and drops the weights; a file (a state dict of torch or
            safetensors, or an earlier run's pointer) replaces them.
    """
    if init not in INITS and not Path(init).is_file():
        raise UserError(f"init: {init!r} is not allowed; {', '.join(INITS)}, or a file of weights")
    source, start = read_input(footage, "footage"), read_input(backbone, "backbone")
    given = read_start("" if init in INITS else init, "init")
    init = given.identity or init
    plugins.use(recipe.plugins)
    return run_step(
        "finetune",
        kind="classifier",
        config=digest_record(recipe.finetune) | {"seed": recipe.seed, "init": init} | network_record(start),
        inputs={"footage": source, "backbone": start} | given.inputs,
        out=out,
        build=lambda job: _finetune(job, recipe=recipe, footage=source, backbone=start, given=given, init=init),
    )


def _finetune(
    job: Job, *, recipe: Recipe, footage: Manifest, backbone: Manifest, given: InitialWeights, init: str
) -> Mapping[str, Any]:
    from safetensors.torch import save_file
    from torch.nn import functional as F

    from rushes.footage.reader import Footage
    from rushes.training.checkpoints import Checkpoints
    from rushes.training.loop import fit
    from rushes.training.weights import load_backbone, load_start, read_model

    model = read_model(backbone, job.store)
    segments = Footage(footage, job.store, short_side=model["short_side"])
    labelled, data, validation = _clips(segments, recipe=recipe, model=model)
    net = _classifier(segments, recipe=recipe, model=model, init=init)
    if init == "pretrained":
        load_backbone(net.backbone, backbone, job.store)
    load_start(net.backbone, given.weights(job.store), source=str(given))
    if recipe.finetune.freeze == "backbone":
        net.freeze_backbone()
    outcome = fit(
        net,
        F.cross_entropy,
        data=data,
        validation=validation,
        plan=recipe.finetune,
        seed=recipe.seed,
        checkpoints=Checkpoints(job.store, job.digest),
        label=f"finetune: {init}",
        progress=job.progress,
    )
    save_file(outcome.weights, job.folder / "weights.safetensors")
    (job.folder / "model.json").write_text(json.dumps(model | {"labels": segments.labels, "init": init}, indent=1))
    (job.folder / "history.json").write_text(json.dumps(outcome.history, indent=1))
    held_out = {"held_out": validation.windows.extent()} if validation else {}
    chosen = outcome.history[outcome.best_epoch - 1]
    made = {"init": init, "labels": labelled, "clips": len(data), "precision": outcome.precision}
    return made | held_out | chosen


def _classifier(footage: "Footage", *, recipe: Recipe, model: Mapping[str, Any], init: str) -> "Classifier":
    """Random weights; of a backbone that stays random, batch norm has seen the footage, as that of trained ones has."""
    import torch

    from rushes.training.calibration import random_backbone
    from rushes.training.device import pick_device
    from rushes.training.networks import Classifier

    config = recipe.finetune
    torch.manual_seed(recipe.seed)
    net = Classifier(backbone=model["backbone"], classes=len(footage.labels), dropout=config.dropout)
    if config.freeze == "backbone" and init == "random":
        geometry = {"clip_frames": model["clip_frames"], "crop": model["crop"], "device": pick_device(config.device)}
        same = random_backbone(model["backbone"], seed=recipe.seed, footage=footage, **geometry)
        net.backbone.load_state_dict(same.state_dict())
    return net


def _clips(
    footage: "Footage", *, recipe: Recipe, model: Mapping[str, Any]
) -> "tuple[int, LabelledClips, LabelledClips | None]":
    """How many labels are used, and the clips to train on and to validate with (None where there are none)."""
    from rushes.training.data import LabelledClips, few_labels

    config = recipe.finetune
    train = footage.select("train", labelled=True)
    require_labels(tuple(sorted(set(footage.segments.label[train]))), need="fine-tuning on split train")
    geometry: dict[str, Any] = {
        "labels": footage.labels,
        "clip_frames": model["clip_frames"],
        "crop": model["crop"],
        "seed": recipe.seed,
    }
    chosen = few_labels(footage, train, per_class=config.labels_per_class, seed=recipe.seed)
    data = LabelledClips(footage, chosen, flip=config.flip, samples=len(train), **geometry)
    held_out = footage.select("val", labelled=True)[: 0 if config.labels_per_class else None]
    return len(chosen), data, LabelledClips(footage, held_out, **geometry) if len(held_out) else None
