"""The training loop: steps, validation, checkpoints, exact resume. Pretraining and fine-tuning are calls of `fit`.

A run is a function of its seed: data by (seed, epoch, number), dropout by (seed, step). So a run that was killed and
resumed ends in the same weights, bit for bit on one machine and thread count, as one that was not.
"""

import contextlib
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rushes.config import TrainingConfig
from rushes.errors import RushesError, UserError
from rushes.progress import Bar, NullProgress, Progress
from rushes.training.checkpoints import Checkpoints, Saver, State, copied
from rushes.training.data import Batches
from rushes.training.device import pick_device
from rushes.training.failures import in_one_line
from rushes.training.loader import load
from rushes.training.optimizer import learning_rate_factor, make_optimizer
from rushes.training.precision import Precision, autocast, pick_precision
from rushes.training.ranks import ALONE, Ranks, without_averaging
from rushes.training.stopping import Stop

Loss = Callable[[Tensor, Tensor], Tensor]
"""Scalar of (logits, labels)."""
_MUCH_WAITING = 0.2
"""Share of an epoch that training waits for data, from which on it says so."""
LONG_STEP = 2.0
"""Seconds of a step from which on it can be saved while it computes."""
_MANY_BATCHES = 8
"""Of validation, for which starting workers pays."""
_READ_SECONDS = 0.2
"""Between two readings of a GPU's losses, each of which waits for it."""
_READ_STEPS = 10
"""The same where several processes train together, which have to read at the same steps."""


@dataclass(kw_only=True)
class TrainingResult:
    """The chosen weights and the curves of a run."""

    weights: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    """One record per epoch: epoch, step, loss, accuracy, seconds, and waiting_seconds of these for data; val_loss and
    val_accuracy where there is validation."""
    best_epoch: int = 0
    precision: Precision = "fp32"


