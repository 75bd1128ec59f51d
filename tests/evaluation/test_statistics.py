"""Intervals and paired tests: against brute force, against scipy's tables, and by simulation."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rushes.evaluation.statistics import (
    MIN_GROUPS,
    group_interval,
    holm,
    labels_needed,
    lower_bound,
    mcnemar_exact,
    resampled_means,
    sign_flip_p,
)

Floats = npt.NDArray[np.float64]


def numbered(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    return np.array([f"g{number:03d}" for number in groups])


def brute_force_means(values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> list[float]:
    """Draws groups one by one and puts their videos together."""
    names = sorted(set(groups.tolist()))
    picks = np.random.default_rng([seed, 4]).integers(len(names), size=(resamples, len(names)))
    return [float(np.concatenate([values[groups == names[n]] for n in pick]).mean()) for pick in picks]


def unequal_groups(count: int, *, seed: int = 0) -> tuple[Floats, npt.NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    groups = numbered(np.repeat(np.arange(count), rng.integers(1, 9, count)))
    return (rng.random(len(groups)) < 0.7).astype(np.float64), groups


def test_an_interval_is_the_bootstrap_over_groups() -> None:
    values, groups = unequal_groups(17)
    shuffled = np.random.default_rng(1).permutation(len(values))
    means = brute_force_means(values, groups, resamples=500, seed=3)
    found = group_interval(values[shuffled], groups[shuffled], resamples=500, seed=3)
    assert found.value == pytest.approx(values.mean())
    assert found.groups == 17
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert lower_bound(values, groups, resamples=500, seed=3, confidence=0.9) == pytest.approx(np.percentile(means, 10))


def test_too_few_groups_have_no_interval_however_many_videos() -> None:
    groups = numbered(np.arange(5000) % (MIN_GROUPS - 1))
    few = group_interval(np.ones(5000), groups, resamples=100, seed=0)
    assert (few.low, few.high, few.groups, few.value) == (None, None, MIN_GROUPS - 1, 1.0)
    assert str(few) == "100.0 % (9 groups: too few for an interval)"
    enough = group_interval(np.ones(5000), numbered(np.arange(5000) % MIN_GROUPS), resamples=100, seed=0)
    assert (enough.low, enough.high) == (1.0, 1.0)
    assert str(enough) == "100.0 % [100.0, 100.0]"


def test_an_interval_is_a_function_of_its_seed() -> None:
    values, groups = unequal_groups(30)
    one = group_interval(values, groups, resamples=200, seed=1)
    assert one == group_interval(values, groups, resamples=200, seed=1)
    assert one != group_interval(values, groups, resamples=200, seed=2)


@given(st.integers(10, 40), st.integers(0, 1000))
@settings(max_examples=30)
def test_bounds_lie_round_the_mean_and_widen_with_confidence(count: int, seed: int) -> None:
    values, groups = unequal_groups(count, seed=seed)
    narrow = group_interval(values, groups, resamples=300, seed=0, confidence=0.5)
    wide = group_interval(values, groups, resamples=300, seed=0, confidence=0.95)
    assert narrow.low is not None and narrow.high is not None and wide.low is not None and wide.high is not None
    assert 0 <= wide.low <= narrow.low <= narrow.high <= wide.high <= 1
    assert wide.low <= wide.value <= wide.high


def coverage(*, groups: int, trials: int, resamples: int) -> float:
    """How often the 95 % interval holds the truth; 5 videos a group, alike within it, accuracy 0.6 on average."""
    rng = np.random.default_rng(groups)
    held = 0
    names = numbered(np.repeat(np.arange(groups), 5))
    for _ in range(trials):
        level = np.repeat(rng.beta(3, 2, groups), 5)
        found = group_interval((rng.random(groups * 5) < level).astype(float), names, resamples=resamples, seed=0)
        assert found.low is not None and found.high is not None
        held += found.low <= 0.6 <= found.high
    return held / trials


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    assert 0.89 <= coverage(groups=40, trials=300, resamples=300) <= 0.985


@pytest.mark.soak
@pytest.mark.parametrize(("groups", "least"), [(20, 0.91), (40, 0.93), (100, 0.94)])
def test_coverage_at_length(groups: int, least: float) -> None:
    assert least - 0.01 <= coverage(groups=groups, trials=4000, resamples=1000) <= 0.97


def test_ignoring_groups_would_cover_too_seldom() -> None:
    # What the grouping is for: the same videos, each its own group, promise too much.
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        level = np.repeat(rng.beta(0.6, 0.4, 30), 20)
        values = (rng.random(600) < level).astype(float)
        found = group_interval(values, numbered(np.arange(600)), resamples=200, seed=0)
        assert found.low is not None and found.high is not None
        held += found.low <= 0.6 <= found.high
    assert held / 200 < 0.7


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    table = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    a, b = zip(*table, strict=True)
    return np.array(a), np.array(b)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (9, 2, 2 * (1 + 11 + 55) / 2**11),
        (25, 10, 2 * binom.cdf(10, 35, 0.5)),
    ],
)
def test_mcnemars_exact_p_of_known_tables(first: int, second: int, expected: float) -> None:
    for both, neither in ((0, 1), (40, 0), (3, 9)):
        assert mcnemar_exact(*outcomes(both, first, second, neither)) == pytest.approx(expected)


@given(st.integers(0, 25), st.integers(0, 25))
def test_mcnemar_is_the_sum_over_all_outcomes_as_unlikely(first: int, second: int) -> None:
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1)) / 2**n
    expected = 1.0 if first == second else min(1.0, 2 * tail)
    assert mcnemar_exact(*outcomes(2, first, second, 1)) == pytest.approx(expected)


def test_mcnemar_by_enumerating_every_sign() -> None:
    # 4 against 1 discordant videos: of 32 equally likely outcomes, those at least as lopsided.
    lopsided = sum(abs(sum(signs)) >= 3 for signs in itertools.product((-1, 1), repeat=5))
    assert mcnemar_exact(*outcomes(0, 4, 1, 0)) == pytest.approx(lopsided / 32)


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


def test_columns_are_resampled_together_each_as_by_itself() -> None:
    values, groups = unequal_groups(12)
    both = resampled_means(np.stack([values, 1 - values], axis=1), groups, resamples=50, seed=2)
    assert both[:, 0] == pytest.approx(brute_force_means(values, groups, resamples=50, seed=2))
    assert both.sum(axis=1) == pytest.approx(np.ones(50))


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
    found = labels_needed(np.array([1.0, 2.0, 10.0]), np.array(accuracies), np.array(target))
    assert float(found) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0, 1))
def test_labels_needed_is_the_first_crossing_of_the_line(accuracies: list[float], target: float) -> None:
    numbers = np.arange(1.0, len(accuracies) + 1)
    found = float(labels_needed(numbers, np.array(accuracies), np.array(target)))
    grid = np.linspace(1, len(accuracies), 4001)
    reached = grid[np.interp(grid, numbers, accuracies) >= target]
    if np.isinf(found):
        assert not len(reached)
    else:
        assert np.interp(found, numbers, accuracies) >= target - 1e-9
        assert not len(reached) or found <= reached[0] + 1e-9
