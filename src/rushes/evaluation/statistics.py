"""Intervals and paired comparisons over groups of videos: small pure functions.

Videos of one group (one shoot, one source) resemble each other, so the group is the unit that is resampled. Below
`MIN_GROUPS` groups a percentile bootstrap covers too little (facts: registry-and-data.md) and there is no interval.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_GROUPS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and what it may be: both bounds None where there are too few groups to say."""

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


def _resampled_means(values: Floats, groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> tuple[Floats, int]:
    names, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member)
    picks = np.random.default_rng([seed, 4]).integers(len(names), size=(resamples, len(names)))
    return sums[picks].sum(axis=1) / sizes[picks].sum(axis=1), len(names)
