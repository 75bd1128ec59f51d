"""Whatever ends a training run from outside, the next one goes on with the same bits."""

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rushes.config import TrainingConfig
from rushes.errors import RushesError, StoppedError
from rushes.progress import Bar, NullProgress
from rushes.store import Store
from rushes.training import loop, stopping
from rushes.training.checkpoints import Checkpoints, Saver, State
from rushes.training.loop import TrainingResult, fit
from tests.training.forks import Fork
from tests.training.test_loop import OPTIMIZER, Fixed, Line, assert_same, run

SOAK = pytest.mark.soak


class Signalling(NullProgress):
    """Sends its own process a signal once so many steps of this run are done."""

    def __init__(self, after: int, number: int) -> None:
        self.after, self.number, self.done = after, number, -1

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return self

    def advance(self, count: float = 1, **stats: float) -> None:
        self.done += 1  # the first call says where the run begins
        if self.done == self.after:
            os.kill(os.getpid(), self.number)


def begin() -> None:
    """In a fork: as a process of the command line begins."""
    torch.set_num_threads(1)


def _train(folder: str, after: int = 0, number: int = 0, options: dict[str, Any] | None = None) -> None:
    """Trains until the signal, in a process of its own, and ends as the command line does."""
    begin()
    options = {"every": 1e9} | (options or {})
    try:
        Path(folder).mkdir(exist_ok=True)
        outcome = run(Path(folder), progress=Signalling(after or -1, number), **options)
    except StoppedError as error:
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    torch.save(vars(outcome), Path(folder) / "outcome.pt")


def trained(folder: Path, *arguments: Any) -> int:
    process = Fork(target=_train, args=(str(folder), *arguments))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def outcome_of(folder: Path) -> TrainingResult:
    return TrainingResult(**torch.load(folder / "outcome.pt"))


def whole(folder: Path, **options: Any) -> TrainingResult:
    """The same run in one go."""
    assert trained(folder, 0, 0, options) == 0
    return outcome_of(folder)


@pytest.mark.parametrize(
    ("number", "status", "count", "workers"),
    [
        (signal.SIGTERM, 75, 5, 0),
        (signal.SIGINT, 130, 2, 2),
        pytest.param(signal.SIGTERM, 75, 100, 0, marks=SOAK),
        pytest.param(signal.SIGTERM, 75, 20, 1, marks=SOAK),
        pytest.param(signal.SIGINT, 130, 20, 2, marks=SOAK),
    ],
)
def test_a_run_that_is_stopped_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, number: int, status: int, count: int, workers: int
) -> None:
    """Its time for checkpoints never comes: what is saved, the signal saved."""
    gaps = [random.Random(count * 3 + workers).randint(1, 10) for _ in range(count)]
    options = {"epochs": sum(gaps) // 4 + 1, "workers": workers}
    for gap in gaps:
        assert trained(tmp_path / "cut", gap, number, options) == status
    assert trained(tmp_path / "cut", 0, 0, options) == 0
    assert_same(outcome_of(tmp_path / "cut"), whole(tmp_path / "whole", **options | {"workers": 0}))


@pytest.mark.parametrize(
    ("count", "workers"), [(2, 2), pytest.param(10, 1, marks=SOAK), pytest.param(10, 0, marks=SOAK)]
)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, count: int, workers: int
) -> None:
    """Checkpoints come after each step, but that of the last step, which no one waited for."""
    gaps = [random.Random(count + workers).randint(2, 10 if count > 2 else 4) for _ in range(count)]
    options = {"epochs": sum(gaps) // 4 + 1, "workers": workers, "every": 0}
    for gap in gaps:
        assert trained(tmp_path / "cut", gap, signal.SIGKILL, options) == -signal.SIGKILL
    assert trained(tmp_path / "cut", 0, 0, options) == 0
    assert_same(outcome_of(tmp_path / "cut"), whole(tmp_path / "whole", **options | {"workers": 0}))


def test_a_signal_during_validation_loses_no_step(tmp_path: Path) -> None:
    def stop(net: nn.Module, inputs: Any, output: Tensor) -> None:
        if not net.training:
            os.kill(os.getpid(), signal.SIGTERM)

    line, before = Line(), signal.getsignal(signal.SIGTERM)
    line.register_forward_hook(stop)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM after step 2 of 8, which is saved: the same command"):
        _fit_line(tmp_path / "cut", line)
    assert Store(str(tmp_path / "cut")).names("checkpoints/d") == ["step-000000002.pt"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert_same(_fit_line(tmp_path / "cut", Line())[0], _fit_line(tmp_path / "whole", Line())[0])


def _fit_line(folder: Path, net: nn.Module, **changes: Any) -> tuple[TrainingResult, nn.Module]:
    data = Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0])
    outcome = fit(
        net,
        changes.pop("loss", F.cross_entropy),
        data=data,
        validation=data,
        plan=TrainingConfig(epochs=4, batch=2, optimizer=OPTIMIZER, workers=0, **changes),
        seed=0,
        checkpoints=Checkpoints(Store(str(folder)), "d"),
        label="x",
    )
    return outcome, net


