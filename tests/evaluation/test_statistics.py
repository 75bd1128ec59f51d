"""Intervals and p-values: against brute force, scipy's tables and formulas; see also `test_statistics_simulated`."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rushes.evaluation.statistics import (
    MIN_GROUPS,
    difference_interval,
    difference_lower_bound,
    holm,
    labels_needed,
    paired_p,
    share_above_p,
    share_interval,
    sign_flip_p,
)

Floats = npt.NDArray[np.float64]


def numbered(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    return np.array([f"g{number:03d}" for number in groups])


def unequal_groups(count: int, *, seed: int = 0) -> tuple[Floats, npt.NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    groups = numbered(np.repeat(np.arange(count), rng.integers(1, 9, count)))
    return (rng.random(len(groups)) < 0.7).astype(np.float64), groups


# Intervals -----------------------------------------------------------------------------------------------------------


def test_too_few_groups_have_no_interval_however_many_videos() -> None:
    groups = numbered(np.arange(5000) % (MIN_GROUPS - 1))
    for interval in (share_interval, difference_interval):
        few = interval(np.ones(5000), groups)
        assert (few.low, few.high, few.groups, few.value) == (None, None, MIN_GROUPS - 1, 1.0)
        assert str(few) == "100.0 % (9 groups: too few for an interval)"


def test_a_share_of_videos_that_are_each_a_group_has_wilsons_interval_with_a_quantile_of_t() -> None:
    found = share_interval((np.arange(40) < 28).astype(np.float64), numbered(np.arange(40)), confidence=0.9)
    assert found.low is not None and found.high is not None and found.low < 0.7 < found.high
    for bound in (found.low, found.high):
        # The variance by leaving one video out is 40/39 of p (1 - p) / 40.
        assert abs(0.7 - bound) / math.sqrt(bound * (1 - bound) / 40) == pytest.approx(stats.t.ppf(0.95, 39), rel=0.02)


def test_videos_of_a_group_that_are_all_alike_count_as_one() -> None:
    alone = share_interval((np.arange(20) < 14).astype(np.float64), numbered(np.arange(20)))
    copied = share_interval(
        np.repeat((np.arange(20) < 14).astype(np.float64), 30), numbered(np.repeat(np.arange(20), 30))
    )
    assert copied.low == pytest.approx(alone.low, abs=0.01) and copied.high == pytest.approx(alone.high, abs=0.01)


def test_right_everywhere_is_no_certainty() -> None:
    for count in (10, 40, 200):
        found = share_interval(np.ones(count * 7), numbered(np.arange(count * 7) % count))
        # As if each group were one video: n / (n + t^2).
        assert found.high == 1.0
        assert found.low == pytest.approx(count / (count + stats.t.ppf(0.975, count - 1) ** 2))
    same = difference_interval(np.zeros(200), numbered(np.arange(200) % 20))
    assert same.low is not None and same.high is not None
    assert -0.3 < same.low == -same.high < -0.1


def tango(first: int, second: int, pairs: int, bound: float) -> float:
    """The score of a difference: by maximising the likelihood on a grid, not by its formula."""
    shares = np.linspace(max(-bound, 0) + 1e-9, (1 - abs(bound)) / 2 + max(-bound, 0) - 1e-9, 200_001)
    chance = shares + bound  # of the first only
    likelihood = first * np.log(np.maximum(chance, 1e-300)) + second * np.log(shares)
    likelihood += (pairs - first - second) * np.log(np.maximum(1 - chance - shares, 1e-300))
    best = shares[int(likelihood.argmax())]
    return float(((first - second) / pairs - bound) / np.sqrt((2 * best + bound - bound**2) / pairs))


def test_a_difference_of_videos_that_are_each_a_group_has_tangos_interval_with_a_quantile_of_t() -> None:
    values = np.array([1.0] * 12 + [-1.0] * 4 + [0.0] * 24)
    found = difference_interval(values, numbered(np.arange(40)))
    assert found.value == 0.2 and found.low is not None and found.high is not None
    quantile = stats.t.ppf(0.975, 39)
    assert tango(12, 4, 40, found.low) == pytest.approx(quantile, rel=0.03)
    assert tango(12, 4, 40, found.high) == pytest.approx(-quantile, rel=0.03)


@given(st.integers(10, 40), st.integers(0, 1000))
@settings(max_examples=30)
def test_bounds_lie_round_the_mean_and_widen_with_confidence(count: int, seed: int) -> None:
    values, groups = unequal_groups(count, seed=seed)
    others = np.random.default_rng(seed + 1).permutation(values)
    order = np.random.default_rng(seed).permutation(len(values))
    for interval, data, least in ((share_interval, values, 0), (difference_interval, values - others, -1)):
        narrow, wide = interval(data, groups, confidence=0.5), interval(data, groups)
        assert narrow.low is not None and narrow.high is not None and wide.low is not None and wide.high is not None
        assert least <= wide.low < narrow.low <= wide.value <= narrow.high < wide.high <= 1
        shuffled = interval(data[order], groups[order])
        assert (shuffled.low, shuffled.high) == pytest.approx((wide.low, wide.high))
    mirrored = difference_interval(others - values, groups)
    assert mirrored.low is not None and mirrored.low == pytest.approx(-(wide.high or 0))
    one_sided = difference_lower_bound(values - others, groups, confidence=0.975)
    assert one_sided == pytest.approx(wide.low)


def test_one_group_shows_nothing() -> None:
    assert difference_lower_bound(np.ones(50), numbered(np.zeros(50, np.int64)), confidence=0.95) == -1.0
    assert paired_p(np.ones(50), numbered(np.zeros(50, np.int64)), resamples=100, seed=0) == 1.0
    assert share_above_p(np.ones(50, bool), numbered(np.zeros(50, np.int64)), share=0.25) == 1.0


def test_a_group_with_most_of_the_videos_counts_as_little_more_than_one() -> None:
    groups = numbered(np.concatenate([np.zeros(1000, np.int64), np.arange(1, 10)]))
    values = np.random.default_rng(0).random(1009) < 0.7
    found = share_interval(values.astype(np.float64), groups)
    assert found.low is not None and found.high is not None and found.high - found.low > 0.7


# p-values ------------------------------------------------------------------------------------------------------------


def test_above_a_share_is_the_exact_test_or_what_groups_leave_of_it() -> None:
    right = np.arange(60) < 30
    alone = share_above_p(right, numbered(np.arange(60)), share=0.4)
    exact = float(stats.binomtest(30, 60, 0.4, alternative="greater").pvalue)
    assert alone == pytest.approx(exact, rel=0.3) and alone >= exact
    grouped = share_above_p(right, numbered(np.arange(60) // 6), share=0.4)
    assert grouped > 3 * exact, "right in whole groups, wrong in others"
    assert share_above_p(np.ones(9, bool), numbered(np.arange(9)), share=1.0) == 1.0


def test_a_paired_p_value_is_no_smaller_than_that_of_sign_flips() -> None:
    for seed in range(20):
        values, groups = unequal_groups(15, seed=seed)
        difference = values - np.random.default_rng(seed).permutation(values)
        flips = sign_flip_p(difference, groups, resamples=500, seed=0)
        found = paired_p(difference, groups, resamples=500, seed=0)
        assert flips <= found <= 1
        assert paired_p(-difference, groups, resamples=500, seed=0) == found


def test_a_sign_flip_is_the_share_of_all_swaps_that_are_as_lopsided() -> None:
    groups = numbered(np.repeat(np.arange(8), [3, 1, 2, 5, 1, 1, 4, 2]))
    differences = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], size=len(groups), p=[0.1, 0.4, 0.5])
    sums = [differences[groups == name].sum() for name in sorted(set(groups))]
    swaps = [abs(np.dot(signs, sums)) >= abs(sum(sums)) - 1e-9 for signs in itertools.product((-1, 1), repeat=8)]
    found = sign_flip_p(differences, groups, resamples=20_000, seed=0)
    assert 0.02 < np.mean(swaps) < 0.5
    assert found == pytest.approx(np.mean(swaps), abs=0.012)
    assert sign_flip_p(-differences, groups, resamples=20_000, seed=0) == found


def test_no_difference_at_all_is_no_evidence() -> None:
    assert sign_flip_p(np.zeros(20), numbered(np.arange(20)), resamples=500, seed=0) == 1.0


def test_few_groups_can_show_little_however_many_videos() -> None:
    assert sign_flip_p(np.ones(400), numbered(np.arange(400) % 4), resamples=4000, seed=0) == pytest.approx(
        2 / 16, abs=0.02
    )


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the example of many textbooks
        ([0.5, 0.5, 0.001], [1.0, 1.0, 0.003]),
    ],
)
def test_holms_adjustment_by_hand(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, n in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
            if p_values[n] * (len(p_values) - rank) > level:
                break
            rejected.add(n)
        assert {n for n, p in enumerate(holm(p_values)) if p <= level} == rejected


def family_wise_error(*, trials: int, resamples: int, adjust: bool) -> float:
    """How often any of 6 comparisons without an effect, of systems right on like groups, is called one at 5 %."""
    rng = np.random.default_rng(1)
    groups = numbered(np.repeat(np.arange(15), 4))
    wrong = 0
    for _ in range(trials):
        level = np.repeat(rng.beta(3, 2, 15), 4)
        reference = (rng.random(60) < level).astype(float)
        p_values = [
            sign_flip_p((rng.random(60) < level) - reference, groups, resamples=resamples, seed=0) for _ in range(6)
        ]
        wrong += min(holm(p_values) if adjust else p_values) <= 0.05
    return wrong / trials


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    # 400 trials: 0.05 + 4 standard errors; without Holm far beyond it.
    assert family_wise_error(trials=400, resamples=400, adjust=True) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)
    assert family_wise_error(trials=100, resamples=400, adjust=False) > 0.1


@pytest.mark.soak
def test_family_wise_error_at_length() -> None:
    assert family_wise_error(trials=4000, resamples=1000, adjust=True) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize(
    ("accuracies", "target", "expected"),
    [
        ([0.2, 0.4, 0.8], 0.6, 6.0),  # half way from 2 to 10
        ([0.2, 0.4, 0.8], 0.4, 2.0),
        ([0.2, 0.4, 0.8], 0.8, 10.0),
        ([0.2, 0.4, 0.8], 0.81, np.inf),
        ([0.2, 0.4, 0.8], 0.1, 1.0),  # the first number is more than enough
        ([0.2, 0.6, 0.5], 0.4, 1.5),  # the first time, where accuracy falls again
        ([0.5, 0.3, 0.7], 0.5, 1.0),
        ([0.3, 0.3, 0.3], 0.3, 1.0),
    ],
)
def test_labels_needed_by_hand(accuracies: list[float], target: float, expected: float) -> None:
    assert labels_needed(np.array([1.0, 2.0, 10.0]), np.array(accuracies), target) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0, 1))
def test_labels_needed_is_the_first_crossing_of_the_line(accuracies: list[float], target: float) -> None:
    numbers = np.arange(1.0, len(accuracies) + 1)
    found = labels_needed(numbers, np.array(accuracies), target)
    grid = np.linspace(1, len(accuracies), 4001)
    reached = grid[np.interp(grid, numbers, accuracies) >= target]
    if np.isinf(found):
        assert not len(reached)
    else:
        assert np.interp(found, numbers, accuracies) >= target - 1e-9
        assert not len(reached) or found <= reached[0] + 1e-9
