"""The loop: it learns, it resumes bit for bit, it says what is wrong in one line."""

import itertools
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from rushes.config import Optimizer, TrainingConfig
from rushes.errors import RushesError, UserError
from rushes.pretext import make_task
from rushes.progress import Bar, NullProgress
from rushes.store import Store
from rushes.training.checkpoints import Checkpoints
from rushes.training.device import pick_device
from rushes.training.loop import TrainingResult, fit
from rushes.training.optimizer import learning_rate_factor, make_optimizer
from rushes.training.pretext import PretextNet, PretextTuples
from tests.training.stand_in import stand_in

OPTIMIZER = Optimizer(name="adamw", lr=3e-3, schedule="cosine", warmup_steps=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class StopError(Exception):
    """Stands for whatever ends a run from outside."""


class Interrupting(NullProgress):
    """Does something as soon as a step is done."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act, self.done = step, act, 0.0

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        self.done += count
        if self.done >= self.step and count:
            self.act()


def stop() -> None:
    raise StopError


def run(
    folder: Path,
    *,
    progress: NullProgress | None = None,
    workers: int = 0,
    broken: int = -1,
    seed: int = 0,
    every: float = 0,
    validated: bool = True,
    epochs: int = 3,
    **changes: Any,
) -> TrainingResult:
    """A whole pretraining in small: epochs of 4 steps, dropout, batch norm, validation, warm-up and cosine."""
    footage = stand_in(lengths=[40] * 8, height=16, width=16, broken=broken)
    task = make_task("clip_order", {"clips": 2, "gap": 1})
    geometry: dict[str, Any] = {"task": task, "clip_frames": 4, "crop": 16}
    data = PretextTuples(footage, np.arange(6), seed=seed, samples=9, **geometry)
    validation = PretextTuples(footage, np.arange(6, 8), seed=seed + 1, samples=5, **geometry) if validated else None
    torch.manual_seed(seed)
    net = PretextNet(task, backbone="tiny_r3d")
    plan = TrainingConfig(
        epochs=epochs,
        batch=2,
        optimizer=OPTIMIZER,
        checkpoint_seconds=every,
        device="cpu",
        workers=workers,
        **changes,
    )
    checkpoints = Checkpoints(Store(str(folder)), "d")
    return fit(
        net,
        task.loss,
        data=data,
        validation=validation,
        plan=plan,
        seed=seed,
        checkpoints=checkpoints,
        label="x",
        progress=progress,
    )


def assert_same(one: TrainingResult, other: TrainingResult) -> None:
    assert one.weights.keys() == other.weights.keys()
    for key, value in one.weights.items():
        assert torch.equal(value, other.weights[key]), key
    assert one.best_epoch == other.best_epoch
    for a, b in zip(one.history, other.history, strict=True):
        clocks = ("seconds", "waiting_seconds")
        assert {k: v for k, v in a.items() if k not in clocks} == {k: v for k, v in b.items() if k not in clocks}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    outcome = run(tmp_path_factory.mktemp("whole"))
    torch.set_num_threads(before)
    assert [record["step"] for record in outcome.history] == [4, 8, 12]
    return outcome


# Resume --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 4, 7, 8, 11, 12])
def test_a_run_interrupted_anywhere_ends_as_one_that_was_not(
    tmp_path: Path, uninterrupted: TrainingResult, at: int
) -> None:
    with pytest.raises(StopError):
        run(tmp_path, progress=Interrupting(at, stop))
    assert_same(run(tmp_path), uninterrupted)


def test_a_resume_goes_on_from_the_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(tmp_path, progress=Interrupting(8, stop))
    resumed = Interrupting(100, stop)
    advanced: list[float] = []
    resumed.advance = lambda count=1, **stats: advanced.append(count)  # type: ignore[method-assign]
    run(tmp_path, progress=resumed)
    # The interruption at step 8 came before its checkpoint: from 7 on, one by one.
    assert advanced == [7] + [1] * 5


def test_a_run_interrupted_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, uninterrupted: TrainingResult
) -> None:
    for at in (3, 5, 9):
        with pytest.raises(StopError):
            run(tmp_path, progress=Interrupting(at, stop))
    assert_same(run(tmp_path), uninterrupted)


def test_workers_change_no_bit_and_the_seed_does(tmp_path: Path, uninterrupted: TrainingResult) -> None:
    assert_same(run(tmp_path / "a", workers=2), uninterrupted)
    other = run(tmp_path / "b", seed=1)
    assert any(not torch.equal(value, other.weights[key]) for key, value in uninterrupted.weights.items())


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda data: b""])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, uninterrupted: TrainingResult, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(StopError):
        run(tmp_path, progress=Interrupting(9, stop))
    store = Store(str(tmp_path))
    older, newest = (f"checkpoints/d/{name}" for name in store.names("checkpoints/d"))
    assert newest.endswith("step-000000008.pt")
    data = store.read(newest)
    assert data is not None
    store.write(newest, damage(data))
    state = Checkpoints(store, "d").load()
    assert state is not None
    assert state["step"] == 7
    assert_same(run(tmp_path), uninterrupted)
    assert store.read(older) is None


def test_with_every_checkpoint_damaged_the_run_begins_anew(tmp_path: Path, uninterrupted: TrainingResult) -> None:
    with pytest.raises(StopError):
        run(tmp_path, progress=Interrupting(9, stop))
    store = Store(str(tmp_path))
    for name in store.names("checkpoints/d"):
        store.write(f"checkpoints/d/{name}", b"nonsense")
    assert Checkpoints(store, "d").load() is None
    assert_same(run(tmp_path), uninterrupted)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Store(str(tmp_path)), "d", keep=2)
    for step in (9, 10, 99, 100):
        checkpoints.save(step, {"step": step})
    assert Store(str(tmp_path)).names("checkpoints/d") == ["step-000000099.pt", "step-000000100.pt"]
    assert checkpoints.load() == {"step": 100}


# Learning ------------------------------------------------------------------------------------------------------------


class Fixed(Dataset[tuple[Tensor, int]]):
    """The same few samples in every epoch."""

    def __init__(self, clips: Tensor, labels: list[int]) -> None:
        self.clips, self.labels = clips, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        return self.clips[place[1]], self.labels[place[1]]


class Line(nn.Module):
    """y = a x: two logits that differ by it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-self.a * x, self.a * x], dim=1)


