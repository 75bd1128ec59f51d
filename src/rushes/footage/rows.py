"""The rows of footage's two tables: segments and shards.

Apart from the tables themselves (`rushes.footage.index`), so that processes that decode do not import pyarrow.
"""

from dataclasses import dataclass

import numpy as np

from rushes.video.grid import COLUMNS, ROWS

SPLITS = ("unlabelled", "train", "val", "test")
MOTION = np.dtype([("magnitude", "<f2"), ("grid", "u1", (ROWS, COLUMNS))])
"""A frame's entry in a motion sidecar: the mean over the frame, in pixels since the frame before; and the mean per cell
of the grid, in 1/16 pixel."""
CODEC = "h264"
SAMPLED = "sampled"
"""In use."""
QUARANTINED = "quarantined"
"""Cannot be decoded, or must not be."""
LEFT_OUT = "left_out"
"""Decodes, but the recipe leaves it out: too little motion, or a duplicate."""
REMOVED = "removed"
"""A tombstone: its file was there when an earlier run read the archive."""
MOTION_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingStats:
    """What is known of a segment once it is encoded."""

    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    """"" where there is no footage."""
    shard: int = -1
    """-1 where there is no footage."""
    offset: int = 0
    """Of the mp4 in the shard, bytes."""
    length: int = 0
    """Of the mp4, bytes."""
    frame_offset: int = 0
    """Of its first frame in the shard's motion sidecar."""
    motion: tuple[float, ...] = (0.0,) * len(MOTION_QUANTILES)
    """Quantiles (`MOTION_QUANTILES`) of the mean motion of its 16-frame windows, pixels per frame."""
    cuts: tuple[int, ...] = ()
    """Numbers of the frames that begin a new shot."""
    fingerprint: tuple[int, int] = (0, 0)
    """Perceptual hash (`rushes.video.content`); (0, 0) compares with nothing."""
    status: str = SAMPLED
    """SAMPLED, QUARANTINED, LEFT_OUT or REMOVED."""
    reason: str = ""
    """Why it is not used: a short slug."""
    message: str = ""
    """The same as a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A row of the index, without what encoding adds (`EncodingStats`)."""

    key: str
    """16 hex characters that name the encoded frames: equal for equal content."""
    source: str
    """Path of the file that it is part of, relative to the root of the videos."""
    source_sha256: str
    start: float
    """Seconds from the container's start, as players count."""
    end: float
    label: str
    """Class name, "" where there is none."""
    group: str
    split: str
    """unlabelled, train, val or test."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A row of `shards.parquet`: a tar of `<key>.mp4` and `<key>.json`, and its motion sidecar; two objects."""

    shard: int
    sha256: str
    size: int
    segments: int
    frames: int
    motion_sha256: str
    motion_size: int
    sources: tuple[int, ...]
    """`source_number` of each content in it, ascending; needed to forget one, also where the index has no row of it."""

    def holds(self, sha256: str) -> bool:
        """Whether footage of this content may be in it."""
        return source_number(sha256) in self.sources


def source_number(sha256: str) -> int:
    """The first 64 bits of a content's SHA-256."""
    return int(sha256[:16], 16)
