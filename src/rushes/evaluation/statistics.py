"""Intervals and paired comparisons over groups of videos: small pure functions.

Videos of one group (one shoot, one source) resemble each other, so the group is the unit that evidence is counted in.
`share_interval` is for accuracy, recall and agreement, `difference_interval` and `paired_p` are for two classifiers on
the same videos. Below `MIN_GROUPS` groups no interval is given (docs/methods.md#intervals-over-groups).

Method: the variance of the mean is estimated by leaving out one group at a time, which gives the design effect and from
it the effective number of videos (Rao and Scott, Biometrics 48, 1992; Korn and Graubard, Survey Methodology 24, 1998).
With that number and quantiles of t, a share gets the interval of Wilson (JASA 22, 1927), a difference of paired shares
that of Tango (Statistics in Medicine 17, 1998). A variance that is seen in few groups is uncertain: it is averaged with
the largest possible one, in which all videos of a group are alike (`_effective_videos`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_GROUPS = 10

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_] | npt.NDArray[np.int64]
_CAUTION_SHARE, _CAUTION_DIFFERENCE = 1.0, 0.5
"""Number of groups for which the largest possible variance counts, chosen by simulation: without it intervals of shares
beyond .95 cover .83 where few groups have all the errors (tests/evaluation/test_statistics_simulated.py)."""
_HALVINGS = 50


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


# Shares --------------------------------------------------------------------------------------------------------------


def share_interval(values: Floats, groups: Names, *, confidence: float = 0.95) -> Interval:
    """Two-sided interval of the mean of `values` [n], each from 0 to 1, in `groups` [n].

    Wilson's, with the effective number of videos and a quantile of t.
    """
    found = _clustered(values, groups)
    if found.groups < MIN_GROUPS:
        return Interval(value=found.mean, low=None, high=None, groups=found.groups)
    t = _t_quantile(found, 1 - (1 - confidence) / 2)
    low, high = _wilson(found.mean, t**2 / _effective_share(found))
    return Interval(value=found.mean, low=low, high=high, groups=found.groups)


def share_above_p(right: npt.NDArray[np.bool_], groups: Names, *, share: float) -> float:
    """One-sided p-value that a classifier, right or wrong on videos [n], is right on no more than `share` of all.

    The larger one of the score test with the effective number of videos and t, and of the exact binomial test, which is
    the right one where no two videos are of one group. It holds for any number of groups.
    """
    from scipy.special import stdtr
    from scipy.stats import binomtest

    found = _clustered(right.astype(np.float64), groups)
    exact = float(binomtest(int(right.sum()), len(right), share, alternative="greater").pvalue)
    if found.groups < 2 or not 0 < share < 1:
        return 1.0 if found.groups < 2 else exact
    score = (found.mean - share) / math.sqrt(share * (1 - share) / _effective_share(found))
    return max(exact, 1 - float(stdtr(_freedom(found), score)))


def _wilson(share: float, ratio: float) -> tuple[float, float]:
    """Bounds for an observed share; `ratio` is the squared quantile over the number of videos."""
    centre = share + ratio / 2
    reach = math.sqrt(ratio * share * (1 - share) + ratio**2 / 4)
    low, high = (centre - reach) / (1 + ratio), (centre + reach) / (1 + ratio)
    return max(min(low, share), 0.0), min(max(high, share), 1.0)  # rounding


# Paired differences --------------------------------------------------------------------------------------------------


def difference_interval(differences: Floats, groups: Names, *, confidence: float = 0.95) -> Interval:
    """Two-sided interval of the mean of paired `differences` [n], each from -1 to 1, in `groups` [n].

    Tango's score interval, with the effective number of pairs and a quantile of t. It has a width also where the two
    never differ.
    """
    found = _clustered(differences, groups)
    if found.groups < MIN_GROUPS:
        return Interval(value=found.mean, low=None, high=None, groups=found.groups)
    tail = (1 - confidence) / 2
    low, high = _lower(found, tail=tail), -_lower(found.negative(), tail=tail)
    return Interval(value=found.mean, low=low, high=high, groups=found.groups)


def difference_lower_bound(differences: Floats, groups: Names, *, confidence: float) -> float:
    """One-sided lower bound of the mean of paired `differences` [n], each from -1 to 1; -1 with one group."""
    found = _clustered(differences, groups)
    return _lower(found, tail=1 - confidence) if found.groups > 1 else -1.0


def paired_p(differences: Floats, groups: Names, *, resamples: int, seed: int) -> float:
    """Two-sided p-value that the mean of paired `differences` [n], each from -1 to 1, is 0.

    The larger one of `sign_flip_p`, which is exact if the two are exchangeable, and of the test that belongs to
    `difference_interval`, which also holds where they are equally good but vary differently between groups. So p is
    below .05 only where the 95 % interval does not hold 0. It holds for any number of groups.
    """
    from scipy.special import stdtr

    found = _clustered(differences, groups)
    if found.groups < 2 or not found.square:
        return 1.0
    score = abs(found.mean) / math.sqrt(_variance_at(0.0, found) / _effective_pairs(found))
    by_score = 2 * (1 - float(stdtr(_freedom(found), score)))
    return max(by_score, sign_flip_p(differences, groups, resamples=resamples, seed=seed))


def design_effect(differences: Floats, groups: Names) -> float:
    """By how much groups [n] widen the variance of the mean of paired `differences` [n]; at least 1."""
    found = _clustered(differences, groups)
    return found.videos / _effective_pairs(found)


def sign_flip_p(differences: Floats, groups: Names, *, resamples: int, seed: int) -> float:
    """Two-sided p-value that the mean of paired `differences` [n] is 0, by swapping the pair in whole groups [n].

    Exact for any number of groups if the two of a pair are exchangeable without an effect. The smallest possible one is
    2 / 2^groups.
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=differences)
    signs = np.random.default_rng([seed, 6]).choice([-1.0, 1.0], size=(resamples, len(sums)))
    # Equal sums that were added in another order differ in the last bits.
    as_large = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + as_large.sum()) / (1 + resamples))


