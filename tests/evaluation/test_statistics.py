"""Intervals and paired tests: against brute force, against scipy's tables, and by simulation."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rushes.evaluation.statistics import MIN_GROUPS, group_interval, lower_bound, mcnemar_exact

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
