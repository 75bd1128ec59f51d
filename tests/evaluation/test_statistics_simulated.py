"""How often intervals hold the truth and p-values err, where the videos of a group resemble each other.

Simulated: 10 to 100 groups of 1 to 50 videos, equal and unequal; accuracies from .6 to .98; answers within a group
correlated by .1 and .3. An interval must cover in 92 % of trials, a p-value below .05 may be wrong in 6.5 %.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.stats import binomtest

from rushes.evaluation.statistics import (
    MIN_GROUPS,
    Interval,
    difference_interval,
    difference_lower_bound,
    paired_p,
    share_above_p,
    share_interval,
    sign_flip_p,
)
from tests.evaluation.simulated import HOWS, SIZES, Case, Floats, How, Integers

COVERED, WRONG = 0.92, 0.065
SHARES, ICCS = (0.6, 0.8, 0.9, 0.95, 0.98), (0.1, 0.3)
HARD = [
    Case(groups=10, sizes=3, share=0.95, icc=0.1),
    Case(groups=10, sizes=50, share=0.95, icc=0.3),
    Case(groups=20, sizes=50, share=0.98, icc=0.3),
    Case(groups=40, sizes="1 to 50", share=0.98, icc=0.3),
    Case(groups=10, sizes="two large", share=0.8, icc=0.3),
    Case(groups=20, sizes=1, share=0.98, icc=0.1),
    Case(groups=40, sizes=10, share=0.6, icc=0.1),
]
"""Those in which simpler methods fail, and an easy one."""
FEW, MANY = 300, 2000
"""Trials of a case."""


def every_case(groups: tuple[int, ...], shares: tuple[float, ...] = SHARES) -> Iterator[Case]:
    for count, sizes, share, icc in itertools.product(groups, SIZES, shares, ICCS):
        yield Case(groups=count, sizes=sizes, share=share, icc=icc)


def at_least(share: float, trials: int) -> float:
    """What a simulation with so many trials finds at least, but for 1 in 1,000, if `share` is the truth."""
    return share - 3.1 * math.sqrt(share * (1 - share) / trials)


def at_most(share: float, trials: int) -> float:
    return 1 - at_least(1 - share, trials)


def holds(interval: Interval, truth: float) -> bool:
    """Whether it holds the truth, up to rounding."""
    assert interval.low is not None and interval.high is not None
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


# Shares: accuracy, recall, agreement ---------------------------------------------------------------------------------


def coverage(case: Case, trials: int) -> float:
    rng = np.random.default_rng(3)
    return float(np.mean([holds(share_interval(*case.answers(rng)), case.share) for _ in range(trials)]))


@pytest.mark.parametrize("case", HARD, ids=str)
def test_an_interval_of_a_share_holds_the_truth(case: Case) -> None:
    assert coverage(case, FEW) >= at_least(COVERED, FEW)


@pytest.mark.soak
@pytest.mark.parametrize("groups", [10, 20, 40, 100])
def test_an_interval_of_a_share_holds_the_truth_at_length(groups: int) -> None:
    found = {str(case): coverage(case, MANY) for case in every_case((groups,))}
    assert {name: share for name, share in found.items() if share < COVERED} == {}


def recalls(case: Case, trials: int) -> list[bool]:
    """Of a class that a quarter of the groups' videos have, unevenly; trials with too few groups are not counted."""
    rng = np.random.default_rng(5)
    held = []
    for _ in range(trials):
        right, member = case.answers(rng)
        mine = rng.random(len(right)) < rng.beta(0.5, 1.5, case.groups)[member]
        if len(set(member[mine])) < MIN_GROUPS:
            interval = share_interval(right[mine], member[mine]) if mine.any() else None
            assert interval is None or (interval.low, interval.high) == (None, None)
            continue
        held.append(holds(share_interval(right[mine], member[mine]), case.share))
    return held


def test_recall_of_a_class_in_some_groups_holds_the_truth_or_is_without_interval() -> None:
    for case in (Case(groups=20, sizes=10, share=0.9, icc=0.3), Case(groups=40, sizes="1 to 8", share=0.95, icc=0.1)):
        held = recalls(case, FEW)
        assert len(held) > FEW / 2
        assert np.mean(held) >= at_least(COVERED, len(held))


@pytest.mark.soak
def test_recall_at_length() -> None:
    for case in every_case((20, 40)):
        held = recalls(case, MANY)
        assert len(held) < 500 or np.mean(held) >= COVERED, str(case)


# Differences ---------------------------------------------------------------------------------------------------------

GAPS: tuple[tuple[How, float], ...] = (
    ("independent", 0.05),
    ("same groups", 0.2),
    ("mostly same answers", 0.1),
    ("mostly same answers", 0.02),
)


def differences(case: Case, how: How, gap: float, trials: int) -> tuple[float, float, float]:
    """How often the interval holds the gap, and how often a one-sided bound lies above it, and above its negative."""
    rng = np.random.default_rng(7)
    held = above = below = 0
    for _ in range(trials):
        first, second, member = case.pairs(rng, how=how, gap=gap)
        held += holds(difference_interval(first - second, member), gap)
        above += difference_lower_bound(first - second, member, confidence=0.95) > gap + 1e-9
        below += difference_lower_bound(second - first, member, confidence=0.95) > -gap + 1e-9
    return held / trials, above / trials, below / trials


