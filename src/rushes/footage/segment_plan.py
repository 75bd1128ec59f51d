"""The plan of an archive, in columns: as objects, the segments of a hundred thousand files would be a fifth of a GB."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from rushes.footage.rows import Segment

Integers = npt.NDArray[np.int64]
_SOURCE = -1  # stands for the segment's own path


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
    """Second at which decoding stops: `end`, or later where the file may be longer than it says."""
    promised: int
    """Frames that it should have, 0 where unknown."""
    fps: float
    """Frame rate of the footage."""
    failure: Failure | None = None
    """Known beforehand: it is not decoded."""


class _Segments(Sequence[Planned], ABC):
    """What is made when somebody looks at it."""

    @abstractmethod
    def _at(self, place: int) -> Planned:
        """The segment at a place from 0 on."""

    @overload
    def __getitem__(self, place: int) -> Planned: ...
    @overload
    def __getitem__(self, place: slice) -> list[Planned]: ...
    def __getitem__(self, place: int | slice) -> Planned | list[Planned]:
        places = range(len(self))[place]
        return self._at(places) if isinstance(places, int) else [self._at(n) for n in places]


class SegmentPlan(_Segments):
    """Planned segments in order. Each is an object only while somebody looks at it."""

    def __init__(self) -> None:
        self._keys, self._contents = array("Q"), bytearray()
        self._seconds, self._promised = array("d"), array("q")
        # No text is kept as an object: between what else is made while planning, each would hold a page for itself.
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
        self._promised.append(planned.promised)
        self._paths += segment.source.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._paths))
        group = _SOURCE if segment.group == segment.source else self._code(segment.group)
        self._codes.extend((self._code(segment.label), group, self._code(segment.split)))

    def _code(self, text: str) -> int:
        """Number of a text that recurs."""
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

    def part(self, places: Integers) -> "Part":
        """Some of the segments, by place."""
        return Part(self, places)

    def __len__(self) -> int:
        return len(self._keys)

    def _at(self, place: int) -> Planned:
        start, end, limit, fps = self._seconds[4 * place : 4 * place + 4]
        begin = self._ends[place - 1] if place else 0
        source = self._paths[begin : self._ends[place]].decode("utf-8", "surrogateescape")
        codes = self._codes[3 * place : 3 * place + 3]
        label, group, split = (source if code == _SOURCE else self._texts[code] for code in codes)
        sha256 = self._contents[32 * place : 32 * place + 32].hex()
        segment = Segment(
            key=f"{self._keys[place]:016x}",
            source=source,
            source_sha256=sha256,
            start=start,
            end=end,
            label=label,
            group=group,
            split=split,
        )
        return Planned(
            segment=segment, limit=limit, promised=self._promised[place], fps=fps, failure=self._failures.get(place)
        )


class Part(_Segments):
    """Some segments of a plan; to another process they travel as a list."""

    def __init__(self, plan: SegmentPlan, places: Integers) -> None:
        self._plan, self._places = plan, places

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """[n]: the segments' keys as numbers."""
        return self._plan.keys[self._places]

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> Planned:
        return self._plan[int(self._places[place])]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
