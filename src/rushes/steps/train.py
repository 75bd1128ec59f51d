"""The work of `rushes pretrain`: a task's tuples, its network, and the loop; in one process or in each of several."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rushes.config import Recipe
from rushes.steps.base import InitialWeights, Job

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rushes.footage.reader import Footage
    from rushes.pretext import PretextTask
    from rushes.training.loop import TrainingResult
    from rushes.training.pretext import PretextTuples
    from rushes.training.ranks import Ranks

WEIGHTS = "weights.safetensors"
LEAST_TUPLES = 64
"""To choose the epoch by; where there are fewer windows, several tuples are drawn from each."""


def train(
    job: Job, *, recipe: Recipe, footage: "Footage", start: InitialWeights, ranks: "Ranks | None" = None
) -> Mapping[str, Any]:
    """Trains, and writes the backbone's weights and the curves to the job's folder; of several ranks, the first does.

    Returns:
        The summary.
    """
    import torch

    from rushes.pretext import make_task
    from rushes.training.checkpoints import Checkpoints
    from rushes.training.loop import fit
    from rushes.training.pretext import PretextNet
    from rushes.training.ranks import ALONE
    from rushes.training.weights import load_start

    config, ranks = recipe.pretrain, ranks or ALONE
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
        ranks=ranks,
    )
    if ranks.leads:
        _write(outcome, job.folder)
    made = {"task": config.task, "chance": task.chance, "precision": outcome.precision, "ranks": ranks.count}
    tuples = {"tuples": len(data), "too_short": data.too_short}
    held_out = {"held_out": validation.windows.extent()} if validation else {}
    return made | tuples | held_out | outcome.history[outcome.best_epoch - 1]


def _write(outcome: "TrainingResult", folder: Path) -> None:
    """The backbone's weights, without the head's, and the curves."""
    from safetensors.torch import save_file

    prefix = "backbone."
    weights = {k.removeprefix(prefix): v for k, v in outcome.weights.items() if k.startswith(prefix)}
    save_file(weights, folder / WEIGHTS)
    (folder / "history.json").write_text(json.dumps(outcome.history, indent=1))


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