@pytest.mark.parametrize("case", HARD, ids=str)
def test_an_interval_of_a_difference_holds_the_truth(case: Case) -> None:
    for how, gap in ((HOWS[0], 0.0), (HOWS[3], 0.0), *GAPS[::3]):
        held, above, below = differences(case, how, gap, FEW // 2)
        assert held >= at_least(COVERED, FEW // 2), how
        assert max(above, below) <= at_most(WRONG, FEW // 2), how


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("how", "gap"), [*((how, 0.0) for how in HOWS), *GAPS])
def test_an_interval_of_a_difference_holds_the_truth_at_length(how: How, gap: float) -> None:
    for case in every_case((10, 20, 40), shares=SHARES[::2]):
        held, above, below = differences(case, how, gap, MANY // 2)
        assert held >= COVERED, str(case)
        assert max(above, below) <= at_most(WRONG, MANY // 2), str(case)


def wrong_p(case: Case, how: How, other_icc: float, trials: int) -> float:
    """How often two equally good classifiers are called different at 5 %."""
    rng = np.random.default_rng(9)
    wrong = 0
    for _ in range(trials):
        first, second, member = case.pairs(rng, how=how, other_icc=other_icc)
        wrong += paired_p(first - second, member, resamples=400, seed=0) <= 0.05
    return wrong / trials


@pytest.mark.parametrize("case", HARD, ids=str)
def test_a_p_value_is_seldom_wrong(case: Case) -> None:
    assert wrong_p(case, "independent", case.icc, FEW) <= at_most(WRONG, FEW)
    assert wrong_p(case, "same groups", 0.4 - case.icc, FEW) <= at_most(WRONG, FEW)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("how", HOWS[:3])
def test_a_p_value_is_seldom_wrong_at_length(how: How) -> None:
    for case in every_case((6, 10, 20, 40), shares=SHARES[::2]):
        for other in ICCS:
            assert wrong_p(case, how, other, MANY // 2) <= at_most(WRONG, MANY // 2), f"{case}, {other}"


def test_a_p_value_below_5_percent_has_an_interval_without_0() -> None:
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(300):
        case = Case(groups=int(rng.integers(10, 41)), sizes="1 to 8", share=0.8, icc=0.3)
        first, second, member = case.pairs(rng, how="same groups", gap=0.1)
        interval = difference_interval(first - second, member)
        if paired_p(first - second, member, resamples=200, seed=0) < 0.05:
            below += 1
            assert not holds(interval, 0.0)
    assert below > 50


# Better than always answering the commonest class --------------------------------------------------------------------


def wrong_above(case: Case, trials: int) -> float:
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(trials):
        right, member = case.answers(rng)
        wrong += share_above_p(right > 0, member, share=case.share) <= 0.05
    return wrong / trials


CHANCES = (0.02, 0.125, 0.33, 0.6, 0.9, 0.98)


@pytest.mark.parametrize("share", CHANCES)
def test_guessing_is_seldom_above_chance(share: float) -> None:
    for groups, sizes, icc in ((3, 10, 0.3), (8, 1, 0.1), (10, 50, 0.3), (40, "1 to 50", 0.3)):
        case = Case(groups=groups, sizes=sizes, share=share, icc=icc)  # type: ignore[arg-type]  # a Literal
        assert wrong_above(case, FEW) <= at_most(WRONG, FEW), str(case)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_guessing_is_seldom_above_chance_at_length() -> None:
    for groups, sizes, share, icc in itertools.product((2, 3, 4, 6, 8, 10, 20, 40), SIZES, CHANCES, ICCS):
        case = Case(groups=groups, sizes=sizes, share=share, icc=icc)
        assert wrong_above(case, MANY // 2) <= at_most(WRONG, MANY // 2), str(case)


# What the simulation is for ------------------------------------------------------------------------------------------


def bootstrap(values: Floats, member: Integers, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of the mean by resampling groups."""
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    picks = rng.integers(len(sizes), size=(400, len(sizes)))
    low, high = np.percentile(sums[picks].sum(axis=1) / sizes[picks].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def test_a_bootstrap_over_groups_covers_too_little() -> None:
    case, rng, held = Case(groups=10, sizes=3, share=0.95, icc=0.1), np.random.default_rng(0), 0
    for _ in range(FEW):
        low, high = bootstrap(*case.answers(rng), rng)
        held += low <= case.share <= high
    assert held / FEW < 0.85


def mcnemar(first: Floats, second: Floats, member: Integers) -> float:
    only, other = int((first > second).sum()), int((second > first).sum())
    return float(binomtest(only, only + other, 0.5).pvalue) if only + other else 1.0


def flips(first: Floats, second: Floats, member: Integers) -> float:
    return sign_flip_p(first - second, member, resamples=400, seed=0)


@pytest.mark.parametrize(
    ("test", "case", "how", "other"),
    [
        (mcnemar, Case(groups=20, sizes=10, share=0.8, icc=0.3), "independent", 0.3),
        (flips, Case(groups=40, sizes=50, share=0.98, icc=0.1), "same groups", 0.3),
    ],
)
def test_other_p_values_err_too_often(
    test: Callable[[Floats, Floats, Integers], float], case: Case, how: How, other: float
) -> None:
    # McNemar's takes each video for an independent one; sign flips take the two for exchangeable.
    rng = np.random.default_rng(0)
    wrong = np.mean([test(*case.pairs(rng, how=how, other_icc=other)) <= 0.05 for _ in range(FEW)])
    assert wrong > at_most(WRONG, FEW)
