"""Several processes that train one network do the steps of one, on the same samples."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from rushes.config import Optimizer, TrainingConfig
from rushes.errors import StoppedError, UserError
from rushes.store import Store
from rushes.training.checkpoints import Checkpoints
from rushes.training.loop import TrainingResult, fit
from rushes.training.ranks import ALONE, Ranks, joined
from tests.integration.conftest import free_ports
from tests.training.forks import Fork
from tests.training.test_loop import assert_same
from tests.training.test_survival import begin

SAMPLES, BATCH = 100, 8


class Clips(Dataset[tuple[Tensor, int]]):
    """Small clips by position, in float64 or float32; remembers which were asked for."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.asked = dtype, list[tuple[int, int]]()

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, position: tuple[int, int]) -> tuple[Tensor, int]:
        self.asked.append(position)
        generator = torch.Generator().manual_seed(1000 * position[0] + position[1])
        label = position[1] % 3
        clip = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64) + label
        return clip.to(self.dtype), label


def network(dtype: torch.dtype) -> nn.Module:
    """Without batch norm, which sees a share at a time."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(2, 6, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3)]
    return nn.Sequential(*layers).to(dtype)


class StoppedAt:
    """The loss, by which rank 1 sends itself SIGTERM in a step; 0 for none."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, 0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.done += logits.requires_grad
        if self.done == self.step and logits.requires_grad:
            os.kill(os.getpid(), signal.SIGTERM)
        return F.cross_entropy(logits, labels)


def train(folder: str, dtype: torch.dtype, options: dict[str, Any], ranks: Ranks = ALONE) -> TrainingResult:
    """Trains and writes what came out, and which samples were asked for, by rank."""
    stopped = options.pop("stopped", 0) if ranks.number else 0
    options.pop("stopped", 0)
    settings: dict[str, Any] = {"epochs": 4, "batch": BATCH, "workers": 0, "device": "cpu", "checkpoint_seconds": 1e9}
    optimizer = Optimizer(lr=0.05, momentum=0.9)
    data = Clips(dtype)
    outcome = fit(
        network(dtype),
        StoppedAt(stopped),
        data=data,
        validation=Clips(dtype),
        plan=TrainingConfig(**settings | {"optimizer": optimizer} | options),
        seed=0,
        checkpoints=Checkpoints(Store(folder), "d"),
        label="x",
        ranks=ranks,
    )
    torch.save(vars(outcome), f"{folder}/outcome-{ranks.number}.pt")
    Path(f"{folder}/asked-{ranks.number}.json").write_text(json.dumps(data.asked))
    return outcome


def _rank(number: int, count: int, port: int, folder: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    begin()
    names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with joined() as ranks:
        try:
            train(folder, dtype, options, ranks)
        except StoppedError as error:
            Path(f"{folder}/said-{number}").write_text(str(error))
            sys.exit(error.exit_code)


def train_together(folder: Path, dtype: torch.dtype, count: int = 2, **options: Any) -> list[TrainingResult]:
    folder.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    processes = [Fork(target=_rank, args=(number, count, port, str(folder), dtype, options)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == (75 if "stopped" in options else 0)
    if "stopped" in options:
        return []
    return [TrainingResult(**torch.load(folder / f"outcome-{number}.pt")) for number in range(count)]


def train_alone(folder: Path, dtype: torch.dtype, **options: Any) -> TrainingResult:
    folder.mkdir(exist_ok=True)
    return train(str(folder), dtype, options)


def asked(folder: Path, count: int) -> list[list[list[int]]]:
    return [json.loads((folder / f"asked-{number}.json").read_text()) for number in range(count)]


def test_two_with_half_a_batch_each_do_the_steps_of_one(tmp_path: Path) -> None:
    """Over 48 steps; validation, whose batches they share, included."""
    alone = train_alone(tmp_path / "alone", torch.float64)
    for together in train_together(tmp_path / "together", torch.float64):
        for name, value in alone.weights.items():
            torch.testing.assert_close(value, together.weights[name], rtol=1e-9, atol=1e-9)
        assert together.best_epoch == alone.best_epoch
        for one, other in zip(alone.history, together.history, strict=True):
            for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
                assert one[name] == pytest.approx(other[name], rel=1e-6), name
    shares = asked(tmp_path / "together", 2)
    steps = [share[at : at + BATCH // 2] for at in range(0, len(shares[0]), BATCH // 2) for share in shares]
    (whole,) = asked(tmp_path / "alone", 1)
    assert [position for step in steps for position in step] == whole


def test_in_float32_the_first_step_is_that_of_one(tmp_path: Path) -> None:
    """Without momentum, it is the gradient times the learning rate."""
    short: dict[str, Any] = {"epochs": 1, "batch": 50, "optimizer": Optimizer(lr=1.0, momentum=0, weight_decay=0)}
    alone, before = train_alone(tmp_path / "alone", torch.float32, **short), network(torch.float32).state_dict()
    for together in train_together(tmp_path / "together", torch.float32, **short):
        for name, value in alone.weights.items():
            first, second = value - before[name], together.weights[name] - before[name]
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_parts_of_a_share_add_up_before_they_are_averaged(tmp_path: Path) -> None:
    alone = train_alone(tmp_path / "alone", torch.float64, epochs=1)
    together, _ = train_together(tmp_path / "together", torch.float64, epochs=1, accumulate=2)
    for name, value in alone.weights.items():
        torch.testing.assert_close(value, together.weights[name], rtol=1e-9, atol=1e-9)


def test_where_one_is_stopped_both_end_at_a_step_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Checkpoints never come by time: what is saved, the stop saved."""
    for step in (1, 5):
        train_together(tmp_path / "cut", torch.float32, stopped=step, epochs=2)
        said = [(tmp_path / "cut" / f"said-{number}").read_text() for number in (0, 1)]
        assert [line.partition(" after step ")[0] for line in said] == [
            "stopped by another process of the run",
            "stopped by SIGTERM",
        ]
    one, other = train_together(tmp_path / "cut", torch.float32, epochs=2)
    whole, _ = train_together(tmp_path / "whole", torch.float32, epochs=2)
    assert_same(one, whole)
    assert_same(other, whole)


def test_one_goes_on_from_two_with_the_same_samples(tmp_path: Path) -> None:
    train_together(tmp_path / "run", torch.float64, epochs=2, checkpoint_seconds=0)
    whole = train_alone(tmp_path / "whole", torch.float64)
    store = Store(str(tmp_path / "run"))
    *_, last = store.names("checkpoints/d")
    assert last == "step-000000024.pt"
    resumed = train_alone(tmp_path / "run", torch.float64)
    (there,), (all_of_them,) = asked(tmp_path / "run", 1), asked(tmp_path / "whole", 1)
    assert there == all_of_them[24 * BATCH :]
    for name, value in whole.weights.items():
        torch.testing.assert_close(value, resumed.weights[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("batch", "count", "accumulate"), [(8, 3, 1), (8, 8, 1), (8, 4, 2), (12, 2, 4)])
def test_a_batch_that_cannot_be_shared_is_refused(batch: int, count: int, accumulate: int) -> None:
    with pytest.raises(UserError, match=rf"^batch: {batch} cannot be shared by {count} processes in parts of 2"):
        Ranks(count=count).share(batch, accumulate=accumulate)
