"""Right and wrong answers about videos that resemble each other within groups, with known accuracy and correlation."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Sizes = int | Literal["1 to 50", "1 to 8", "mostly small", "one large", "two large"]
How = Literal["independent", "same groups", "mostly same answers", "same in most groups"]
"""How two classifiers are related: in nothing; in which groups are hard; in 4 of 5 answers; in 4 of 5 groups."""

SIZES: tuple[Sizes, ...] = (1, 3, 10, 50, "1 to 50", "1 to 8", "mostly small", "one large", "two large")
HOWS: tuple[How, ...] = ("independent", "same groups", "mostly same answers", "same in most groups")
_GRID = 4000


@dataclass(frozen=True, kw_only=True)
class Case:
    """Groups of videos, and how well a classifier answers about them."""

    groups: int
    sizes: Sizes
    share: float
    """True accuracy."""
    icc: float
    """Correlation of two answers in one group."""

    def __str__(self) -> str:
        return f"{self.groups} groups of {self.sizes}, {self.share}, {self.icc}"

    def members(self, rng: np.random.Generator) -> Integers:
        """Number of the group of each video, [n]."""
        return np.repeat(np.arange(self.groups), _sizes(rng, self.sizes, self.groups))

    def answers(self, rng: np.random.Generator) -> tuple[Floats, Integers]:
        """1 where an answer is right, else 0, [n]; and the group of each video, [n]."""
        member = self.members(rng)
        level = levels(self.share, self.icc)[rng.integers(_GRID, size=self.groups)]
        return (rng.random(len(member)) < level[member]).astype(np.float64), member

    def pairs(
        self, rng: np.random.Generator, *, how: How, gap: float = 0.0, other_icc: float | None = None
    ) -> tuple[Floats, Floats, Integers]:
        """Answers of this classifier and of one that is worse by `gap`, [n] each; and the group of each video, [n]."""
        member = self.members(rng)
        one, other = rng.integers(_GRID, size=(2, self.groups))
        if how in ("same groups", "mostly same answers"):
            other = one
        first = levels(self.share, self.icc)[one][member]
        second = levels(self.share - gap, self.icc if other_icc is None else other_icc)[other][member]
        drawn, again = rng.random((2, len(member)))
        if how == "mostly same answers":
            again = np.where(rng.random(len(member)) < 0.8, drawn, again)
        if how == "same in most groups":
            same = (rng.random(self.groups) < 0.8)[member]
            second, again = np.where(same, first, second), np.where(same, drawn, again)
        return (drawn < first).astype(np.float64), (again < second).astype(np.float64), member


@cache
def levels(share: float, icc: float) -> Floats:
    """Equally likely accuracies within a group: quantiles of the beta distribution with this mean and correlation."""
    size = (1 - icc) / icc
    found: Floats = betaincinv(size * share, size * (1 - share), (np.arange(_GRID) + 0.5) / _GRID)
    return found


def _sizes(rng: np.random.Generator, sizes: Sizes, groups: int) -> Integers:
    if isinstance(sizes, int):
        return np.full(groups, sizes)
    if sizes in ("1 to 50", "1 to 8"):
        return rng.integers(1, 51 if sizes == "1 to 50" else 9, groups)
    if sizes == "mostly small":
        return np.exp(rng.uniform(0, np.log(50.99), groups)).astype(np.int64)
    large = 1 if sizes == "one large" else 2
    return np.array([50] * large + [3] * (groups - large))
