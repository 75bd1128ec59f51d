"""What there is to say about footage: lengths, motion, cuts, formats, what was quarantined, duplicates.

facts = find_facts(footage, index=index, probes=probes)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rushes.footage.columns import plain
from rushes.footage.reader import Footage
from rushes.footage.rows import MOTION_QUANTILES, QUARANTINED, SAMPLED
from rushes.video.content import near_duplicates

MEDIAN = MOTION_QUANTILES.index(0.5)
"""Column of the motion quantiles."""
_COMPARED = 10_000  # segments compared with each other: a second
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LENGTHS = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, np.inf)
_MOTIONS = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, np.inf)

Doubles = npt.NDArray[np.float64]
Position = tuple[str, float]
"""A segment as people find it: its file, and its start in seconds."""
Bin = tuple[float, float, int]
"""Lower edge, upper edge, and how many values are from the one to below the other."""


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A segment, or a whole file, that cannot be used."""

    position: Position
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two segments of the same content, or nearly."""

    first: Position
    second: Position
    distance: int
    """Bits of 128 that differ in their fingerprints."""
    across_files: bool
    across_test: bool
    """Whether one is in the test split and the other is not."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about footage; texts are as they were found."""

    seconds: float
    """Sampled."""
    frames: int
    """Sampled."""
    opened_seconds: float
    """Length of the opened files."""
    codecs: Sequence[tuple[str, int]]
    """Codec and number of files, the commonest first."""
    sizes: Sequence[tuple[int, int]]
    """Width and height of each opened file, smallest area first."""
    rates: Sequence[float]
    """Frames per second of each opened file, ascending."""
    lengths: Sequence[Bin]
    """Of the opened files, seconds."""
    motion: Sequence[tuple[int, float]]
    """(percent of the segments, median motion that they do not exceed)."""
    motions: Sequence[Bin]
    """Segments by their median motion, pixels per frame."""
    cuts: int
    most_cut: Sequence[tuple[Position, int]]
    """The segments with most cuts."""
    quarantined: Sequence[Quarantined]
    duplicates: Sequence[DuplicatePair]
    """Across the test split first, then across files, then the nearest."""
    compared: int
    """Segments that were compared to find duplicates."""

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Reason and number of quarantined segments, the commonest first."""
        return Counter(one.reason for one in self.quarantined).most_common()

    @property
    def across_files(self) -> int:
        """Pairs of duplicates in two files."""
        return sum(pair.across_files for pair in self.duplicates)

    @property
    def across_test(self) -> int:
        """Pairs of duplicates of which one is in the test split and the other is not."""
        return sum(pair.across_test for pair in self.duplicates)


def find_facts(footage: Footage, *, index: pa.Table, probes: pa.Table) -> Facts:
    """Works out what there is to say.

    Args:
        footage: the sampled segments.
        index: its whole index.
        probes: what was measured of each file.
    """
    segments = footage.segments
    medians = footage.motion_quantiles()[:, MEDIAN].astype(np.float64)
    seconds = plain(probes["seconds"].drop_null())
    sampled = index.filter(pc.equal(index["status"], SAMPLED))
    duplicates, compared = find_duplicates(sampled)
    cuts = plain(pc.list_value_length(sampled["cuts"]))
    return Facts(
        seconds=float((segments.frames / segments.fps).sum()),
        frames=int(segments.frames.sum()),
        opened_seconds=float(seconds.sum()),
        codecs=Counter(probes["codec"].drop_null().to_pylist()).most_common(),
        sizes=_sizes(probes),
        rates=sorted(probes["fps"].drop_null().to_pylist()),
        lengths=histogram(seconds, _LENGTHS),
        motion=[(round(100 * share), float(np.quantile(medians, share))) for share in _SHARES],
        motions=histogram(medians, _MOTIONS),
        cuts=int(cuts.sum()),
        most_cut=_most_cut(_positions(sampled), cuts),
        quarantined=_quarantined(index),
        duplicates=duplicates,
        compared=compared,
    )


def find_duplicates(sampled: pa.Table) -> tuple[list[DuplicatePair], int]:
    """Pairs of segments with the same or nearly the same frames, in whatever splits.

    Args:
        sampled: rows of the index that have footage; of more than 10,000, so many are compared, spread evenly.

    Returns:
        The pairs: those across the test split first, then those across files, then the nearest; and how many segments
        were compared.
    """
    rows = np.unique(np.linspace(0, len(sampled) - 1, min(len(sampled), _COMPARED)).astype(np.int64))
    prints, positions = plain(sampled["fingerprint"]), _positions(sampled)
    split = sampled["split"].to_pylist()
    found = []
    for a, b in near_duplicates(prints[rows], prints[rows]):
        if a < b:
            first, second = int(rows[a]), int(rows[b])
            found.append(
                DuplicatePair(
                    first=positions[first],
                    second=positions[second],
                    distance=int(np.bitwise_count(prints[first] ^ prints[second]).sum()),
                    across_files=positions[first][0] != positions[second][0],
                    across_test=(split[first] == "test") != (split[second] == "test"),
                )
            )
    return sorted(found, key=lambda p: (not p.across_test, not p.across_files, p.distance)), len(rows)


def histogram(values: Doubles, edges: Sequence[float]) -> list[Bin]:
    """Counts the values between the edges, from the first bin that holds any to the last that does."""
    counts = np.histogram(values, edges)[0]
    filled = np.flatnonzero(counts)
    if not len(filled):
        return []
    return [(edges[n], edges[n + 1], int(counts[n])) for n in range(filled[0], filled[-1] + 1)]


def _sizes(probes: pa.Table) -> list[tuple[int, int]]:
    sizes = zip(probes["width"].drop_null().to_pylist(), probes["height"].drop_null().to_pylist(), strict=True)
    return sorted(sizes, key=lambda size: size[0] * size[1])


def _most_cut(positions: Sequence[Position], cuts: npt.NDArray[np.int64]) -> list[tuple[Position, int]]:
    """The ten segments with most cuts."""
    return [(positions[row], int(cuts[row])) for row in np.argsort(-cuts, kind="stable")[:10].tolist() if cuts[row]]


def _quarantined(index: pa.Table) -> list[Quarantined]:
    bad = index.filter(pc.equal(index["status"], QUARANTINED))
    columns = zip(_positions(bad), bad["reason"].to_pylist(), bad["message"].to_pylist(), strict=True)
    return [
        Quarantined(position=position, reason=reason, message=message.removeprefix(f"{position[0]}: "))
        for position, reason, message in columns
    ]


def _positions(table: pa.Table) -> list[Position]:
    return list(zip(table["source"].to_pylist(), table["start"].to_pylist(), strict=True))