class Slow(nn.Module):
    """Batch norm and dropout, and from the second step on, steps that take longer than anybody waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.norm, self.steps = seconds, nn.BatchNorm1d(1), 0

    def forward(self, x: Tensor) -> Tensor:
        values = self.norm(F.dropout(x[:, None], 0.2))
        self.steps += 1
        if self.training and self.steps == 2 and self.seconds:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self.seconds)
        return torch.cat([-values, values], dim=1)


def _stopped_in_a_long_step(folder: str) -> None:
    begin()
    stopping.PATIENCE, loop.LONG_STEP = 0.3, 0.0
    torch.manual_seed(0)
    _fit_line(Path(folder), Slow(60))


def test_during_a_step_that_takes_too_long_the_state_ahead_of_it_is_saved(tmp_path: Path) -> None:
    process = Fork(target=_stopped_in_a_long_step, args=(str(tmp_path / "cut"),))
    process.start()
    store = Store(str(tmp_path / "cut"))
    wait_until(lambda: bool(store.names("checkpoints/d")))
    process.kill()
    process.join()
    assert store.names("checkpoints/d") == ["step-000000001.pt"]
    results = []
    for folder in ("cut", "whole"):
        torch.manual_seed(0)
        results.append(_fit_line(tmp_path / folder, Slow(0))[0])
    assert_same(*results)


def test_what_is_saved_during_a_step_stays_as_it_was_when_the_step_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.1)
    monkeypatch.setattr(loop, "LONG_STEP", 0.0)
    saved: list[tuple[int, Tensor]] = []

    class Late(Checkpoints):
        def save(self, step: int, state: State) -> None:
            time.sleep(0.6)  # by then the step has ended
            assert state["step"] == step
            saved.append((step, state["net"]["norm.weight"].clone()))

    data = Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0])
    plan = TrainingConfig(epochs=4, batch=2, optimizer=OPTIMIZER, workers=0, device="cpu")
    late = Late(Store(str(tmp_path)), "d")
    with pytest.raises(StoppedError):
        fit(Slow(0.3), F.cross_entropy, data=data, validation=None, plan=plan, seed=0, checkpoints=late, label="x")
    (first, ahead), (second, after) = saved
    assert (first, second) == (1, 2)
    assert not torch.equal(ahead, after)


def wait_until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# By time ------------------------------------------------------------------------------------------------------------


class Slowly(Checkpoints):
    """A store that takes its time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "d")
        self.saved: list[int] = []

    def save(self, step: int, state: State) -> None:
        time.sleep(0.2)
        self.saved.append(step)
        super().save(step, state)


def test_checkpoints_are_written_beside_training_as_the_run_was_when_they_were_due(tmp_path: Path) -> None:
    checkpoints, weight = Slowly(Store(str(tmp_path))), torch.zeros(1)

    def state() -> State:
        return {"weight": weight}

    with Saver(checkpoints, seconds=1e-6) as saver:
        for step in range(1, 1001):
            weight += 1  # in place: what is written is a copy
            saver.offer(step, state)
        assert checkpoints.saved == [], "nobody waited"
    assert checkpoints.saved == [1], "leaving waits for a write in progress"
    assert checkpoints.load() == {"weight": torch.ones(1)}


