"""Tables of an mp4 or QuickTime file that promise more samples than the file can hold, found before they are opened.

    impossible_table(file, size)    # "its table stsz promises 60,000,000 samples, more than 9,120 bytes can hold"

FFmpeg allocates what a table promises: 9 kB become gigabytes. Whatever this misses (another container, a box in an
unusual parent) ends at the memory limit of the process (`rushes.video.guard`).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"dinf", b"udta", b"wave"}
_DEPTH = 8
_SLACK = 65_536
"""Samples that the smallest file may promise."""
_PER_BYTE = 8
"""Samples per byte of the file: a frame takes at least one, but old codecs of sound count six samples per byte."""
_MOST_BOXES = 1 << 18


class Seekable(Protocol):
    """A file, or what reads like one."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes to an offset."""


@dataclass(frozen=True, kw_only=True)
class _Box:
    name: bytes
    start: int
    """Of the content."""
    length: int
    """Of the content."""


def impossible_table(file: Seekable, size: int, *, boxes: int = _MOST_BOXES) -> str | None:
    """What is wrong with the tables of a file, for a message; None if nothing is, or it has none.

    Other tables may promise anything: FFmpeg asks them for no more samples than have a size.

    Args:
        file: left at its beginning.
        size: of the file, bytes.
        boxes: look at most at so many of them; each is read where it lies.
    """
    try:
        for box in itertools.islice(_boxes(file, 0, size, depth=0), boxes):
            samples = _promised(file, box)
            if samples > _SLACK + _PER_BYTE * size:
                name = box.name.decode()
                return f"its table {name} promises {samples:,} samples, more than {size:,} bytes can hold"
    finally:
        file.seek(0)
    return None


def _boxes(file: Seekable, start: int, end: int, *, depth: int) -> Iterator[_Box]:
    """The boxes of a part of the file, parents before their contents; up to the first that cannot be one."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        length, name, head = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1 and len(header) == 16:
            length, head = int.from_bytes(header[8:], "big"), 16
        if length == 0:
            length = end - start
        if length < head or not name.isascii():
            return
        box = _Box(name=name, start=start + head, length=min(length, end - start) - head)
        yield box
        if name in _PARENTS and depth < _DEPTH:
            yield from _boxes(file, box.start, box.start + box.length, depth=depth + 1)
        start += length


def _promised(file: Seekable, box: _Box) -> int:
    """Samples that a table of sizes, or of a fragment, promises; 0 for other boxes."""
    offset = {b"stsz": 8, b"stz2": 8, b"trun": 4}.get(box.name)
    if offset is None or box.length < offset + 4:
        return 0
    file.seek(box.start + offset)
    return int.from_bytes(file.read(4), "big")