def fit_line(
    tmp_path: Path,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    validation: Dataset[tuple[Tensor, int]] | None = None,
    progress: NullProgress | None = None,
) -> tuple[TrainingResult, Line]:
    net = Line()
    data = Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0])
    plan = TrainingConfig(epochs=4, batch=2, optimizer=Optimizer(lr=0.1), checkpoint_seconds=0, device="cpu", workers=0)
    checkpoints = Checkpoints(Store(str(tmp_path)), "d")
    outcome = fit(
        net,
        loss,
        data=data,
        validation=validation,
        plan=plan,
        seed=0,
        checkpoints=checkpoints,
        label="x",
        progress=progress,
    )
    return outcome, net


def test_without_validation_the_last_epochs_weights_are_chosen(tmp_path: Path) -> None:
    outcome, net = fit_line(tmp_path, F.cross_entropy)
    assert outcome.best_epoch == 4
    assert outcome.weights["a"] == net.a.detach()


def test_with_validation_the_epoch_of_lowest_loss_is_chosen(tmp_path: Path) -> None:
    # Validated on swapped answers, every step makes it worse: the first epoch is the best.
    outcome, net = fit_line(tmp_path, F.cross_entropy, validation=Fixed(torch.tensor([1.0, -1.0, 3.0]), [0, 1, 0]))
    assert outcome.best_epoch == 1
    assert 0 < outcome.weights["a"] < net.a.detach()
    losses = [record["val_loss"] for record in outcome.history]
    assert losses == sorted(losses)
    a = float(outcome.weights["a"])
    expected = sum(math.log(1 + math.exp(2 * a * x)) for x in (1, 1, 3)) / 3
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert outcome.history[0]["val_accuracy"] == 0


def test_the_best_epoch_is_remembered_over_an_interruption(tmp_path: Path) -> None:
    worse = Fixed(torch.tensor([1.0, -1.0, 3.0]), [0, 1, 0])
    whole, _ = fit_line(tmp_path / "whole", F.cross_entropy, validation=worse)
    with pytest.raises(StopError):
        fit_line(tmp_path / "cut", F.cross_entropy, validation=worse, progress=Interrupting(6, stop))
    resumed, _ = fit_line(tmp_path / "cut", F.cross_entropy, validation=worse)
    assert resumed.best_epoch == 1
    assert_same(resumed, whole)


