"""Footage for training and evaluation: any frames of any segment, straight from its shard.

    footage = Footage(manifest, store)
    rows = footage.select("train", labelled=True)
    window = footage.window(rows[0], 16, 80)  # uint8 [64, H * 3/2, W]

In a folder, shards are memory-mapped, each after a check of its digest. In a remote store, a segment is read by a range
request until its shard is in the cache (`rushes.store.ranges`).
"""

import dataclasses
import io
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from av.container import InputContainer
from av.video.frame import VideoFrame

from rushes.errors import UserError
from rushes.footage.columns import plain
from rushes.footage.index import read_columns, read_geometry, read_index
from rushes.footage.rows import MOTION, SAMPLED, SPLITS
from rushes.store import File, Manifest, Store
from rushes.store.ranges import Parts
from rushes.video.frames import Frames, scaled_size
from rushes.video.shrink import Shrinker

Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The sampled rows of the index as columns of one length, in the order of the index.

    The columns that are rarely needed (key, source, source_sha256, group) are read by `Footage.texts`.
    """

    label: Texts
    split: Texts
    start: npt.NDArray[np.float64]
    fps: npt.NDArray[np.float64]
    frames: npt.NDArray[np.int32]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    shard: npt.NDArray[np.int32]
    offset: Integers
    length: npt.NDArray[np.int32]
    frame_offset: Integers

    @property
    def end(self) -> npt.NDArray[np.float64]:
        """Seconds from the file's first frame."""
        return self.start + self.frames / self.fps

    def __len__(self) -> int:
        return len(self.frames)


_TEXTS = ("label", "split")
_NUMBERS = ("start", "fps", "frames", "width", "height", "shard", "offset", "length", "frame_offset")


