"""Footage for training and evaluation: any frames of any segment, straight out of memory-mapped shards.

footage = Footage(manifest, store)
rows = footage.select("train", labelled=True)
window = footage.window(rows[0], 16, 80)  # uint8 [64, H * 3/2, W]
"""

import io
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame

from rushes.errors import UserError
from rushes.footage.index import SAMPLED, read_index, read_shards
from rushes.footage.labels import SPLITS
from rushes.footage.shards import stored_file
from rushes.store import Manifest, Store
from rushes.video.decode import Frames

Integers = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The sampled rows of the index as columns of one length, in the order of the index."""

    key: Strings
    source: Strings
    source_sha256: Strings
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    label: Strings
    group: Strings
    split: Strings
    frames: Integers
    fps: npt.NDArray[np.float64]
    width: Integers
    height: Integers
    bytes: Integers
    codec: Strings
    shard: Integers
    offset: Integers
    length: Integers
    status: Strings
    reason: Strings

    def __len__(self) -> int:
        return len(self.key)


class Footage:
    """Random access to a footage's frames.

    Cheap to make and to pickle: shards are opened when first read, in each process for itself.
    """

    def __init__(self, manifest: Manifest, store: Store) -> None:
        table, geometry = read_index(store.checked(manifest.files["index.parquet"]))
        shards = read_shards(store.checked(manifest.files["shards.parquet"]))
        columns = {name: np.asarray(table[name].to_pylist()) for name in table.column_names}
        sampled = columns["status"] == SAMPLED
        self.segments = Segments(**{name: column[sampled] for name, column in columns.items()})
        self.labels = tuple(sorted({str(label) for label in self.segments.label if label}))
        self.fps, self.short_side, self.gop = geometry.fps, geometry.short_side, geometry.gop
        self._shards = {shard.shard: stored_file(shard) for shard in shards}
        self._store = store
        self._mapped: dict[int, mmap.mmap] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}

    def select(self, *splits: str, labelled: bool = False) -> Integers:
        """Row numbers of the segments of `splits` (all without any), of labelled ones only if `labelled`."""
        for split in splits:
            if split not in SPLITS:
                raise UserError(f"split: {split!r} is not allowed; one of {', '.join(SPLITS)}")
        chosen = np.isin(self.segments.split, splits or SPLITS)
        if labelled:
            chosen &= self.segments.label != ""
        return np.flatnonzero(chosen).astype(np.int64)

    def mp4(self, row: int) -> bytes:
        """The segment as a video file."""
        shard, offset = int(self.segments.shard[row]), int(self.segments.offset[row])
        return self._map(shard)[offset : offset + int(self.segments.length[row])]

    def window(self, row: int, start: int, stop: int) -> Frames:
        """Frames `start` to `stop` (exclusive): uint8 `[stop - start, H * 3/2, W]`."""
        return self.frames(row, np.arange(start, stop))

    def frames(self, row: int, indices: npt.ArrayLike) -> Frames:
        """The frames of these numbers, in this order, repeats allowed: uint8 `[n, H * 3/2, W]`; one decoding pass."""
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        count = int(self.segments.frames[row])
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= count):
            raise IndexError(f"frames {wanted[0]} to {wanted[-1]} of a segment of {count}")
        height, width = int(self.segments.height[row]), int(self.segments.width[row])
        out = np.empty((len(wanted), height * 3 // 2, width), dtype=np.uint8)
        for place, frame in enumerate(self._decoded(row, wanted)):
            out[place] = frame.to_ndarray()
        straight = len(places) == len(wanted) and bool((places == np.arange(len(places))).all())
        return out if straight else out[places.reshape(-1)]

    def _decoded(self, row: int, wanted: Integers) -> Iterator[VideoFrame]:
        """The wanted frames (ascending), from the nearest key frame before each stretch of them."""
        with _opened(self.mp4(row)) as container:
            # A jump pays where a key frame lies between two wanted frames.
            jumps = np.flatnonzero(np.diff(wanted // self.gop) > 1) + 1
            for stretch in np.split(wanted, jumps):
                if len(stretch):
                    yield from self._stretch(container, stretch, float(self.segments.fps[row]))

    def _stretch(self, container: InputContainer, wanted: Integers, fps: float) -> Iterator[VideoFrame]:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        ticks = 1.0 / (fps * float(stream.time_base))
        container.seek(round(int(wanted[0]) * ticks), stream=stream)
        remaining = iter(wanted)
        target = next(remaining)
        for frame in container.decode(stream):
            assert frame.pts is not None
            if round(frame.pts / ticks) == target:
                yield frame
                following = next(remaining, None)
                if following is None:
                    return
                target = following
        raise UserError(f"footage: frame {target} is missing from its segment: run sample again")

    def _map(self, shard: int) -> mmap.mmap:
        if shard not in self._mapped:
            path: Path = self._store.path(self._shards[shard])
            with path.open("rb") as file:
                self._mapped[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped[shard]


def _opened(mp4: bytes) -> InputContainer:
    container = av.open(io.BytesIO(mp4), mode="r", format="mp4")
    container.streams.video[0].codec_context.thread_count = 1
    return container
