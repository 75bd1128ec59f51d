"""The planned segments of an archive in columns: as objects, those of a hundred thousand files would take 0.2 GB."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from rushes.footage.rows import Segment

Integers = npt.NDArray[np.int64]
_SOURCE = -1  # in place of a code: the group is the segment's own path


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a file or a segment cannot be used."""

    reason: str
    """A short slug."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A segment before it is encoded."""

    segment: Segment
    """With `end` as planned."""
    limit: float
    """Second at which decoding stops: `end`, or later where more may decode than was measured."""
    expected: int
    """Frames that should decode, 0 where unknown."""
    fps: float
    """Frame rate of the footage."""
    failure: Failure | None = None
    """Known beforehand; the segment is then not decoded."""


class _Segments(Sequence[Planned], ABC):
    """A sequence whose items are made on access."""

    @abstractmethod
    def _at(self, position: int) -> Planned:
        """The segment at a position from 0 on."""

    @overload
    def __getitem__(self, index: int) -> Planned: ...
    @overload
    def __getitem__(self, index: slice) -> list[Planned]: ...
    def __getitem__(self, index: int | slice) -> Planned | list[Planned]:
        positions = range(len(self))[index]
        return self._at(positions) if isinstance(positions, int) else [self._at(n) for n in positions]


class SegmentPlan(_Segments):
    """Planned segments in order; each becomes an object only on access."""

    def __init__(self) -> None:
        self._keys, self._contents = array("Q"), bytearray()
        self._seconds, self._expected = array("d"), array("q")
        # No path is kept as an object: many small ones would fragment the heap.
        self._paths, self._ends = bytearray(), array("q")
        self._codes = array("i")
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._failures: dict[int, Failure] = {}

    def append(self, planned: Planned) -> None:
        """Adds a segment at the end."""
        segment = planned.segment
        if planned.failure is not None:
            self._failures[len(self)] = planned.failure
        self._keys.append(int(segment.key, 16))
        self._contents += bytes.fromhex(segment.source_sha256)
        self._seconds.extend((segment.start, segment.end, planned.limit, planned.fps))
        self._expected.append(planned.expected)
        self._paths += segment.source.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._paths))
        group = _SOURCE if segment.group == segment.source else self._code(segment.group)
        self._codes.extend((self._code(segment.label), group, self._code(segment.split)))

    def _code(self, text: str) -> int:
        """The number that stands for a text that recurs."""
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """[n]: the segments' keys as numbers."""
        return np.array(self._keys, dtype=np.uint64)

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """[n]: which are known not to decode."""
        mask = np.zeros(len(self), dtype=bool)
        mask[list(self._failures)] = True
        return mask

    def select(self, positions: Integers) -> "SelectedSegments":
        """Some of the segments, by position."""
        return SelectedSegments(self, positions)

    def __len__(self) -> int:
        return len(self._keys)

    def _at(self, position: int) -> Planned:
        start, end, limit, fps = self._seconds[4 * position : 4 * position + 4]
        begin = self._ends[position - 1] if position else 0
        source = self._paths[begin : self._ends[position]].decode("utf-8", "surrogateescape")
        codes = self._codes[3 * position : 3 * position + 3]
        label, group, split = (source if code == _SOURCE else self._texts[code] for code in codes)
        sha256 = self._contents[32 * position : 32 * position + 32].hex()
        segment = Segment(
            key=f"{self._keys[position]:016x}",
            source=source,
            source_sha256=sha256,
            start=start,
            end=end,
            label=label,
            group=group,
            split=split,
        )
        return Planned(
            segment=segment,
            limit=limit,
            expected=self._expected[position],
            fps=fps,
            failure=self._failures.get(position),
        )


class SelectedSegments(_Segments):
    """Some segments of a plan; pickled as a list."""

    def __init__(self, plan: SegmentPlan, positions: Integers) -> None:
        self._plan, self._positions = plan, positions

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """[n]: the segments' keys as numbers."""
        return self._plan.keys[self._positions]

    def __len__(self) -> int:
        return len(self._positions)

    def _at(self, position: int) -> Planned:
        return self._plan[int(self._positions[position])]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
