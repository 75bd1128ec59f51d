"""Footage that is computed instead of decoded: what the loop's tests train on."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt

from rushes.errors import UserError
from rushes.footage.reader import Footage


@dataclass(frozen=True, kw_only=True)
class Columns:
    frames: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    label: npt.NDArray[np.str_]


class StandIn:
    """Segments of noise, each frame a function of (row, frame number); labels a, b, a, b, ..."""

    def __init__(
        self,
        *,
        lengths: list[int],
        height: int = 24,
        width: int = 32,
        broken: int = -1,
        cuts: Mapping[int, list[int]] | None = None,
    ) -> None:
        self.segments = Columns(
            frames=np.array(lengths, dtype=np.int64),
            height=np.full(len(lengths), height),
            width=np.full(len(lengths), width),
            label=np.array(["ab"[n % 2] for n in range(len(lengths))]),
        )
        self.labels = ("a", "b")
        self.height, self.width, self.broken = height, width, broken
        self.cuts = cuts or {}
        self.decoded: list[tuple[int, npt.NDArray[np.int64]]] = []
        """(row, frame numbers) of each decoding so far."""

    def select(self, *splits: str) -> npt.NDArray[np.int64]:
        return np.arange(len(self.segments.frames))

    def shots(self, rows: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], ...]:
        found = [
            (int(row), first, stop - first)
            for row in np.asarray(rows)
            for first, stop in pairwise([0, *self.cuts.get(int(row), []), int(self.segments.frames[row])])
        ]
        return tuple(np.array(found, dtype=np.int64).reshape(-1, 3).T)

    def frames(self, row: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self.decoded.append((row, indices))
        assert indices.min() >= 0
        assert indices.max() < self.segments.frames[row]
        if row == self.broken:
            raise UserError(f"footage: row {row} is damaged: run sample again")
        return np.stack([self._frame(row, int(index)) for index in indices])

    def motion(self, row: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        frames = int(self.segments.frames[row])
        return np.arange(frames, dtype=np.float32), np.zeros((frames, 4, 5), np.uint8)

    def window(self, row: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        return self.frames(row, np.arange(start, stop))

    def _frame(self, row: int, index: int) -> npt.NDArray[np.uint8]:
        rng = np.random.default_rng([row, index])
        return rng.integers(0, 256, (self.height * 3 // 2, self.width), dtype=np.uint8)


def stand_in(
    *,
    lengths: list[int],
    height: int = 24,
    width: int = 32,
    broken: int = -1,
    cuts: Mapping[int, list[int]] | None = None,
) -> Footage:
    """The same, passed for footage."""
    return cast(Footage, StandIn(lengths=lengths, height=height, width=width, broken=broken, cuts=cuts))


def decoded(footage: Footage) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(row, frame numbers) of each decoding of a stand-in so far; empties the list."""
    found = cast(StandIn, footage).decoded
    cast(StandIn, footage).decoded = []
    return found
