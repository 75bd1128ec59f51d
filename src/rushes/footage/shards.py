"""One shard: the planned segments, decoded, encoded and written to a tar, in a worker process.

The tar holds `<key>.mp4` and `<key>.json` for each segment (webdataset's layout) with constant headers, so that the
same plan gives the same bytes. Neither holds a path or a label: these belong to the index, where they may change.
Beside the tar lies its motion sidecar, a NumPy array of `MOTION` with one entry a frame, in the order of the segments.
"""

import contextlib
import dataclasses
import fcntl
import io
import itertools
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt

from rushes.config import SampleConfig
from rushes.footage.alarm import GRACE, alarm
from rushes.footage.rows import CODEC, MOTION, QUARANTINED, EncodingStats, Shard, source_number
from rushes.footage.segment_plan import Failure, Planned
from rushes.footage.sources import limits_of, located, relative_message
from rushes.store import File, Store
from rushes.video.clock import inside
from rushes.video.content import Content
from rushes.video.decode import decode_timed
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from rushes.video.motion import Motion, encoder_motion, quantiles
from rushes.video.probe import Probe, probe
from rushes.video.source import VideoError


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """What a worker needs to write a shard."""

    number: int
    """Among the shards that this run writes."""
    root: str
    planned: Sequence[Planned]
    config: SampleConfig
    store: str
    folder: str
    """Where the tar is written before it becomes an object."""
    banned: Mapping[str, Failure] = dataclasses.field(default_factory=dict)
    """Sources that killed a process before, and how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A segment that was tried."""

    key: str
    source_sha256: str
    measured: EncodingStats


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A complete shard and what its segments became, in the order of the plan."""

    shard: Shard
    segments: Sequence[Written]

    def to_json(self) -> bytes:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ShardRecord":
        """Reads what `to_json` wrote."""
        record = json.loads(data)
        segments = [Written(**s | {"measured": _measured(s["measured"])}) for s in record["segments"]]
        shard = Shard(**{**record["shard"], "sources": tuple(record["shard"]["sources"])})
        return cls(shard=shard, segments=segments)


def _measured(record: Mapping[str, Any]) -> EncodingStats:
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    return EncodingStats(**{**record, **lists})


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Files to probe in one go: content's SHA-256 to a path that holds it."""

    root: str
    paths: Mapping[str, str]
    config: SampleConfig


def probe_sources(task: ProbeTask) -> dict[str, Probe | Failure]:
    """Probes each file; by its content's SHA-256."""
    found: dict[str, Probe | Failure] = {}
    limits = limits_of(task.config)
    for sha256, path in task.paths.items():
        alarm(limits.decode_seconds + GRACE)
        try:
            found[sha256] = probe(located(task.root, path), limits=limits)
        except VideoError as error:
            found[sha256] = Failure(reason=error.reason, message=relative_message(error, task.root))
    alarm(0)
    return found


def write_shard(task: ShardTask) -> ShardRecord:
    """Writes the shard and its sidecar into the store, and returns what its segments became."""
    store = Store(task.store)
    written: list[Written] = []
    sidecar = Sidecar()
    with _temporary(task) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for planned, made in _encoded(task):
                if isinstance(made, Failure):
                    measured = EncodingStats(status=QUARANTINED, reason=made.reason, message=made.message)
                else:
                    measured = dataclasses.replace(
                        made.measured,
                        shard=task.number,
                        offset=tar.offset + tarfile.BLOCKSIZE,
                        frame_offset=sidecar.frames,
                    )
                    add_member(tar, f"{planned.segment.key}.mp4", made.mp4)
                    add_member(tar, f"{planned.segment.key}.json", _card(planned, measured))
                    sidecar.add(_entries(made.motion))
                del made  # while the next one is encoded
                written.append(
                    Written(key=planned.segment.key, source_sha256=planned.segment.source_sha256, measured=measured)
                )
        file.flush()
        tar_file = store.put(Path(file.name))
    sources = {s.source_sha256 for s in written if s.measured.frames}
    return ShardRecord(shard=put_sidecar(store, task.number, tar_file, sidecar, sources=sources), segments=written)


