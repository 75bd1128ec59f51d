"""A coarse grid over a frame, and how much of any span lies in each of its cells."""

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_Float = TypeVar("_Float", np.float32, np.float64)

ROWS, COLUMNS = 4, 5
"""Cells of the grid on which motion is kept."""


def overlap(start: npt.NDArray[_Float], stop: npt.NDArray[_Float], *, cells: int, length: float) -> npt.NDArray[_Float]:
    """How much of each span `[start, stop)` lies in each of the equal cells of `length`: `[cells, spans]`."""
    edges: npt.NDArray[_Float] = _edges(cells, length, start.dtype.str)
    inside: npt.NDArray[_Float] = np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1])
    return np.maximum(inside, 0, out=inside)


@lru_cache(64)
def _edges(cells: int, length: float, kind: str) -> npt.NDArray[Any]:
    """Where equal cells of a length begin and end: `[cells + 1, 1]`."""
    return np.linspace(0, length, cells + 1, dtype=kind)[:, None]