class Footage:
    """Reads footage by row of its index and number of frame.

    It can be sent to worker processes before or after use; each maps, or fetches, the shards that it reads.

    Args:
        manifest: the pointer that `sample` wrote.
        store: where its shards are.
        short_side: read it as if it had been sampled at this size: frames and motion are scaled as they are read. 0
            leaves them as they are.

    Raises:
        UserError: the footage is smaller than `short_side`.

    Attributes:
        segments: the sampled segments, by row.
        labels: the class names, sorted.
        fps: frame rate of all segments; None where each has its source's.
        short_side: of all segments, pixels.
    """

    def __init__(self, manifest: Manifest, store: Store, *, short_side: int = 0) -> None:
        self._store, self._index_file = store, manifest.files["index.parquet"]
        self._shards = _shards(store.checked(manifest.files["shards.parquet"]))
        geometry = read_geometry(store.checked(self._index_file))
        self.fps, self.short_side, self.gop = geometry.fps, geometry.short_side, geometry.gop
        # Column by column: an archive's index then takes little more memory than the columns that are kept.
        self._sampled = np.flatnonzero(_texts(self._index, "status") == SAMPLED).astype(np.int32)
        columns: dict[str, Any] = {name: _texts(self._index, name)[self._sampled] for name in _TEXTS}
        columns |= {name: _numbers(self._index, name)[self._sampled] for name in _NUMBERS}
        self.segments = self._scaled(Segments(**columns), short_side)
        self.labels = tuple(sorted(set(self.segments.label) - {""}))
        self._cut_starts, self._cuts = _lists(self._index, "cuts", self._sampled)
        pa.default_memory_pool().release_unused()  # Arrow would keep the memory of the widest column
        self._parts = Parts(store) if store.local is None else None
        self._mapped: dict[File, mmap.mmap] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}

    @property
    def _index(self) -> Path:
        """Looked up on every use: a remote store's cache may have evicted the file meanwhile."""
        return self._store.path(self._index_file)

    def _scaled(self, segments: Segments, short_side: int) -> Segments:
        """The segments, as at another size."""
        if short_side > self.short_side:
            raise UserError(
                f"pretrain.short_side: {short_side} is not allowed; the footage has {self.short_side}: lower it, or "
                "raise sample.short_side and sample again"
            )
        self._shrink = (short_side or self.short_side) / self.short_side
        if self._shrink == 1:
            return segments
        self.short_side = short_side
        sizes = [
            scaled_size(height, width, short_side=short_side)
            for height, width in zip(segments.height.tolist(), segments.width.tolist(), strict=True)
        ]
        heights, widths = np.array(sizes, dtype=np.int32).reshape(-1, 2).T
        return dataclasses.replace(segments, height=heights, width=widths)

    def motion_quantiles(self) -> npt.NDArray[np.float32]:
        """Quantiles .1 to .9 of the motion of 16-frame windows in each row, pixels per frame: `[n, 5]`."""
        quantiles: npt.NDArray[np.float32] = _numbers(self._index, "motion")[self._sampled] * np.float32(self._shrink)
        return quantiles

    def texts(self, column: str) -> Texts:
        """A text column of the sampled rows: key, source, source_sha256 or group."""
        return _texts(self._index, column)[self._sampled]

    def shots(self, rows: npt.ArrayLike) -> tuple[Integers, Integers, Integers]:
        """The shots of segments: from one cut to the next.

        Args:
            rows: [n] rows, in any order.

        Returns:
            (row, first frame, number of frames) of each shot, in the order of `rows` and then of time.
        """
        numbers = np.asarray(rows, dtype=np.int64)
        cuts, counts = self._cuts_of(numbers)
        ends = np.cumsum(counts + 1)  # one past each segment's last shot
        first, stop = np.zeros(counts.sum() + len(numbers), np.int64), np.zeros(counts.sum() + len(numbers), np.int64)
        first[np.delete(np.arange(len(first)), ends - counts - 1)] = cuts
        stop[np.delete(np.arange(len(stop)), ends - 1)] = cuts
        stop[ends - 1] = self.segments.frames[numbers]
        row = np.repeat(numbers, counts + 1)
        return row, first, stop - first

    def _cuts_of(self, rows: Integers) -> tuple[npt.NDArray[np.int32], Integers]:
        """The cuts of some segments, joined, and how many each has."""
        starts = self._cut_starts[rows].astype(np.int64)
        counts = self._cut_starts[rows + 1].astype(np.int64) - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._cuts[np.repeat(starts, counts) + within], counts

    def motion(self, row: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """The motion of each frame, from the shard's sidecar.

        Returns:
            float32 `[frames]`, mean over the frame in pixels since the frame before; and uint8 `[frames, 4, 5]`, mean
            per cell of the grid in 1/16 pixel.
        """
        shard = self._shards[int(self.segments.shard[row])]
        first, count = int(self.segments.frame_offset[row]), int(self.segments.frames[row])
        start = shard.motion_start + first * MOTION.itemsize
        entries = np.frombuffer(self._bytes(shard.motion, start, count * MOTION.itemsize), MOTION)
        magnitude, grid = entries["magnitude"].astype(np.float32), entries["grid"].copy()
        if self._shrink == 1:
            return magnitude, grid
        return magnitude * np.float32(self._shrink), np.rint(grid * self._shrink).astype(np.uint8)

    def select(self, *splits: str, labelled: bool = False) -> Integers:
        """Row numbers of the segments of `splits` (of all if none is given); only labelled ones if `labelled`."""
        for split in splits:
            if split not in SPLITS:
                raise UserError(f"split: {split!r} is not allowed; one of {', '.join(SPLITS)}")
        selected = np.isin(self.segments.split, splits or SPLITS)
        if labelled:
            selected &= self.segments.label != ""
        return np.flatnonzero(selected).astype(np.int64)

    def mp4(self, row: int) -> bytes:
        """The segment as a video file."""
        shard, offset = self._shards[int(self.segments.shard[row])], int(self.segments.offset[row])
        return self._bytes(shard.tar, offset, int(self.segments.length[row]))

    def window(self, row: int, start: int, stop: int) -> Frames:
        """Frames `start` to `stop` (exclusive): uint8 `[stop - start, H * 3/2, W]`."""
        return self.frames(row, np.arange(start, stop))

    def frames(self, row: int, indices: npt.ArrayLike) -> Frames:
        """The frames with these numbers, in this order, repeats allowed: uint8 `[n, H * 3/2, W]`; in one decoding pass.

        Raises:
            UserError: the segment's bytes do not decode, or frames are missing.
        """
        wanted, positions = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        count = int(self.segments.frames[row])
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= count):
            raise IndexError(f"frames {wanted[0]} to {wanted[-1]} of a segment of {count}")
        height, width = int(self.segments.height[row]), int(self.segments.width[row])
        out = np.empty((len(wanted), height * 3 // 2, width), dtype=np.uint8)
        shrink = Shrinker(height=height, width=width)
        for n, frame in enumerate(self._decoded(row, wanted)):
            out[n] = shrink(frame)
        in_order = len(positions) == len(wanted) and bool((positions == np.arange(len(positions))).all())
        return out if in_order else out[positions.reshape(-1)]

    def _decoded(self, row: int, wanted: Integers) -> Iterator[VideoFrame]:
        """The wanted frames (ascending), each run of them decoded from the nearest key frame before it."""
        try:
            with _opened(self.mp4(row)) as container:
                # Seeking pays where a key frame lies between two wanted frames.
                jumps = np.flatnonzero(np.diff(wanted // self.gop) > 1) + 1
                for run in np.split(wanted, jumps):
                    if len(run):
                        yield from self._run(container, run, float(self.segments.fps[row]))
        except av.FFmpegError as error:
            shard = self._shards[int(self.segments.shard[row])].tar
            raise UserError(
                f"footage: segment {self.texts('key')[row]} of object {shard.sha256[:12]} does not decode "
                f"({error.strerror}): its bytes are not what was stored: remove the object and run sample again"
            ) from error

    def _run(self, container: InputContainer, wanted: Integers, fps: float) -> Iterator[VideoFrame]:
        stream = container.streams.video[0]
        assert stream.time_base
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

    def _bytes(self, file: File, start: int, count: int) -> bytes:
        if self._parts is not None:
            return self._parts.read(file, start, start + count)
        if file not in self._mapped:
            with self._store.checked(file).open("rb") as opened:
                self._mapped[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped[file][start : start + count]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shard:
    """A shard's objects."""

    tar: File
    motion: File
    motion_start: int
    """Offset of the first frame's entry in the sidecar, bytes; the entries go to its end."""


def _shards(path: Path) -> dict[int, _Shard]:
    """By number, without the column of sources, which is most of the table."""
    names = ("shard", "sha256", "size", "motion_sha256", "motion_size", "frames")
    columns = read_columns(path, names).to_pydict().values()
    return {
        shard: _Shard(
            tar=File(sha256=sha256, size=size),
            motion=File(sha256=motion_sha256, size=motion_size),
            motion_start=motion_size - frames * MOTION.itemsize,
        )
        for shard, sha256, size, motion_sha256, motion_size, frames in zip(*columns, strict=True)
    }


def _opened(mp4: bytes) -> InputContainer:
    container = av.open(io.BytesIO(mp4), mode="r", format="mp4")
    container.streams.video[0].codec_context.thread_count = 1
    return container


def _texts(index: Path, name: str) -> Texts:
    """A text column; equal texts are one object."""
    column = read_index(index, (name,))[0][name].combine_chunks().dictionary_encode()
    values = np.array(column.dictionary.to_pylist() or [""], dtype=object)
    texts: Texts = values[plain(column.indices)]
    return texts


def _numbers(index: Path, name: str) -> npt.NDArray[Any]:
    return plain(read_index(index, (name,))[0][name])


def _lists(index: Path, name: str, rows: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """The lists of some rows (ascending), joined, after the offset of each and of the end."""
    column = read_index(index, (name,))[0][name].combine_chunks()
    offsets, values = plain(column.offsets), plain(column.values)
    lengths = np.diff(offsets)
    selected = np.zeros(len(lengths), dtype=bool)
    selected[rows] = True
    starts = np.concatenate([np.zeros(1, np.uint32), np.cumsum(lengths[rows], dtype=np.uint32)])
    return starts, values[offsets[0] : offsets[-1]][np.repeat(selected, lengths)].astype(np.int32)