def fit(
    net: nn.Module,
    loss: Loss,
    *,
    data: Dataset[tuple[Tensor, int]],
    validation: Dataset[tuple[Tensor, int]] | None,
    plan: TrainingConfig,
    seed: int,
    checkpoints: Checkpoints | None,
    label: str,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Trains `net` in place and returns the weights of the best epoch by validation loss, or of the last without it.

    With checkpoints, SIGTERM and Ctrl-C end it within 10 s, and its last step is saved.

    Args:
        net: maps clips to logits [B, classes].
        loss: of its logits, in training and in validation.
        data: map-style, indexed by (epoch, number), with a length.
        validation: the same; its epoch 0 is evaluated after each epoch of training.
        plan: length, update rule, precision, machine.
        seed: of dropout.
        checkpoints: states to resume from, and where to save them; None for a run that begins anew.
        label: of the progress bar.
        progress: receives the bar.
        ranks: the processes that train together, all of which call this with the same arguments.

    Raises:
        StoppedError: SIGTERM came; the same call goes on from where it was.
        RushesError: the loss is no number, or a worker was killed.
    """
    progress = progress if progress and ranks.leads else NullProgress()
    samples = len(data)  # type: ignore[arg-type]  # Dataset has no length
    run = _Run(net, loss, plan=plan, seed=seed, samples=samples, ranks=ranks)
    if checkpoints is not None:
        run.restore(checkpoints.load(progress))
    bar = progress.bar(label, total=run.steps, unit="steps")
    bar.advance(run.step)
    # Closing the steps ends the loader's workers, also where an error's traceback still holds them.
    steps = _steps(run, data, validation, bar=bar, progress=progress)
    with in_one_line(plan), contextlib.closing(steps):
        _train(run, steps, checkpoints)
    return run.outcome()


def _train(run: "_Run", steps: Iterator[int], checkpoints: Checkpoints | None) -> None:
    """Does the steps, saves by time, and obeys signals; nothing but the steps where there are no checkpoints."""
    if checkpoints is None:
        for _ in steps:
            pass
        return
    with Saver(checkpoints, seconds=run.plan.checkpoint_seconds) as saver:

        def save_meanwhile() -> None:
            state = run.copy_ahead() if run.ranks.leads else None
            if state is not None:
                saver.save(state["step"], state)

        with Stop(save_meanwhile) as stop:
            for step in steps:
                if run.ranks.any(stop.asked):
                    run.read()
                    if run.ranks.leads:
                        saver.save(step, run.state())
                    run.ranks.wait()
                    raise stop.error(f"after step {step} of {run.steps}, which is saved")
                if run.ranks.leads and run.can_be_saved:
                    saver.offer(step, run.state)


def _steps(
    run: "_Run",
    data: Dataset[tuple[Tensor, int]],
    validation: Dataset[tuple[Tensor, int]] | None,
    *,
    bar: Bar,
    progress: Progress,
) -> Generator[int, None, None]:
    """Does the steps that are left, and says after each, and between batches of validation, how many are done."""
    if run.plan.patience and validation is None:
        raise UserError(f"patience: {run.plan.patience} needs validation, and no validation segment is long enough")
    batches = Batches(
        samples=run.samples,
        batch=run.plan.batch,
        first_step=run.step,
        last_step=run.steps,
        part=run.ranks.number,
        parts=run.ranks.count,
    )
    if run.epoch_is_open:
        yield from run.end_epoch(validation)
    if run.is_finished:
        return
    for clips, labels in run.timed(load(data, batches, workers=run.plan.workers)):
        run.train_step(clips, labels)
        bar.advance(1, **run.figures())
        if run.step < run.steps:
            yield run.step
        if run.epoch_is_open:
            yield from run.end_epoch(validation)
            if run.starved:
                progress.say(run.starved)
        if run.is_finished:
            return


class _Run:
    """A run between two steps: network, optimiser, step, best weights so far."""

    def __init__(
        self, net: nn.Module, loss: Loss, *, plan: TrainingConfig, seed: int, samples: int, ranks: Ranks
    ) -> None:
        self.plan, self.seed, self.loss, self.ranks = plan, seed, loss, ranks
        ranks.share(plan.batch, accumulate=plan.accumulate)
        self.device = pick_device(plan.device, local=ranks.local if ranks.count > 1 else None)
        self.precision = pick_precision(plan.precision, self.device)
        self.net = net.to(self.device)
        if plan.compile:
            self.net.compile()
        self.wrapped = ranks.wrap(self.net, self.device)
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
        self._waited = 0.0
        self._figures: dict[str, float] = {}
        self._unread: list[Tensor] = []
        self._read_at = 0.0
        self._changing = threading.RLock()
        self._computing, self._step_seconds = False, math.inf
        self._buffers_ahead: dict[str, Tensor] | None = None

    @property
    def epoch_is_open(self) -> bool:
        """Whether all steps of an epoch are done, and its record is not."""
        return self.step == (len(self.history) + 1) * self.steps_per_epoch

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or as many without a better one as the plan has patience for."""
        epochs = len(self.history)
        return epochs == self.plan.epochs or 0 < self.plan.patience <= epochs - self.best["epoch"]

    @property
    def starved(self) -> str:
        """Advice after the first epoch, where more workers would let training wait less for data."""
        share = self.history[0]["waiting_seconds"] / max(self.history[0]["seconds"], 1e-9)
        cores, workers = len(os.sched_getaffinity(0)), self.plan.workers
        if len(self.history) > 1 or share < _MUCH_WAITING or workers + 1 >= cores:
            return ""
        return (
            f"training waited for data for {share:.0%} of the first epoch: raise workers ({workers} of {cores} cores)"
        )

    @property
    def can_be_saved(self) -> bool:
        """Whether the state ahead of the current step is known: between steps, and during long ones.

        Of several ranks, only where all have read their losses: one cannot read alone.
        """
        is_read = self.ranks.count == 1 or not self._unread
        return is_read and (not self._computing or self._buffers_ahead is not None)

    def timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches, with the time that training waits for them added up."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def train_step(self, clips: Tensor, labels: Tensor) -> None:
        began = time.monotonic()
        # Batch norm's statistics change in the forward pass, weights only at the end.
        self._buffers_ahead = self._buffers() if self._step_seconds > LONG_STEP else None
        self._computing = True
        self.net.train()
        # Dropout's mask follows from the step, so that a resumed run needs no generator's state.
        own = (self.ranks.number,) if self.ranks.number else ()
        torch.manual_seed(hash((self.seed, 3, self.step, *own)) % 2**63)
        self.optimizer.zero_grad(set_to_none=True)
        self._unread.append(self._backward(clips, labels))
        with self._changing:
            if self.device.type == "cpu":
                self.read()
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            self._computing, self._step_seconds = False, time.monotonic() - began

    def _backward(self, clips: Tensor, labels: Tensor) -> Tensor:
        """Gradients of a batch, part by part. Returns its loss, its accuracy and the length of the gradient: [3]."""
        labels = labels.to(self.device, non_blocking=True)
        clips = clips.to(self.device, non_blocking=True)
        sums = torch.zeros(2, device=self.device)
        parts = self.plan.accumulate
        for part, (some, right) in enumerate(zip(clips.chunk(parts), labels.chunk(parts), strict=True), 1):
            with without_averaging(self.wrapped, averages=part == parts):
                with autocast(self.precision, self.device):
                    logits = self.wrapped(some)
                    loss = self.loss(logits, right) / parts
                loss.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.detach(), (logits.argmax(1) == right).float().mean() / parts])
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        return torch.cat([sums, nn.utils.get_total_norm(gradients)[None]])

    def read(self) -> None:
        """Adds the losses that are not read yet to the epoch's sums; all ranks at the same step."""
        if not self._unread:
            return
        first = self.step - len(self._unread) + self._computing
        values = self.ranks.sum(torch.stack(self._unread)) / self.ranks.count
        for number, (loss, accuracy, length) in enumerate(values.tolist()):
            _require_finite(loss, at=f"step {first + number}")
            _require_finite(length, at=f"step {first + number}", what="length of the gradient")
            self.sums["loss"] += loss
            self.sums["accuracy"] += accuracy
            self.sums["steps"] += 1
        self._unread, self._read_at = [], time.monotonic()

    def figures(self) -> dict[str, float]:
        """Mean loss and accuracy of the epoch so far, and the share of its time that passed waiting for data.

        On a GPU, those of some steps ago if they have just been read.
        """
        soon = time.monotonic() - self._read_at < _READ_SECONDS
        if self._unread and (soon if self.ranks.count == 1 else self.step % _READ_STEPS):
            return self._figures
        self.read()
        waiting = 100 * self._waited / max(time.monotonic() - self.clock, 1e-9)
        self._figures = self._means() | {"waiting %": waiting}
        return self._figures

    def _means(self) -> dict[str, float]:
        return {name: self.sums[name] / self.sums["steps"] for name in ("loss", "accuracy")}

    def end_epoch(self, validation: Dataset[tuple[Tensor, int]] | None) -> Iterator[int]:
        """Validates and records the epoch whose steps are done; a run that ends in the middle of it does it again."""
        epoch = self.step // self.steps_per_epoch
        self.read()
        self.ranks.take_the_leaders(self.net.buffers())
        record = {"epoch": epoch, "step": self.step, **self._means(), "waiting_seconds": self._waited}
        if validation is not None:
            record |= yield from self._validate(validation)
        record["seconds"] = time.monotonic() - self.clock
        with self._changing:
            if record.get("val_loss", -epoch) <= self.best["loss"]:
                weights = {
                    name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                    for name, value in self.net.state_dict().items()
                }
                self.best = {"epoch": epoch, "loss": record.get("val_loss", math.inf), "weights": weights}
            self.history.append(record)
            self.sums = dict.fromkeys(self.sums, 0.0)
        self.clock, self._waited = time.monotonic(), 0.0

    def _validate(self, data: Dataset[tuple[Tensor, int]]) -> Generator[int, None, dict[str, float]]:
        self.net.eval()
        count = len(data)  # type: ignore[arg-type]
        starts = range(0, count, self.plan.batch)
        batches = [[(0, number) for number in range(start, min(start + self.plan.batch, count))] for start in starts]
        workers = self.plan.workers if len(batches) >= _MANY_BATCHES else 0
        own = load(data, batches[self.ranks.number :: self.ranks.count], workers=workers)
        sums = torch.zeros(2, dtype=torch.float64)
        for _ in range(math.ceil(len(batches) / self.ranks.count)):
            for clips, labels in itertools.islice(own, 1):
                sums += self._scores(clips, labels)
            yield self.step
        total, correct = self.ranks.sum(sums).tolist()
        _require_finite(total, at=f"validation after step {self.step}")
        return {"val_loss": total / count, "val_accuracy": correct / count}

    @torch.no_grad()
    def _scores(self, clips: Tensor, labels: Tensor) -> Tensor:
        """Sum of the loss and number of right answers: [2]."""
        labels = labels.to(self.device)
        with autocast(self.precision, self.device):
            logits = self.net(clips.to(self.device))
            loss = float(self.loss(logits, labels)) * len(labels)
        return torch.tensor([loss, float((logits.argmax(1) == labels).sum())], dtype=torch.float64)

    def state(self) -> State:
        """Everything that a run goes on from; during a step, as it was ahead of it."""
        with self._changing:
            if not self._computing and self.ranks.count == 1:
                self.read()
            ahead = self._buffers_ahead or {} if self._computing else {}
            return {
                "step": self.step,
                "net": self.net.state_dict() | ahead,
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "best": self.best,
                "history": list(self.history),
                "sums": dict(self.sums),
            }

    def copy_ahead(self) -> State | None:
        """A copy of the state, which a step that ends meanwhile leaves alone; None where it cannot be saved now."""
        with self._changing:
            return copied(self.state()) if self.can_be_saved else None

    def restore(self, state: State | None) -> None:
        if state is None:
            return
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.best = state["step"], state["best"]
        self.history, self.sums = state["history"], state["sums"]

    def outcome(self) -> TrainingResult:
        return TrainingResult(
            weights=self.best["weights"],
            history=self.history,
            best_epoch=self.best["epoch"],
            precision=self.precision,
        )

    def _buffers(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.net.named_buffers() if value is not None}


def _require_finite(value: float, *, at: str, what: str = "loss") -> None:
    if not math.isfinite(value):
        raise RushesError(f"training: the {what} is {value} at {at}: lower optimizer.lr, or raise its warmup_steps")
