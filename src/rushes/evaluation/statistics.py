"""Intervals and paired comparisons over groups of videos: small pure functions.

Videos of one group (one shoot, one source) resemble each other, so the group is the unit that is resampled. Below
`MIN_GROUPS` groups a percentile bootstrap covers too little, and there is no interval
(docs/methods.md#intervals-over-groups).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_GROUPS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval; both bounds are None with too few groups."""

    value: float
    low: float | None
    high: float | None
    groups: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{100 * self.value:.1f} % ({self.groups} groups: too few for an interval)"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def group_interval(
    values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int, confidence: float = 0.95
) -> Interval:
    """Two-sided percentile interval of the mean of `values` [n], resampling whole groups [n]."""
    means, count = _resampled_means(values, groups, resamples=resamples, seed=seed)
    value = float(np.mean(values))
    if count < MIN_GROUPS:
        return Interval(value=value, low=None, high=None, groups=count)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value=value, low=float(low), high=float(high), groups=count)


def lower_bound(values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int, confidence: float) -> float:
    """One-sided lower bound of the mean of `values` [n], resampling whole groups [n]."""
    means, _ = _resampled_means(values, groups, resamples=resamples, seed=seed)
    return float(np.percentile(means, 100 * (1 - confidence)))


def mcnemar_exact(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Two-sided exact p-value that two classifiers, right or wrong on the same videos [n], are equally good."""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def sign_flip_p(differences: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> float:
    """Two-sided p-value that the mean of paired `differences` [n] is 0, by swapping the pair in whole groups [n].

    Exact for any number of groups if the two of a pair are exchangeable without an effect; a bootstrap's p-value is too
    small with few groups. The smallest possible one is 2 / 2^groups.
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=differences)
    signs = np.random.default_rng([seed, 6]).choice([-1.0, 1.0], size=(resamples, len(sums)))
    # Equal sums that were added in another order differ in the last bits.
    as_large = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + as_large.sum()) / (1 + resamples))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the given order: they bound the family-wise error rate."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def labels_needed(numbers: Floats, accuracies: Floats, target: Floats) -> Floats:
    """The number of labels at which accuracy first reaches a target, by linear interpolation.

    Args:
        numbers: [k] labels, ascending.
        accuracies: [k, ...] at these numbers.
        target: [...] accuracies to reach.

    Returns:
        [...] numbers of labels: the first if it is enough already, infinite if the last is not.
    """
    needed = np.full(target.shape, np.inf)
    for n in reversed(range(1, len(numbers))):
        low, high = accuracies[n - 1], accuracies[n]
        share = np.clip((target - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        needed = np.where(high >= target, numbers[n - 1] + share * (numbers[n] - numbers[n - 1]), needed)
    return np.where(accuracies[0] >= target, numbers[0], needed)


def resampled_means(values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> Floats:
    """Means of the columns of `values` [n, k], resampling the same whole groups [n] for each: [resamples, k]."""
    return np.stack(
        [_resampled_means(column, groups, resamples=resamples, seed=seed)[0] for column in values.T], axis=1
    )


def _resampled_means(values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> tuple[Floats, int]:
    names, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member)
    picks = np.random.default_rng([seed, 4]).integers(len(names), size=(resamples, len(names)))
    return sums[picks].sum(axis=1) / sizes[picks].sum(axis=1), len(names)
