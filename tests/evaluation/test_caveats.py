"""What is said beside a figure: tasks at chance, long warm-ups, thin validation, metadata that does as well."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.evaluation.caveats import FEW_GROUPS, FEW_SEGMENTS, metadata_caveat, training_caveats
from rushes.store import Manifest


def trained(summary: Mapping[str, Any], *, warmup: int = 0) -> Manifest:
    return Manifest(
        kind="backbone",
        step="pretrain",
        digest="d",
        inputs={},
        config={"optimizer": {"warmup_steps": warmup}},
        code="",
        files={},
        summary=summary,
    )


def history(epochs: int, steps: int = 10) -> list[dict[str, float]]:
    return [{"epoch": n + 1, "step": steps * (n + 1)} for n in range(epochs)]


GOOD = {
    "chance": 0.25,
    "accuracy": 0.9,
    "val_accuracy": 0.8,
    "tuples": 640,
    "held_out": {"clips": 64, "segments": 20, "groups": 8},
}


def kinds(summary: Mapping[str, Any], *, epochs: int = 5, warmup: int = 0) -> set[str]:
    return set(training_caveats(trained(summary, warmup=warmup), history(epochs)))


def test_a_training_without_a_lack_has_no_caveat() -> None:
    assert kinds(GOOD) == set()
    assert kinds({"accuracy": 0.1}, warmup=49) == set()
    assert training_caveats(trained({"task": "none"}), []) == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"val_accuracy": 0.26}, {"task at chance"}),
        ({"val_accuracy": 0.34}, {"task at chance"}),  # within the noise of 64 tuples
        ({"val_accuracy": 0.37}, set()),
        ({"val_accuracy": 0.1}, {"task at chance"}),
        ({"val_accuracy": 0.31, "held_out": {"clips": 6400, "segments": 50, "groups": 9}}, {"task at chance"}),
        ({"val_accuracy": 0.77, "chance": 0.75}, {"task at chance"}),
        ({"held_out": {"clips": 64, "segments": 5, "groups": 1}}, {"choice of epoch"}),
        ({"held_out": {"clips": 64, "segments": FEW_SEGMENTS, "groups": FEW_GROUPS}}, set()),
        ({"held_out": {"clips": 64, "segments": FEW_SEGMENTS - 1, "groups": FEW_GROUPS}}, {"choice of epoch"}),
        ({"held_out": {"clips": 64, "segments": 100, "groups": FEW_GROUPS - 1}}, {"choice of epoch"}),
    ],
)
def test_each_lack_is_named(changed: dict[str, Any], expected: set[str]) -> None:
    assert kinds(GOOD | changed) == expected


def test_without_validation_the_training_tuples_count_and_no_epoch_is_chosen() -> None:
    alone = {"chance": 0.25, "accuracy": 0.27, "tuples": 640}
    assert kinds(alone) == {"task at chance"}
    thin = GOOD | {"held_out": {"clips": 64, "segments": 1, "groups": 1}}
    assert kinds(thin, epochs=1) == set()


@given(st.integers(1, 9), st.integers(0, 200))
def test_a_warm_up_as_long_as_the_run_is_named(epochs: int, warmup: int) -> None:
    found = training_caveats(trained(GOOD, warmup=warmup), history(epochs))
    assert ("warm-up" in found) == (warmup >= 10 * epochs)
    if found:
        assert f"{warmup} steps" in found["warm-up"] and f"({10 * epochs})" in found["warm-up"]


def test_the_sentences_say_the_figures() -> None:
    found = training_caveats(
        trained(GOOD | {"val_accuracy": 0.26, "held_out": {"clips": 64, "segments": 1, "groups": 1}}), history(3)
    )
    assert "26.0 % of the tuples right, guessing gives 25.0 %" in found["task at chance"]
    assert "chosen on 1 segment of 1 group," in found["choice of epoch"]


@pytest.mark.parametrize(
    ("value", "low", "close"),
    [
        (0.1, 0.02, False),
        (0.1, 0.0, True),
        (0.3, -0.1, True),
        (-0.2, -0.3, True),
        (0.2, None, False),
        (0.03, None, True),
    ],
)
def test_metadata_that_is_close_or_above_is_said(value: float, low: float | None, close: bool) -> None:
    text = metadata_caveat({"value": 0.5}, difference={"value": value, "low": low})
    assert bool(text) == close
    if close:
        assert "right on 50.0 %" in text and f"the model on {100 * (0.5 + value):.1f} %" in text