def test_validation_runs_in_evaluation_mode_and_training_does_not(tmp_path: Path) -> None:
    modes: list[bool] = []
    net = Line()
    net.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    data = Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0])
    plan = TrainingConfig(epochs=2, batch=2, optimizer=Optimizer(), device="cpu", workers=0)
    checkpoints = Checkpoints(Store(str(tmp_path)), "d")
    fit(net, F.cross_entropy, data=data, validation=data, plan=plan, seed=0, checkpoints=checkpoints, label="x")
    assert modes == [True, True, False, False] * 2


def test_fewer_samples_than_a_batch_hold_still_make_an_epoch(tmp_path: Path) -> None:
    footage = stand_in(lengths=[20], height=16, width=16)
    data = PretextTuples(footage, np.arange(1), task=make_task("pace", {}), clip_frames=4, crop=16, seed=0)
    assert len(data) == 1
    net = PretextNet(make_task("pace", {}), backbone="tiny_r3d")
    plan = TrainingConfig(epochs=2, batch=4, optimizer=OPTIMIZER, device="cpu", workers=0)
    checkpoints = Checkpoints(Store(str(tmp_path)), "d")
    outcome = fit(
        net, F.cross_entropy, data=data, validation=None, plan=plan, seed=0, checkpoints=checkpoints, label="x"
    )
    assert [record["step"] for record in outcome.history] == [1, 2]


class Lines(NullProgress):
    """What is said, and the last figures of the bar."""

    def __init__(self) -> None:
        self.said, self.stats = list[str](), dict[str, float]()

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        self.stats = stats

    def say(self, message: str) -> None:
        self.said.append(message)


class Late(Fixed):
    """Samples that take their time."""

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        time.sleep(0.02)
        return super().__getitem__(place)


@pytest.mark.parametrize(("kind", "cores", "advised"), [(Late, 8, True), (Late, 1, False), (Fixed, 8, False)])
def test_the_share_of_time_spent_waiting_for_data_is_seen(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fixed], cores: int, advised: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    data, lines = kind(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0]), Lines()
    net = nn.Sequential(Line())
    if kind is Fixed:
        net.register_forward_hook(lambda module, inputs, output: time.sleep(0.05))
    plan = TrainingConfig(epochs=2, batch=2, device="cpu", workers=0)
    outcome = fit(
        net, F.cross_entropy, data=data, validation=None, plan=plan, seed=0, checkpoints=None, label="x", progress=lines
    )
    shares = [record["waiting_seconds"] / record["seconds"] for record in outcome.history]
    assert all(share > 0.5 if kind is Late else share < 0.5 for share in shares)
    assert (lines.stats["waiting %"] > 50) == (kind is Late)
    said = [line for line in lines.said if "of the first epoch: raise workers (0 of 8 cores)" in line]
    assert len(said) == len(lines.said) == advised


# Failures ------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(tmp_path: Path) -> None:
    steps = iter(range(100))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(logits, labels)
        return value * float("nan") if next(steps) == 5 else value

    with pytest.raises(RushesError, match=r"the loss is nan at step 5: lower optimizer\.lr"):
        fit_line(tmp_path, loss)


def test_a_validation_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    # Chosen by it, no epoch would be the best, and the weights would be none.
    with pytest.raises(RushesError, match=r"the loss is (inf|nan) at validation after step 2"):
        fit_line(tmp_path, F.cross_entropy, validation=Fixed(torch.tensor([1e38, -1e38]) * 1e3, [0, 1]))


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_footage_is_said_in_one_line(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, workers=workers, broken=2)
    assert str(caught.value) == "footage: row 2 is damaged: run sample again"


def test_a_device_that_is_not_here_is_a_users_mistake() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="'gpu' is not a device; auto, cpu, cuda"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="'cuda:1' is not available"):
            pick_device("cuda:1")


# Optimiser -----------------------------------------------------------------------------------------------------------