@contextlib.contextmanager
def _temporary(task: ShardTask) -> Iterator[IO[bytes]]:
    """A file for the tar, locked as long as it is written, so that nobody takes it for something left behind."""
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - removed below, where it may be gone already
            dir=task.folder, prefix=f"shard-{task.number:05d}-", suffix=".part", delete=False
        )
        with contextlib.suppress(OSError):  # some shared file systems know no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():
            break
        file.close()  # tidied up before it was locked
    try:
        yield file
    finally:
        Path(file.name).unlink(missing_ok=True)
        file.close()


def is_abandoned(part: Path) -> bool:
    """Whether nobody writes a temporary file any more; False where the file system cannot tell."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Sidecar:
    """The motion of a shard's segments as a NumPy file, filled as they come: joined at the end, it is there thrice."""

    def __init__(self) -> None:
        self.segments = self.frames = 0
        self._file = io.BytesIO()
        self._write_header()

    def add(self, entries: npt.NDArray[Any]) -> None:
        """Appends the motion of a segment, an array of `MOTION`."""
        self._file.write(entries.tobytes())
        self.segments += 1
        self.frames += len(entries)

    def to_bytes(self) -> bytes:
        """The file."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)
        return self._file.getvalue()

    def _write_header(self) -> None:
        """For any number of frames it has the same length: NumPy leaves room for the digits."""
        header = {"descr": np.lib.format.dtype_to_descr(MOTION), "fortran_order": False, "shape": (self.frames,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def put_sidecar(store: Store, number: int, tar: File, sidecar: Sidecar, *, sources: Iterable[str]) -> Shard:
    """Stores the sidecar; returns the row of a shard with these contents."""
    motion = store.put_bytes(sidecar.to_bytes())
    return Shard(
        shard=number,
        sha256=tar.sha256,
        size=tar.size,
        segments=sidecar.segments,
        frames=sidecar.frames,
        motion_sha256=motion.sha256,
        motion_size=motion.size,
        sources=tuple(sorted(source_number(sha256) for sha256 in set(sources))),
    )


def _entries(motion: Motion) -> npt.NDArray[Any]:
    entries = np.empty(len(motion.magnitude), MOTION)
    entries["magnitude"], entries["grid"] = motion.magnitude, motion.grid
    return entries


def try_sources(task: ShardTask) -> int:
    """Decodes and encodes the shard's segments and throws them away: does it live through that?"""
    return sum(1 for _ in _encoded(task))


def shard_file(shard: Shard) -> File:
    """The store's object of a shard."""
    return File(sha256=shard.sha256, size=shard.size)