def test_before_their_time_nothing_is_saved(tmp_path: Path) -> None:
    with Saver(Checkpoints(Store(str(tmp_path)), "d"), seconds=3600) as saver:
        for step in range(10):
            saver.offer(step, dict)
    assert Store(str(tmp_path)).names("checkpoints/d") == []


class Full(Checkpoints):
    def save(self, step: int, state: State) -> None:
        raise OSError(28, "No space left on device", "x")


def test_a_checkpoint_that_could_not_be_written_ends_the_run(tmp_path: Path) -> None:
    with Saver(Full(Store(str(tmp_path)), "d"), seconds=1e-6) as saver, pytest.raises(OSError, match="No space"):
        for step in range(1000):
            saver.offer(step, dict)
            time.sleep(0.001)


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path)), list[str]()
    checkpoints = Checkpoints(store, "d")
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2})
    store.write("checkpoints/d/step-000000002.pt", b"nonsense")
    progress = NullProgress()
    progress.say = said.append  # type: ignore[method-assign,assignment]
    assert checkpoints.load(progress) == {"step": 1}
    assert said == ["checkpoints/d/step-000000002.pt is damaged: going on from the checkpoint before it"]


# Workers -------------------------------------------------------------------------------------------------------------


def _with_workers(folder: str, epochs: int) -> None:
    begin()
    try:
        run(Path(folder), workers=2, epochs=epochs, validated=False)
    except RushesError as error:
        (Path(folder) / "said").write_text(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        (Path(folder) / "said").write_text(str(error))
        sys.exit(130)


@contextlib.contextmanager
def training_with_workers(folder: Path) -> Iterator[tuple[Fork, list[psutil.Process]]]:
    process = Fork(target=_with_workers, args=(str(folder), 10**5))
    process.start()
    store = Store(str(folder))
    try:
        wait_until(lambda: bool(store.names("checkpoints/d")))
        yield process, psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.join()


def test_a_worker_that_is_killed_is_one_line(tmp_path: Path) -> None:
    with training_with_workers(tmp_path) as (process, workers):
        workers[0].kill()
        process.join(60)
        assert process.exitcode == 1
    said = (tmp_path / "said").read_text()
    assert re.fullmatch(
        rf"training: loader worker {workers[0].pid} (is killed by signal: Killed|exited unexpectedly), "
        "mostly for want of memory: lower workers, or give the machine more; "
        "the same command goes on from the last checkpoint",
        said,
    )
    assert Checkpoints(Store(str(tmp_path)), "d").load() is not None
    psutil.wait_procs(workers, timeout=20)
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_of_a_run_is_the_runs_to_obey(tmp_path: Path, number: int, status: int) -> None:
    """As a terminal's Ctrl-C is, and the end of a pod."""
    with training_with_workers(tmp_path) as (process, workers):
        for worker in workers:
            worker.send_signal(number)
        time.sleep(0.3)
        assert all(worker.is_running() for worker in workers)
        os.kill(process.pid or 0, number)
        process.join(60)
        assert process.exitcode == status, (tmp_path / "said").read_text()
    assert "saved: the same command goes on from there" in (tmp_path / "said").read_text()


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "GPU"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"), "machine"),
    ],
)
def test_memory_that_is_not_enough_is_one_line_and_the_last_checkpoint_stands(
    tmp_path: Path, error: Exception, where: str
) -> None:
    steps = iter(range(100))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if next(steps) == 4:
            raise error
        return F.cross_entropy(logits, labels)

    with pytest.raises(RushesError, match=rf"^training: the {where} has too little memory for a batch of 2: --SECTION"):
        _fit_line(tmp_path, Line(), loss=loss, checkpoint_seconds=0)
    state = Checkpoints(Store(str(tmp_path)), "d").load()
    assert state is not None and state["step"] == 2


def test_other_errors_of_torch_stay_what_they_are(tmp_path: Path) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match=r"^shapes$"):
        _fit_line(tmp_path, Line(), loss=loss)