def test_learning_rate_grows_to_the_peak_and_falls_to_nothing() -> None:
    cosine = Optimizer(schedule="cosine", warmup_steps=10)
    factors = [learning_rate_factor(step, steps=110, optimizer=cosine) for step in range(111)]
    assert factors[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[35] == pytest.approx(0.5 + 0.25 * math.sqrt(2))
    assert factors[110] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    constant = Optimizer(warmup_steps=4)
    assert [learning_rate_factor(step, steps=9, optimizer=constant) for step in (0, 3, 4, 8)] == [0.25, 1, 1, 1]
    stepped = Optimizer(schedule="step", milestones=(0.5, 0.75))
    factors = [learning_rate_factor(step, steps=8, optimizer=stepped) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    # A warm-up longer than the run divides by nothing.
    assert learning_rate_factor(5, steps=5, optimizer=Optimizer(schedule="cosine", warmup_steps=10)) == 0.6


def test_the_recipes_optimizer_is_the_one_that_runs() -> None:
    net = Line()
    sgd = make_optimizer(net, Optimizer(lr=0.5, momentum=0.8, weight_decay=0.1))
    assert isinstance(sgd, torch.optim.SGD)
    assert {k: sgd.param_groups[0][k] for k in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.5,
        "momentum": 0.8,
        "weight_decay": 0.1,
    }
    adamw = make_optimizer(net, Optimizer(name="adamw", lr=0.5, weight_decay=0.1))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["weight_decay"] == 0.1


def test_the_schedule_moves_the_weights_as_it_says(tmp_path: Path) -> None:
    # One weight under a constant gradient of -1: after the run it is the sum of the learning rates.
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    config = Optimizer(lr=0.1, momentum=0, weight_decay=0, schedule="cosine", warmup_steps=2)
    data = Fixed(torch.ones(4, 1), [0, 0, 0, 0])
    plan = TrainingConfig(epochs=5, batch=2, optimizer=config, device="cpu", workers=0)
    checkpoints = Checkpoints(Store(str(tmp_path)), "d")

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return -outputs.mean()

    fit(net, loss, data=data, validation=None, plan=plan, seed=0, checkpoints=checkpoints, label="x")
    rates = [0.1 * learning_rate_factor(step, steps=10, optimizer=config) for step in range(10)]
    assert float(net.weight.detach()) == pytest.approx(sum(rates), rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_of_layers_may_have_a_rate_of_their_own_and_no_decay(name: Literal["sgd", "adamw"]) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2, 2))
    config = Optimizer(name=name, lr=0.1, weight_decay=0.5, bias_lr=2, bias_decay=False)
    rest, biases = make_optimizer(net, config).param_groups
    assert [id(p) for p in biases["params"]] == [id(net[0].bias), id(net[3].bias)]
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0.0)
    assert (rest["lr"], rest["weight_decay"], len(rest["params"])) == (0.1, 0.5, 4)
    (alike,) = make_optimizer(net, Optimizer(name=name)).param_groups
    assert len(alike["params"]) == 6


LONG = """
import os
import signal
import sys
import tempfile
import torch
import torch._dynamo  # which the first optimizer imports
from rushes.config import Optimizer, TrainingConfig
from rushes.store import Store
from rushes.training.checkpoints import Checkpoints
from rushes.training.loop import fit

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, position):
        return torch.ones(4), position[1] % 2

optimizer = Optimizer(name="adamw", lr=3e-3)
plan = TrainingConfig(epochs=2, batch=4, workers=1, device="cpu", optimizer=optimizer)
loss = torch.nn.functional.cross_entropy
for folder in sys.argv[1:]:
    if process := os.fork():
        assert os.waitpid(process, 0)[1] == 0, len(folder)
        continue
    signal.alarm(60)  # without room for sockets, training waits for ever
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    assert tempfile.gettempdir() == folder
    kept = Checkpoints(Store(f"store-{len(folder)}"), "checkpoints/0")
    fit(torch.nn.Linear(4, 2), loss, data=Data(), validation=None, plan=plan, seed=0, checkpoints=kept, label="x")
    os._exit(0)  # takes a second to end otherwise
"""


def test_a_temporary_folder_of_any_length_does(tmp_path: Path) -> None:
    """A worker sends through a socket there, whose path may hold little more than 100 characters."""
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folders = []
        for length, folder in ((75, short), (76, short), (230, tmp_path)):
            long = folder / "x" / ("y" * (length - len(str(folder)) - 3))
            long.mkdir(parents=True)
            assert len(str(long)) == length
            folders.append(str(long))
        subprocess.run([sys.executable, "-c", LONG, *folders], cwd=tmp_path, timeout=120, check=True)
    finally:
        shutil.rmtree(short, ignore_errors=True)
