"""`rushes finetune`: a backbone and labelled footage to a classifier.

`--init random` is the row that every claim is held to.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.steps.base import (
    Build,
    Context,
    InitialWeights,
    network_record,
    read_input,
    read_start,
    reported,
    require_labels,
    run_step,
)
from rushes.store import Manifest
from rushes.strict import digest_record

INITS = ("pretrained", "random")


@reported("finetune")
def finetune(*, recipe: Recipe, footage: Path, backbone: Path, out: Path, init: str = "pretrained") -> Manifest:
    """Trains all layers on the labelled `train` segments: from the backbone's weights, random ones, or a file's.

    Args:
        recipe: sections `finetune` and `seed` count.
        footage: pointer from `sample`.
        backbone: pointer from `pretrain`: the weights, and the network and geometry either way.
        out: where the pointer to the classifier goes.
        init: `random` keeps network, data, seed and schedule, and drops the weights; a file (a state dict of torch or
            safetensors, or an earlier run's pointer) takes their place.
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
        build=lambda context: _build(context, recipe=recipe, source=source, start=start, given=given, init=init),
    )


def _build(
    context: Context, *, recipe: Recipe, source: Manifest, start: Manifest, given: InitialWeights, init: str
) -> Build:
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional as F

    from rushes.footage.reader import Footage
    from rushes.training.data import LabelledClips, few_labels
    from rushes.training.loop import Checkpoints, TrainingSettings, fit
    from rushes.training.networks import Classifier
    from rushes.training.weights import load_backbone, load_start, read_model

    config = recipe.finetune

    def build(folder: Path, digest: str) -> Mapping[str, Any]:
        model = read_model(start, context.store)
        footage = Footage(source, context.store, short_side=model["short_side"])
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
        validation = LabelledClips(footage, held_out, **geometry) if len(held_out) else None
        torch.manual_seed(recipe.seed)
        net = Classifier(backbone=model["backbone"], classes=len(footage.labels), dropout=config.dropout)
        if init == "pretrained":
            load_backbone(net.backbone, start, context.store)
        load_start(net.backbone, given.weights(context.store), source=str(given))
        plan = TrainingSettings(
            epochs=config.epochs,
            batch=config.batch,
            seed=recipe.seed,
            optimizer=config.optimizer,
            checkpoint_steps=config.checkpoint_steps,
            device=config.device,
            workers=config.workers,
        )
        outcome = fit(
            net,
            F.cross_entropy,
            data=data,
            validation=validation,
            plan=plan,
            checkpoints=Checkpoints(context.store, digest),
            label=f"finetune: {init}",
            progress=context.progress,
        )
        save_file(outcome.weights, folder / "weights.safetensors")
        (folder / "model.json").write_text(json.dumps(model | {"labels": footage.labels, "init": init}, indent=1))
        (folder / "history.json").write_text(json.dumps(outcome.history, indent=1))
        return {"init": init, "labels": len(chosen), "clips": len(data), **outcome.history[outcome.best_epoch - 1]}

    return build
