"""Budgets: FLOPs counted by hand, and lengths that spend them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.config import PretrainConfig
from rushes.errors import UserError
from rushes.training.budget import tuple_flops, within_budget

TINY = PretrainConfig(backbone="tiny_r3d", clip_frames=8, crop=48, batch=32, epochs=20)


def test_c3ds_forward_pass_is_the_published_one() -> None:
    # 38.5 G multiplications and additions a clip of 16 x 112 x 112 (fc layers aside): two FLOPs each, three passes,
    # but for the gradient at the input.
    first = 2 * 27 * 3 * 64 * 16 * 112 * 112
    config = PretrainConfig(backbone="c3d", clip_frames=16, crop=112)
    assert tuple_flops(config, elements=1) == pytest.approx(3 * 2 * 38.5e9 - first, rel=0.01)


def test_flops_are_those_of_all_elements() -> None:
    assert tuple_flops(TINY, elements=3) == 3 * tuple_flops(TINY, elements=1)
    assert tuple_flops(dataclasses.replace(TINY, clip_frames=16), elements=1) > tuple_flops(TINY, elements=1)


@given(steps=st.floats(1, 5000), elements=st.integers(1, 6))
def test_a_budget_is_spent_to_one_part_in_the_epochs(steps: float, elements: int) -> None:
    flops = steps * TINY.batch * tuple_flops(TINY, elements=elements)
    found = within_budget(TINY, flops=flops, elements=elements)
    assert found.epochs <= TINY.epochs
    assert found.samples_per_epoch % TINY.batch == 0
    spent = found.epochs * found.samples_per_epoch * tuple_flops(TINY, elements=elements)
    assert spent == pytest.approx(flops, rel=max(1 / TINY.epochs, 0.5 / steps))


def test_less_than_a_step_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"budget: 1e\+06 FLOPs are less than a step of tiny_r3d"):
        within_budget(TINY, flops=1e6, elements=3)
