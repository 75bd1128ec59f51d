"""Totals of a large collection with confidence intervals, from random draws of it.

The size of every item is known and predicts, more or less well, a value that is measured for a few. The total is then
(sum of all sizes) * (sum of values / sum of sizes of the drawn items), each divided by the odds of its draw: the ratio
estimator. The better the size predicts the value, the narrower the interval; the total is unbiased in any case.

Source: W. G. Cochran, Sampling Techniques, 3rd edition (1977), chapters 5 (odds by cost), 6 (ratios), 8 (even steps).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Range:
    """A figure with its confidence interval."""

    low: float
    middle: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> "Range":
        """A figure that is known exactly."""
        return cls(value, value, value)

    def __mul__(self, factor: "float | Range") -> "Range":
        """Times a figure; the errors of two ranges are assumed independent, in the logarithm."""
        if not isinstance(factor, Range):
            return Range(self.low * factor, self.middle * factor, self.high * factor)
        middle = self.middle * factor.middle
        if not middle:
            return Range(0.0, 0.0, self.high * factor.high)
        down = math.hypot(_distance(self.middle, self.low), _distance(factor.middle, factor.low))
        up = math.hypot(_distance(self.high, self.middle), _distance(factor.high, factor.middle))
        return Range(middle * math.exp(-down), middle, middle * math.exp(up))

    def __add__(self, other: "Range") -> "Range":
        """Plus another; their errors are assumed equal, which gives the wider interval."""
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def spread(self, low: float, high: float) -> "Range":
        """The same with its ends moved, by an assumption that was not measured."""
        return Range(self.low * low, self.middle * math.sqrt(low * high), self.high * high)


def _distance(high: float, low: float) -> float:
    return math.log(high / low) if low > 0 else math.inf


def draw(odds: Doubles, count: int, *, seed: int) -> Integers:
    """Draws indices [count] in proportion to their odds [n], at even steps from a random start (systematic sampling).

    Neighbours are seldom drawn together, so that each kind gets its share if neighbours are alike. An item of large
    odds may be drawn several times.
    """
    ends = np.cumsum(odds)
    points = (np.arange(count) + np.random.default_rng([seed, 7]).random()) / count * ends[-1]
    indices: Integers = np.minimum(np.searchsorted(ends, points, side="right"), len(odds) - 1)
    return indices


def how_many(sizes: Doubles, odds: Doubles, *, budget: float) -> int:
    """Number of draws whose sizes add up to about the budget, of items with these sizes [n] and odds [n]."""
    return round(budget / (float(odds @ sizes) / float(odds.sum())))


def error_of(values: Doubles, sizes: Doubles) -> float:
    """Half the confidence interval of a ratio of sums over draws [n], relative to the ratio: Student's t."""
    if len(values) < 2:
        return math.log(10.0)
    residuals = values - sizes * (values.mean() / sizes.mean())
    error = float(residuals.std(ddof=1)) / math.sqrt(len(values)) / float(values.mean())
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error


def total(values: Doubles, sizes: Doubles, *, whole: float, error: float = 0.0) -> Range:
    """The sum of all values, from those of the drawn items.

    Args:
        values: [n] of the drawn items, each divided by its odds.
        sizes: [n] of the same items, each divided by its odds.
        whole: the sum of all sizes.
        error: a further relative error that is independent of the draws (of `whole`, of a clock).
    """
    middle = whole * float(values.mean() / sizes.mean())
    if not middle:
        return Range(0.0, 0.0, 0.0)
    width = math.hypot(error_of(values, sizes), error)
    return Range(middle * math.exp(-width), middle, middle * math.exp(width))