def _lower(found: "_Clustered", *, tail: float) -> float:
    """The smallest difference that the score test does not reject, by halving."""
    ratio = _t_quantile(found, 1 - tail) ** 2 / _effective_pairs(found)
    low, high = -1.0, found.mean
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (found.mean - middle) ** 2 > ratio * _variance_at(middle, found):
            low = middle
        else:
            high = middle
    return low


def _variance_at(difference: float, found: "_Clustered") -> float:
    """Variance of one pair's difference if the mean were `difference`: of the likeliest shares then (Tango 1998)."""
    first, second = (found.square + found.mean) / 2, (found.square - found.mean) / 2
    b = -first - second + (2 - first + second) * difference
    root = math.sqrt(max(b * b + 8 * second * difference * (1 - difference), 0.0))
    return max((root - b) / 2 + difference * (1 - difference), 0.0)


# Many p-values, and labels needed ------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the given order: they bound the family-wise error rate."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def labels_needed(numbers: Floats, accuracies: Floats, target: float) -> float:
    """The number of labels at which accuracy first reaches a target, by linear interpolation.

    Args:
        numbers: [k] labels, ascending.
        accuracies: [k] at these numbers.
        target: accuracy to reach.

    Returns:
        The first number if it is enough already, infinite if the last is not.
    """
    if accuracies[0] >= target:
        return float(numbers[0])
    for n in range(1, len(numbers)):
        low, high = accuracies[n - 1], accuracies[n]
        if high >= target:
            return float(numbers[n - 1] + (target - low) / (high - low) * (numbers[n] - numbers[n - 1]))
    return math.inf