def motion_file(shard: Shard) -> File:
    """The store's object of a shard's motion sidecar."""
    return File(sha256=shard.motion_sha256, size=shard.motion_size)


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Appends a file with a constant header."""
    info = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0o644
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _card(planned: Planned, measured: EncodingStats) -> bytes:
    facts = {
        "source_sha256": planned.segment.source_sha256,
        "start": planned.segment.start,
        "frames": measured.frames,
        "fps": measured.fps,
        "width": measured.width,
        "height": measured.height,
        "cuts": measured.cuts,
        "motion": [round(value, 4) for value in measured.motion],
    }
    return json.dumps(facts, sort_keys=True).encode()


# Decode and encode ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Made:
    """An encoded segment."""

    mp4: bytes
    motion: Motion
    measured: EncodingStats


def _encoded(task: ShardTask) -> Iterator[tuple[Planned, _Made | Failure]]:
    """What each planned segment became, or why there is nothing."""
    strip: _Strip | None = None
    for planned in task.planned:
        segment = planned.segment
        failure = planned.failure or task.banned.get(segment.source)
        if failure is not None:
            yield planned, failure
            continue
        alarm(2 * task.config.decode_seconds + GRACE)
        if strip is None or not strip.continues(planned):
            strip = _Strip(task, planned)
        yield planned, _encode_one(strip, planned, task)
    alarm(0)


def _encode_one(strip: "_Strip", planned: Planned, task: ShardTask) -> _Made | Failure:
    config, source, start = task.config, planned.segment.source, planned.segment.start
    frames = _Watched(strip.frames(start, planned.limit))
    try:
        if not frames.any():
            return Failure(reason="no_frames", message=f"{source}: no frame decodes from {start:.1f} s on")
        mp4 = encode_h264(frames, fps=planned.fps, qp=config.qp, gop=config.gop)
        if frames.count < config.min_share_decoded * planned.expected:
            message = f"{source}: {frames.count} of {planned.expected} frames decode from {start:.1f} s on"
            return Failure(reason="truncated", message=message)
        motion = encoder_motion(mp4)
    except VideoError as error:
        return Failure(reason=error.reason, message=relative_message(error, task.root))
    except (av.FFmpegError, MemoryError) as error:
        # Beside a decoder that takes nearly all of the memory, the encoder fails, and each time in other words.
        why = getattr(error, "strerror", None) or error
        message = f"{source}: what decodes from {start:.1f} s on cannot be encoded ({why}): raise sample.max_memory_gb"
        return Failure(reason="encode_error", message=message)
    measured = EncodingStats(
        frames=frames.count,
        fps=planned.fps,
        width=frames.width,
        height=frames.height,
        codec=CODEC,
        length=len(mp4),
        motion=quantiles(motion.magnitude),
        cuts=tuple(frames.content.cuts()),
        fingerprint=frames.content.fingerprint(),
    )
    return _Made(mp4=mp4, motion=motion, measured=measured)


class _Strip:
    """One decoding pass through a source, that consecutive segments share."""

    def __init__(self, task: ShardTask, planned: Planned) -> None:
        segment = planned.segment
        self.source, self.position = segment.source, segment.start
        limits = limits_of(task.config)
        # The time limit is a segment's; this pass may serve all the shard's segments of the file.
        shared = sum(p.segment.source == segment.source for p in task.planned)
        self.failed: VideoError | None = None
        self.timed = decode_timed(
            located(task.root, segment.source),
            short_side=task.config.short_side,
            fps=task.config.fps,
            start=segment.start,
            limits=dataclasses.replace(limits, decode_seconds=limits.decode_seconds * shared),
        )
        self.ahead: tuple[float, Frames] | None = None

    def continues(self, planned: Planned) -> bool:
        """Whether the segment lies ahead in the same file."""
        return planned.segment.source == self.source and planned.segment.start >= self.position

    def frames(self, start: float, end: float) -> Iterator[Frames]:
        """The frames of `[start, end)`; the first one beyond is kept for the next segment."""
        self.position = end
        while True:
            t, frame = self.ahead or self._next() or (None, None)
            if t is None or frame is None:
                return
            if t >= start and not inside(t, start, end):
                self.ahead = (t, frame)
                return
            self.ahead = None
            if inside(t, start, end):
                yield frame

    def _next(self) -> tuple[float, Frames] | None:
        if self.failed is not None:
            raise self.failed
        try:
            return next(self.timed, None)
        except VideoError as error:
            self.failed = error
            raise


class _Watched:
    """An iterator over frames that knows afterwards how many there were, how large, and what they showed."""

    def __init__(self, frames: Iterator[Frames]) -> None:
        self.frames = frames
        self.content = Content()
        self.first: Frames | None = None
        self.count = self.width = self.height = 0

    def any(self) -> bool:
        """Whether there is a first frame."""
        self.first = next(self.frames, None)
        return self.first is not None

    def __iter__(self) -> Iterator[Frames]:
        assert self.first is not None
        self.height, self.width = self.first.shape[0] * 2 // 3, self.first.shape[1]
        for frame in itertools.chain([self.first], self.frames):
            self.count += 1
            self.content.feed(frame)
            yield frame
