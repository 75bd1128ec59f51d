"""From a few to all: totals of a large collection, and how sure they are, from draws of it.

What is drawn with a probability in proportion to a size that is known of everything tells the total without bias,
whatever the size is: total = (sum of all sizes) * mean(value / size). The better the size foretells the value, the less
the ratios differ, and the narrower the range.
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
    """A figure and between what it probably lies."""

    low: float
    middle: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> "Range":
        """A figure that is known."""
        return cls(value, value, value)

    def __mul__(self, factor: "float | Range") -> "Range":
        """Times a figure; errors of two ranges are taken for independent, in the logarithm."""
        if not isinstance(factor, Range):
            return Range(self.low * factor, self.middle * factor, self.high * factor)
        middle = self.middle * factor.middle
        if not middle:
            return Range(0.0, 0.0, self.high * factor.high)
        down = math.hypot(_distance(self.middle, self.low), _distance(factor.middle, factor.low))
        up = math.hypot(_distance(self.high, self.middle), _distance(factor.high, factor.middle))
        return Range(middle * math.exp(-down), middle, middle * math.exp(up))

    def __add__(self, other: "Range") -> "Range":
        """Plus another; their errors are taken for one and the same, which is the wider way."""
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def spread(self, low: float, high: float) -> "Range":
        """The same with its ends moved: by what is assumed and was not measured."""
        return Range(self.low * low, self.middle * math.sqrt(low * high), self.high * high)


def _distance(high: float, low: float) -> float:
    return math.log(high / low) if low > 0 else math.inf


def draw(sizes: Doubles, count: int, *, seed: int) -> Integers:
    """Draws places [count] in proportion to their sizes [n], at even steps through them, from a random start on.

    So neighbours are seldom drawn together: in an order by kind, each kind gets its share. Large ones may be drawn
    several times.
    """
    ends = np.cumsum(sizes)
    points = (np.arange(count) + np.random.default_rng([seed, 7]).random()) / count * ends[-1]
    places: Integers = np.minimum(np.searchsorted(ends, points, side="right"), len(sizes) - 1)
    return places


def how_many(sizes: Doubles, weights: Doubles, *, share: float) -> int:
    """Draws that come to about this share of the sizes' sum; `weights` [n] says how many each place stands for."""
    whole = float(weights @ sizes)
    return round(share * whole / (float(weights @ sizes**2) / whole))


def error_of(ratios: Doubles) -> float:
    """Half the width of the confidence interval of a mean of draws [n], in shares of the mean: Student's t."""
    if len(ratios) < 2:
        return math.log(10.0)
    error = float(ratios.std(ddof=1)) / math.sqrt(len(ratios)) / float(ratios.mean())
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(ratios) - 1)) * error


def total(values: Doubles, sizes: Doubles, *, whole: float, error: float = 0.0) -> Range:
    """The sum of all values, from those of the draws.

    Args:
        values: [n] of what was drawn.
        sizes: [n] of what was drawn, in proportion to which it was.
        whole: the sum of all sizes.
        error: a further error that is independent of the draws' (of `whole`, of a clock), in shares.
    """
    ratios = values / sizes
    middle = whole * float(ratios.mean())
    if not middle:
        return Range(0.0, 0.0, 0.0)
    width = math.hypot(error_of(ratios), error)
    return Range(middle * math.exp(-width), middle, middle * math.exp(width))