def labels_needed_bounds(
    numbers: Floats, right: Floats, target: Floats, groups: Names, *, steps: int = 100
) -> tuple[float, float]:
    """95 % bounds of `labels_needed`: the numbers of labels at which the two do not differ significantly.

    Args:
        numbers: [k] labels, ascending.
        right: [n, k] whether each video is answered rightly with these numbers.
        target: [n] the same for the classifier whose accuracy is to be reached.
        groups: [n].
        steps: numbers tried between two of `numbers`.

    Returns:
        The last number below which accuracy is significantly lower than the target, and the first at which it is
        significantly higher; infinite where there is none.
    """
    member = np.unique(groups, return_inverse=True)[1]
    low, reached = float(numbers[0]), False
    for n in range(max(len(numbers) - 1, 1)):
        last = min(n + 1, len(numbers) - 1)
        for share in np.linspace(0, 1, steps + 1):
            at = float(numbers[n] + share * (numbers[last] - numbers[n]))
            found = _clustered((1 - share) * right[:, n] + share * right[:, last] - target, member)
            reached = reached or -_lower(found.negative(), tail=0.025) >= 0
            if _lower(found, tail=0.025) > 0:
                return low, at
            low = low if reached else at
    return (low if reached else math.inf), math.inf


# Groups --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Clustered:
    """What the methods need to know about values in groups."""

    mean: float
    square: float
    """Mean of the squared values."""
    variance: float
    """Of the mean, by leaving out one group at a time."""
    videos: int
    groups: int
    alike: float
    """Effective number of groups: as many of equal size would have the same variance, were all videos of one alike."""
    ones: float
    """Effective number of groups with values other than 0, by the squares of their values."""
    zeros: float
    """The same for values other than 1, of values from 0 to 1."""

    def negative(self) -> "_Clustered":
        """The same for the negative values."""
        return _Clustered(**vars(self) | {"mean": -self.mean})


def _clustered(values: Floats, groups: Names) -> _Clustered:
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member).astype(np.float64)
    sums, squares = (np.bincount(member, weights=each).astype(np.float64) for each in (values, values**2))
    videos, count = len(values), len(sizes)
    mean = float(values.mean())
    rest = np.maximum(videos - sizes, 1.0)
    variance = float((count - 1) / count * (((sums - mean * sizes) / rest) ** 2).sum())
    return _Clustered(
        mean=mean,
        square=float(squares.sum() / videos),
        variance=variance,
        videos=videos,
        groups=count,
        alike=_effective_number(sizes),
        ones=_effective_number(squares),
        zeros=_effective_number(sizes - sums),
    )


def _effective_number(amounts: Floats) -> float:
    """How many equal amounts vary as little as these [k]: (sum)^2 over the sum of squares, 0 if all are 0."""
    squares = float((amounts**2).sum())
    return float(amounts.sum()) ** 2 / squares if squares else 0.0


def _effective_videos(found: _Clustered, *, single: float, informative: float, caution: float) -> float:
    """The number of videos, each its own group, whose mean is as uncertain as this one.

    Args:
        found: the values.
        single: variance of one value.
        informative: effective number of groups from which the variance is known.
        caution: for how many groups the largest possible variance counts beside them.
    """
    largest = found.videos / found.alike
    if single <= 1e-12:
        return found.alike
    effect = max(found.variance * found.videos / single, 1.0)
    return found.videos * (informative + caution) / (informative * effect + caution * largest)


def _effective_share(found: _Clustered) -> float:
    """For values from 0 to 1: known from the groups in which the rarer outcome occurs."""
    return _effective_videos(
        found,
        single=found.mean * (1 - found.mean),
        informative=min(found.ones, found.zeros),
        caution=_CAUTION_SHARE,
    )


def _effective_pairs(found: _Clustered) -> float:
    """For differences: known from the groups in which the two of a pair differ."""
    single = found.square - found.mean**2
    return _effective_videos(found, single=single, informative=found.ones, caution=_CAUTION_DIFFERENCE)


def _freedom(found: _Clustered) -> float:
    """Degrees of freedom of the variance."""
    return max(found.alike - 1, 1.0)


def _t_quantile(found: _Clustered, share: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(_freedom(found), share))
