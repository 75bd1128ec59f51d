"""The training loop: steps, validation, checkpoints, exact resume. Pretraining and fine-tuning are calls of `fit`.

A run is a function of its seed: data by (seed, epoch, number), dropout by (seed, step). So a run that was killed and
resumed ends in the same weights, bit for bit on one machine and thread count, as one that was not.
"""

import hashlib
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.data import DataLoader, Dataset, default_collate

from rushes.config import Optimizer
from rushes.errors import RushesError
from rushes.progress import NullProgress, Progress
from rushes.store import Store
from rushes.temporary import make_room_for_sockets
from rushes.training.data import Batches, Position
from rushes.training.device import pick_device

State = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Scalar of (logits, labels)."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Length, batch, seed and device of a run."""

    epochs: int
    batch: int
    seed: int
    optimizer: Optimizer
    checkpoint_steps: int
    device: str = "auto"
    workers: int = 2


@dataclass(kw_only=True)
class TrainingResult:
    """The chosen weights and the curves of a run."""

    weights: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    """One record per epoch: epoch, step, loss, accuracy, seconds; val_loss, val_accuracy where there is validation."""
    best_epoch: int = 0


class Checkpoints:
    """The unfinished run in the store: the last two states under `checkpoints/<digest>/`."""

    def __init__(self, store: Store, digest: str, *, keep: int = 2) -> None:
        self.store, self.folder, self.keep = store, f"checkpoints/{digest}", keep

    def save(self, step: int, state: State) -> None:
        """Writes a state, then forgets all but the newest `keep`."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        # Torch reads altered bytes without an error: the digest in front detects them.
        self.store.write(f"{self.folder}/step-{step:09d}.pt", hashlib.sha256(data).digest() + data)
        for name in self.store.names(self.folder)[: -self.keep]:
            self.store.remove(f"{self.folder}/{name}")

    def load(self) -> State | None:
        """Returns the newest state that is whole, or None."""
        for name in reversed(self.store.names(self.folder)):
            content = self.store.read(f"{self.folder}/{name}") or b""
            digest, data = content[:32], content[32:]
            if hashlib.sha256(data).digest() == digest:
                state: State = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
                return state
        return None


def fit(
    net: nn.Module,
    loss: Loss,
    *,
    data: Dataset[tuple[Tensor, int]],
    validation: Dataset[tuple[Tensor, int]] | None,
    plan: TrainingSettings,
    checkpoints: Checkpoints,
    label: str,
    progress: Progress | None = None,
) -> TrainingResult:
    """Trains `net` in place and returns the weights of the best epoch by validation loss, or of the last without it.

    Args:
        net: maps clips to logits [B, classes].
        loss: of its logits, in training and in validation.
        data: map-style, indexed by (epoch, number), with a length.
        validation: the same; its epoch 0 is evaluated after each epoch of training.
        plan: lengths and seeds.
        checkpoints: states to resume from, and where to save them.
        label: of the progress bar.
        progress: receives the bar.
    """
    run = _Run(net, loss, plan=plan, samples=len(data))  # type: ignore[arg-type]  # Dataset has no length
    run.restore(checkpoints.load())
    bar = (progress or NullProgress()).bar(label, total=run.steps, unit="steps")
    bar.advance(run.step)
    for clips, labels in run.batches(data):
        figures = run.train_step(clips, labels)
        bar.advance(1, **figures)
        if run.step % run.steps_per_epoch == 0:
            run.end_epoch(validation)
        if run.step % plan.checkpoint_steps == 0 and run.step < run.steps:
            checkpoints.save(run.step, run.state())
    return run.outcome()


class _Run:
    """A run between two steps: network, optimiser, step, best weights so far."""

    def __init__(self, net: nn.Module, loss: Loss, *, plan: TrainingSettings, samples: int) -> None:
        self.plan, self.loss = plan, loss
        self.device = pick_device(plan.device)
        self.net = net.to(self.device)
        self.steps_per_epoch = max(samples // plan.batch, 1)
        # An epoch is whole batches, so that an epoch begins with a batch.
        self.samples = self.steps_per_epoch * plan.batch
        self.steps = self.steps_per_epoch * plan.epochs
        self.optimizer = make_optimizer(net, plan.optimizer)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, steps=self.steps, optimizer=plan.optimizer)
        )
        self.step = 0
        self.best: State = {"epoch": 0, "loss": math.inf, "weights": {}}
        self.history: list[dict[str, float]] = []
        self.sums = {"loss": 0.0, "accuracy": 0.0, "steps": 0.0}
        self.clock = time.monotonic()

    def batches(self, data: Dataset[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        batches = Batches(samples=self.samples, batch=self.plan.batch, first_step=self.step, last_step=self.steps)
        for batch in _loader(data, batches, self.plan):
            if isinstance(batch, RushesError):
                raise batch
            yield batch

    def train_step(self, clips: Tensor, labels: Tensor) -> dict[str, float]:
        self.net.train()
        # Dropout's mask follows from the step, so that a resumed run needs no generator's state.
        torch.manual_seed(hash((self.plan.seed, 3, self.step)) % 2**63)
        labels = labels.to(self.device)
        logits = self.net(clips.to(self.device, non_blocking=True))
        loss = self.loss(logits, labels)
        value = float(loss.detach())
        _require_finite(value, at=f"step {self.step}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        accuracy = float((logits.argmax(1) == labels).float().mean())
        self.sums = {
            "loss": self.sums["loss"] + value,
            "accuracy": self.sums["accuracy"] + accuracy,
            "steps": self.sums["steps"] + 1,
        }
        return {"loss": self.sums["loss"] / self.sums["steps"], "accuracy": self.sums["accuracy"] / self.sums["steps"]}

    def end_epoch(self, validation: Dataset[tuple[Tensor, int]] | None) -> None:
        epoch = self.step // self.steps_per_epoch
        record = {
            "epoch": epoch,
            "step": self.step,
            **{k: self.sums[k] / self.sums["steps"] for k in ("loss", "accuracy")},
        }
        if validation is not None:
            record |= self.validate(validation)
        record["seconds"] = time.monotonic() - self.clock
        if record.get("val_loss", -epoch) <= self.best["loss"]:
            weights = {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in self.net.state_dict().items()
            }
            self.best = {"epoch": epoch, "loss": record.get("val_loss", math.inf), "weights": weights}
        self.history.append(record)
        self.sums = dict.fromkeys(self.sums, 0.0)
        self.clock = time.monotonic()

    @torch.no_grad()
    def validate(self, data: Dataset[tuple[Tensor, int]]) -> dict[str, float]:
        self.net.eval()
        count = len(data)  # type: ignore[arg-type]
        starts = range(0, count, self.plan.batch)
        batches = [[(0, number) for number in range(start, min(start + self.plan.batch, count))] for start in starts]
        total = correct = 0.0
        for clips, labels in DataLoader(data, batch_sampler=batches):
            labels = labels.to(self.device)
            logits = self.net(clips.to(self.device))
            total += float(self.loss(logits, labels)) * len(labels)
            correct += float((logits.argmax(1) == labels).sum())
        _require_finite(total, at=f"validation after step {self.step}")
        return {"val_loss": total / count, "val_accuracy": correct / count}

    def state(self) -> State:
        return {
            "step": self.step,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best": self.best,
            "history": self.history,
            "sums": self.sums,
        }

    def restore(self, state: State | None) -> None:
        if state is None:
            return
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.best = state["step"], state["best"]
        self.history, self.sums = state["history"], state["sums"]

    def outcome(self) -> TrainingResult:
        return TrainingResult(weights=self.best["weights"], history=self.history, best_epoch=self.best["epoch"])


def _require_finite(loss: float, *, at: str) -> None:
    if not math.isfinite(loss):
        raise RushesError(f"training: the loss is {loss} at {at}: lower optimizer.lr, or raise its warmup_steps")


def make_optimizer(net: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters that train; biases in a group of their own if they differ."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if config.bias_lr != 1 or not config.bias_decay:
        layers = [m for m in net.modules() if isinstance(m, (_ConvNd, nn.Linear))]
        biases = [layer.bias for layer in layers if layer.bias is not None and layer.bias.requires_grad]
        known = {id(bias) for bias in biases}
        decay = config.weight_decay if config.bias_decay else 0.0
        groups = [
            {"params": [p for p in parameters if id(p) not in known]},
            {"params": biases, "lr": config.lr * config.bias_lr, "weight_decay": decay},
        ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def learning_rate_factor(step: int, *, steps: int, optimizer: Optimizer) -> float:
    """Share of the peak learning rate at a step.

    Linear warm-up; then constant, a tenth after each milestone, or half a cosine down to 0.
    """
    if step < optimizer.warmup_steps:
        return (step + 1) / optimizer.warmup_steps
    if optimizer.schedule == "constant":
        return 1.0
    if optimizer.schedule == "step":
        return float(0.1 ** sum(step >= share * steps for share in optimizer.milestones))
    done = (step - optimizer.warmup_steps) / max(steps - optimizer.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class _ErrorsAsItems(Dataset[tuple[Tensor, int] | RushesError]):
    """A dataset that returns our errors as items: raised in a worker, torch would bury them in a traceback."""

    def __init__(self, data: Dataset[tuple[Tensor, int]]) -> None:
        self.data = data

    def __getitem__(self, position: Position) -> tuple[Tensor, int] | RushesError:
        try:
            return self.data[position]
        except RushesError as error:
            return error


def _collate(items: list[tuple[Tensor, int] | RushesError]) -> Any:
    errors = [item for item in items if isinstance(item, RushesError)]
    return errors[0] if errors else default_collate(items)


def _loader(data: Dataset[tuple[Tensor, int]], batches: Batches, plan: TrainingSettings) -> DataLoader[Any]:
    return DataLoader(
        _ErrorsAsItems(data),
        collate_fn=_collate,
        batch_sampler=batches,  # positions are (epoch, number), not integers
        num_workers=plan.workers if len(batches) else 0,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_prepare_worker,
    )


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    make_room_for_sockets()
