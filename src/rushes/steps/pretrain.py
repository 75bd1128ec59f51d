"""`rushes pretrain`: footage to a backbone, by a task made from the footage itself. Reads unlabelled and train only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes import plugins
from rushes.config import NO_TASK, Recipe
from rushes.steps.base import InitialWeights, Job, read_input, read_start, reported, run_step
from rushes.store import Manifest
from rushes.strict import digest_record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rushes.footage.reader import Footage
    from rushes.pretext import PretextTask
    from rushes.training.pretext import PretextTuples

WEIGHTS = "weights.safetensors"
LEAST_TUPLES = 64
"""To choose the epoch by; where there are fewer windows, several tuples are drawn from each."""


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
    return _trained(job, recipe=recipe, footage=footage, start=start)


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


def _trained(job: Job, *, recipe: Recipe, footage: "Footage", start: InitialWeights) -> Mapping[str, Any]:
    """Trains, and writes the backbone's weights and the curves."""
    import torch
    from safetensors.torch import save_file

    from rushes.pretext import make_task
    from rushes.training.checkpoints import Checkpoints
    from rushes.training.loop import fit
    from rushes.training.pretext import PretextNet
    from rushes.training.weights import load_start

    config = recipe.pretrain
    task = make_task(config.task, config.options)
    data, validation = _tuples(footage, task, recipe)
    if data.too_short:
        job.progress.say(f"{data.too_short} segments have no shot of {data.span} frames: no tuple is drawn from them")
    torch.manual_seed(recipe.seed)
    net = PretextNet(task, backbone=config.backbone)
    load_start(net.backbone, start.weights(job.store), source=str(start))
    outcome = fit(
        net,
        task.loss,
        data=data,
        validation=validation,
        plan=config,
        seed=recipe.seed,
        checkpoints=Checkpoints(job.store, job.digest),
        label=f"pretrain: {config.task}",
        progress=job.progress,
    )
    prefix = "backbone."
    weights = {k.removeprefix(prefix): v for k, v in outcome.weights.items() if k.startswith(prefix)}
    save_file(weights, job.folder / WEIGHTS)
    (job.folder / "history.json").write_text(json.dumps(outcome.history, indent=1))
    chosen = outcome.history[outcome.best_epoch - 1]
    held_out = {"held_out": validation.windows.extent()} if validation else {}
    tuples = {"tuples": len(data), "too_short": data.too_short}
    made = {"task": config.task, "chance": task.chance, "precision": outcome.precision}
    return made | tuples | held_out | chosen


def _tuples(footage: "Footage", task: "PretextTask", recipe: Recipe) -> "tuple[PretextTuples, PretextTuples | None]":
    """Tuples to train on, and to choose the epoch by; None where no held-out shot is long enough."""
    from rushes.training.pretext import PretextTuples

    config = recipe.pretrain
    geometry: dict[str, Any] = {"task": task, "clip_frames": config.clip_frames, "crop": config.crop}
    data = PretextTuples(
        footage,
        footage.select("unlabelled", "train"),
        seed=recipe.seed,
        samples=config.samples_per_epoch,
        **geometry,
    )
    held_out = _long_enough(footage, task.span(clip_frames=config.clip_frames))
    if not len(held_out):
        return data, None
    geometry |= {"seed": recipe.seed + 1}
    windows = PretextTuples(footage, held_out, **geometry)
    if len(windows) >= LEAST_TUPLES:
        return data, windows
    return data, PretextTuples(footage, held_out, samples=LEAST_TUPLES, **geometry)


def _long_enough(footage: "Footage", span: int) -> "npt.NDArray[np.int64]":
    """The validation segments with a shot of at least so many frames."""
    import numpy as np

    rows, _, frames = footage.shots(footage.select("val"))
    return np.unique(rows[frames >= span])
