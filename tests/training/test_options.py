"""Precision, accumulation, early end, a frozen backbone, compilation: each does what its field says."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from rushes.config import FinetuneConfig, Optimizer, PretrainConfig, TrainingConfig
from rushes.errors import UserError
from rushes.store import Store
from rushes.training.checkpoints import Checkpoints
from rushes.training.loop import TrainingResult, fit
from rushes.training.networks import Classifier
from rushes.training.precision import Precision, autocast, computes_bf16, pick_precision
from tests.training.test_loop import Fixed, Interrupting, Line, StopError, assert_same, one_thread, run, stop

__all__ = ["one_thread"]
CPU = torch.device("cpu")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def train(
    net: nn.Module, data: Any, validation: Any = None, folder: Path | None = None, **changes: Any
) -> TrainingResult:
    settings: dict[str, Any] = {"epochs": 3, "batch": 4, "optimizer": Optimizer(lr=0.1), "device": "cpu", "workers": 0}
    return fit(
        net,
        F.cross_entropy,
        data=data,
        validation=validation,
        plan=TrainingConfig(**settings | changes),
        seed=0,
        checkpoints=Checkpoints(Store(str(folder)), "d") if folder else None,
        label="x",
    )


# Precision -----------------------------------------------------------------------------------------------------------


def test_auto_is_bf16_where_the_processor_has_instructions_for_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert computes_bf16(CPU) == bool({"amx_bf16", "avx512_bf16"} & set(flags))
    assert pick_precision("auto", CPU) == ("bf16" if computes_bf16(CPU) else "fp32")
    assert (pick_precision("bf16", CPU), pick_precision("fp32", CPU)) == ("bf16", "fp32")


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(tmp_path: Path) -> None:
    seen = set()

    class Layer(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            seen.add((output.dtype, self.weight.dtype))
            return output

    data = Fixed(torch.randn(8, 4), [0, 1] * 4)
    outcome = train(Layer(4, 2), data, data, precision="bf16")
    assert seen == {(torch.bfloat16, torch.float32)}
    assert outcome.precision == "bf16"
    assert {value.dtype for value in outcome.weights.values()} == {torch.float32}


def test_a_run_in_bf16_learns_about_the_same_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, exact = run(tmp_path / "whole", precision="bf16"), run(tmp_path / "exact")
    first, other = whole.history[0]["loss"], exact.history[0]["loss"]  # later ones of so small a run are chaotic
    assert first != other and first == pytest.approx(other, rel=0.15)
    with pytest.raises(StopError):
        run(tmp_path / "cut", precision="bf16", progress=Interrupting(7, stop))
    assert_same(run(tmp_path / "cut", precision="bf16"), whole)


@given(
    frames=st.integers(1, 9),
    side=st.integers(2, 5),
    kernel=st.sampled_from([(3, 3, 3), (3, 1, 1), (5, 1, 1), (7, 1, 1), (5, 3, 3), (1, 3, 3)]),
    stride=st.sampled_from([1, 2, (1, 2, 2)]),
)
@example(frames=2, side=3, kernel=(3, 3, 3), stride=1)
def test_convolutions_of_short_clips_have_the_gradients_of_fp32(
    frames: int, side: int, kernel: tuple[int, int, int], stride: Any
) -> None:
    """By torch alone, weights under clips that are shorter than the kernel get what lay in memory."""
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layer = nn.Conv3d(8, 16, kernel, stride=stride, padding=padding)
    clips, found = torch.randn(2, 8, frames, side, side, requires_grad=True), {}
    for precision in PRECISIONS:
        unwritten = [torch.full((2**size,), math.nan) for size in (8, 12, 16, 18)]
        del unwritten
        layer.zero_grad()
        clips.grad = None
        with autocast(precision, CPU):
            output = layer(clips)
        output.backward(1 + torch.sin(torch.arange(output.numel())).view(output.shape).to(output.dtype) / 2)
        gradients = [tensor.grad for tensor in (*layer.parameters(), clips)]
        found[precision] = [output.detach().float(), *(g.float().clone() for g in gradients if g is not None)]
    for one, other in zip(found["fp32"], found["bf16"], strict=True):
        assert float((one - other).norm() / one.norm()) < 0.02


# Accumulation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_steps_of_the_whole_batch(parts: int) -> None:
    torch.manual_seed(0)
    data = Fixed(torch.randn(16, 6, dtype=torch.float64), [0, 1, 2, 0] * 4)
    results = []
    for accumulate in (1, parts):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        results.append(train(net, data, batch=8, accumulate=accumulate))
    one, other = results
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=1e-12, atol=1e-12)
    assert one.history[-1]["loss"] == pytest.approx(other.history[-1]["loss"], rel=1e-6)
    assert one.history[-1]["accuracy"] == pytest.approx(other.history[-1]["accuracy"])


@pytest.mark.parametrize(("batch", "parts"), [(8, 3), (8, 8), (2, 2), (9, 6)])
def test_parts_that_are_uneven_or_of_one_sample_are_refused(batch: int, parts: int) -> None:
    with pytest.raises(UserError, match=rf"^pretrain.accumulate: {parts} is not allowed; a divisor of batch {batch}"):
        PretrainConfig(batch=batch, accumulate=parts)


# Early end -----------------------------------------------------------------------------------------------------------


def worse(folder: Path, **changes: Any) -> TrainingResult:
    """Validated on swapped answers, every epoch is worse than the first."""
    data = Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0])
    swapped = Fixed(torch.tensor([1.0, -1.0, 3.0]), [0, 1, 0])
    return train(Line(), data, swapped, folder, batch=2, **{"epochs": 9} | changes)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_after_so_many_epochs_without_a_better_one(tmp_path: Path, patience: int) -> None:
    ended = worse(tmp_path, patience=patience)
    assert (ended.best_epoch, len(ended.history)) == (1, 1 + patience)
    assert len(worse(tmp_path / "other").history) == 9
    assert_same(ended, worse(tmp_path, patience=patience, checkpoint_seconds=0))


def test_a_run_whose_patience_is_over_does_no_further_step(tmp_path: Path) -> None:
    first = worse(tmp_path, patience=2, checkpoint_seconds=0)
    state = Checkpoints(Store(str(tmp_path)), "d").load()
    assert state is not None and state["step"] == 2 * len(first.history)
    assert_same(worse(tmp_path, patience=2), first)


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(UserError, match=r"^patience: 2 needs validation"):
        train(Line(), Fixed(torch.tensor([1.0, -1.0, 2.0, -2.0]), [1, 0, 1, 0]), patience=2)


# A frozen backbone ---------------------------------------------------------------------------------------------------


def test_a_frozen_backbone_keeps_every_bit_and_the_head_learns() -> None:
    torch.manual_seed(0)
    net = Classifier(backbone="tiny_r3d", classes=2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.freeze_backbone()
    data = Fixed(torch.randint(0, 256, (8, 4, 24, 16), dtype=torch.uint8), [0, 1] * 4)
    outcome = train(net, data, data)
    for name, value in outcome.weights.items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name
    assert FinetuneConfig(freeze="backbone").freeze == "backbone"


# Compilation ---------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_a_compiled_network_learns_the_same_and_keeps_its_names(tmp_path: Path) -> None:
    plain, compiled = run(tmp_path / "plain"), run(tmp_path / "compiled", compile=True)
    assert plain.weights.keys() == compiled.weights.keys()
    assert compiled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=0.15)
