"""Totals from draws: without bias on skewed collections, and as sure as they say."""

import math

import numpy as np
import pytest

from rushes.forecast.estimate import CONFIDENCE, Range, draw, error_of, how_many, total

TRIALS = 400


def archive(rng: np.random.Generator, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Sizes, a few of which are most of the whole, and values that they foretell badly."""
    sizes = rng.lognormal(0, 1.5, count)
    return sizes, sizes**0.8 * rng.lognormal(0, 0.5, count)


def estimates(count: int, power: float) -> tuple[float, list[Range]]:
    """With odds that are a power of the sizes."""
    sizes, values = archive(np.random.default_rng(3))
    odds, found = sizes**power, []
    for seed in range(TRIALS):
        drawn = draw(odds, count, seed=seed)
        found.append(total(values[drawn] / odds[drawn], sizes[drawn] / odds[drawn], whole=sizes.sum()))
    return float(values.sum()), found


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("count", [16, 60])
def test_the_mean_of_many_estimates_is_the_truth(count: int, power: float) -> None:
    truth, found = estimates(count, power)
    middles = np.array([one.middle for one in found])
    error = middles.std() / math.sqrt(TRIALS)
    bias = 0.0 if power == 1 else 0.5 / count  # a ratio of two sums of draws has one, of this order
    assert abs(middles.mean() / truth - 1) < 3 * error / truth + bias
    assert error / truth < 0.02, "else the line above says nothing"


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("count", [16, 60])
def test_the_range_holds_the_truth_as_often_as_it_says(count: int, power: float) -> None:
    truth, found = estimates(count, power)
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert held >= CONFIDENCE - 0.04
    widths = np.array([one.high / one.low for one in found])
    assert np.median(widths) < 3, "a range that holds everything says nothing"


def test_a_further_error_widens_the_range() -> None:
    values, sizes = np.array([1.0, 1.1, 0.9]), np.ones(3)
    narrow, wide = total(values, sizes, whole=10.0), total(values, sizes, whole=10.0, error=0.5)
    assert wide.low < narrow.low < narrow.middle == wide.middle < narrow.high < wide.high


def test_what_foretells_exactly_needs_no_range() -> None:
    sizes = np.array([1.0, 5.0, 2.0])
    exact = total(3 * sizes, sizes, whole=100.0)
    assert (exact.low, exact.middle, exact.high) == pytest.approx((300.0, 300.0, 300.0))
    assert total(np.zeros(3), sizes, whole=100.0) == Range(0.0, 0.0, 0.0)


def test_one_draw_is_hardly_an_estimate() -> None:
    one = total(np.array([2.0]), np.array([1.0]), whole=5.0)
    assert one.middle == 10.0 and one.high / one.low > 50


def test_draws_are_in_proportion_to_sizes_and_spread_over_the_order() -> None:
    sizes = np.array([1.0, 1.0, 6.0, 2.0])
    counts = np.bincount(np.concatenate([draw(sizes, 50, seed=seed) for seed in range(200)]), minlength=4)
    assert counts / counts.sum() == pytest.approx(sizes / sizes.sum(), abs=0.01)
    for seed in range(20):
        once = np.bincount(draw(sizes, 10, seed=seed), minlength=4)
        assert np.all(np.abs(once - sizes) <= 1), "every part of the order gets its share each time"
    again = [draw(sizes, 7, seed=seed).tolist() for seed in (1, 1, 2, 3, 4, 5)]
    assert again[0] == again[1] and any(again[0] != other for other in again[2:])


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_how_many_draws_come_to_a_budget(power: float) -> None:
    sizes = np.random.default_rng(0).lognormal(0, 1, 20_000)
    odds, budget = sizes**power, 0.01 * sizes.sum()
    count = how_many(sizes, odds, budget=budget)
    work = np.mean([sizes[draw(odds, count, seed=seed)].sum() for seed in range(50)])
    assert work == pytest.approx(budget, rel=0.1)


def test_a_budget_buys_most_by_the_root_of_the_size() -> None:
    """Where cost and error are both in proportion to the size."""
    rng = np.random.default_rng(5)
    sizes = rng.lognormal(0, 1.2, 20_000)
    values = sizes * rng.lognormal(0, 0.5, len(sizes))
    spread = {}
    for power in (0.0, 0.5, 1.0):
        odds = sizes**power
        count = how_many(sizes, odds, budget=0.01 * sizes.sum())
        drawn = [draw(odds, count, seed=seed) for seed in range(300)]
        middles = [total(values[d] / odds[d], sizes[d] / odds[d], whole=1.0).middle for d in drawn]
        spread[power] = float(np.std(middles))
    assert spread[0.5] < 0.9 * min(spread[0.0], spread[1.0]), spread


def test_the_errors_of_a_product_add_up_like_independent_ones() -> None:
    product = Range(1 / 2, 1.0, 2.0) * Range(1 / 2, 1.0, 2.0)
    assert (product.low, product.high) == pytest.approx((2 ** -math.sqrt(2), 2 ** math.sqrt(2)))
    assert Range(1.0, 2.0, 3.0) * 2.0 == Range(2.0, 4.0, 6.0)
    assert Range(1.0, 2.0, 3.0) + Range.exactly(1.0) == Range(2.0, 3.0, 4.0)
    assert Range.exactly(0.0) * Range(1.0, 2.0, 3.0) == Range(0.0, 0.0, 0.0)
    spread = Range(1.0, 1.0, 1.0).spread(1.0, 4.0)
    assert (spread.low, spread.middle, spread.high) == (1.0, 2.0, 4.0)


def test_the_error_shrinks_as_the_root_of_the_draws() -> None:
    ratios, ones = np.tile([0.5, 1.5], 200), np.ones(400)
    assert error_of(ratios[:100], ones[:100]) / error_of(ratios, ones) == pytest.approx(2, rel=0.03)
    assert error_of(3 * ratios, ratios) == pytest.approx(0), "sizes that foretell exactly"
