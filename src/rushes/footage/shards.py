"""One shard: the planned segments, decoded, encoded and written to a tar, in a worker process.

The tar holds `<key>.mp4` and `<key>.json` for each segment (webdataset's layout) with constant headers, so that the
same plan gives the same bytes.
"""

import dataclasses
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.config import Sample
from rushes.footage.index import CODEC, QUARANTINED, Segment, Shard
from rushes.footage.plan import Failure, Planned, Source
from rushes.footage.workers import alarm
from rushes.store import File, Store
from rushes.video.decode import Frames, Limits, Probe, VideoError, decode_timed, inside, probe
from rushes.video.encode import encode_h264

_GRACE = 30.0  # seconds between a decoder's time limit and the end of a process that does not heed it


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """What a worker needs to write a shard."""

    number: int
    root: str
    planned: Sequence[Planned]
    fps: Mapping[str, float]
    """Each source's own frame rate, for footage that keeps it."""
    config: Sample
    store: str
    folder: str
    """Where the tar is written before it becomes an object."""
    banned: Mapping[str, Failure] = dataclasses.field(default_factory=dict)
    """Sources that killed a process before, and how."""


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A complete shard and its rows of the index."""

    shard: Shard
    rows: Sequence[Segment]
    messages: Mapping[str, str]
    """Key of a quarantined segment to a sentence."""

    def to_json(self) -> bytes:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ShardRecord":
        """Reads what `to_json` wrote."""
        record = json.loads(data)
        rows = [Segment(**row) for row in record["rows"]]
        return cls(shard=Shard(**record["shard"]), rows=rows, messages=record["messages"])


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Files to probe in one go."""

    root: str
    sources: Sequence[Source]
    config: Sample


def limits_of(config: Sample) -> Limits:
    """The decoder's limits for one segment."""
    return Limits(
        max_bytes=round(config.max_file_gb * 2**30),
        max_pixels=config.max_pixels,
        decode_seconds=config.decode_seconds,
    )


def probe_sources(task: ProbeTask) -> dict[str, Probe | Failure]:
    """Probes each file."""
    found: dict[str, Probe | Failure] = {}
    limits = limits_of(task.config)
    for source in task.sources:
        alarm(limits.decode_seconds + _GRACE)
        try:
            found[source.path] = probe(Path(task.root) / source.path, limits=limits)
        except VideoError as error:
            found[source.path] = Failure(reason=error.reason, message=_relative(error, task.root))
    alarm(0)
    return found


def write_shard(task: ShardTask) -> ShardRecord:
    """Writes the shard into the store, and returns its rows."""
    store = Store(task.store)
    rows: list[Segment] = []
    messages: dict[str, str] = {}
    with tempfile.NamedTemporaryFile(dir=task.folder, prefix=f"shard-{task.number:05d}-", suffix=".part") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for planned, made in _encoded(task):
                if isinstance(made, Failure):
                    rows.append(dataclasses.replace(planned.row, status=QUARANTINED, reason=made.reason))
                    messages[planned.row.key] = made.message
                    continue
                mp4, row = made
                row = dataclasses.replace(row, shard=task.number, offset=tar.offset + tarfile.BLOCKSIZE)
                _add(tar, f"{row.key}.mp4", mp4)
                _add(tar, f"{row.key}.json", _card(row))
                rows.append(row)
        file.flush()
        stored = store.put(Path(file.name))
    count = sum(row.status != QUARANTINED for row in rows)
    shard = Shard(shard=task.number, sha256=stored.sha256, size=stored.size, segments=count)
    return ShardRecord(shard=shard, rows=rows, messages=messages)


def _relative(error: VideoError, root: str) -> str:
    """Its message without the place of the videos' folder, which is not part of the footage."""
    return str(error).replace(f"{root.rstrip('/')}/", "")


def try_sources(task: ShardTask) -> int:
    """Decodes and encodes the shard's segments and throws them away: does it live through that?"""
    return sum(1 for _ in _encoded(task))


def stored_file(shard: Shard) -> File:
    """The store's object of a shard."""
    return File(sha256=shard.sha256, size=shard.size)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0o644
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _card(row: Segment) -> bytes:
    names = ("source", "source_sha256", "start", "end", "label", "group", "split", "frames", "fps", "width", "height")
    return json.dumps({name: getattr(row, name) for name in names}, sort_keys=True).encode()


# Decode and encode ---------------------------------------------------------------------------------------------------


def _encoded(task: ShardTask) -> Iterator[tuple[Planned, tuple[bytes, Segment] | Failure]]:
    """Each planned segment's mp4 and row, or why there is none."""
    strip: _Strip | None = None
    for planned in task.planned:
        row = planned.row
        if row.status == QUARANTINED:
            yield planned, Failure(reason=row.reason, message="")
            continue
        if row.source in task.banned:
            yield planned, task.banned[row.source]
            continue
        alarm(2 * task.config.decode_seconds + _GRACE)
        if strip is None or not strip.continues(row):
            strip = _Strip(task, row)
        yield planned, _encode_one(strip, planned, task)
    alarm(0)


def _encode_one(strip: "_Strip", planned: Planned, task: ShardTask) -> tuple[bytes, Segment] | Failure:
    config, row = task.config, planned.row
    fps = config.fps or task.fps[row.source]
    frames = _Counted(strip.frames(row.start, planned.limit))
    try:
        if not frames.any():
            return Failure(reason="no_frames", message=f"{row.source}: no frame decodes from {row.start:.1f} s on")
        mp4 = encode_h264(frames, fps=fps, qp=config.qp, gop=config.gop)
    except VideoError as error:
        return Failure(reason=error.reason, message=_relative(error, task.root))
    if frames.count < config.min_share_decoded * planned.promised:
        message = f"{row.source}: {frames.count} of {planned.promised} frames decode from {row.start:.1f} s on"
        return Failure(reason="truncated", message=message)
    made = dataclasses.replace(
        row,
        end=row.start + frames.count / fps,
        frames=frames.count,
        fps=fps,
        width=frames.width,
        height=frames.height,
        bytes=len(mp4),
        length=len(mp4),
        codec=CODEC,
    )
    return mp4, made


class _Strip:
    """One decoding pass through a source, that consecutive segments share."""

    def __init__(self, task: ShardTask, row: Segment) -> None:
        self.source, self.position = row.source, row.start
        limits = limits_of(task.config)
        # The time limit is a segment's; this pass may serve all the shard's segments of the file.
        shared = sum(p.row.source == row.source for p in task.planned)
        self.failed: VideoError | None = None
        self.timed = decode_timed(
            Path(task.root) / row.source,
            short_side=task.config.short_side,
            fps=task.config.fps,
            start=row.start,
            limits=dataclasses.replace(limits, decode_seconds=limits.decode_seconds * shared),
        )
        self.ahead: tuple[float, Frames] | None = None

    def continues(self, row: Segment) -> bool:
        """Whether `row` lies ahead in the same file."""
        return row.source == self.source and row.start >= self.position

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


class _Counted:
    """An iterator over frames that knows afterwards how many there were and how large."""

    def __init__(self, frames: Iterator[Frames]) -> None:
        self.frames = frames
        self.first: Frames | None = None
        self.count = self.width = self.height = 0

    def any(self) -> bool:
        """Whether there is a first frame."""
        self.first = next(self.frames, None)
        return self.first is not None

    def __iter__(self) -> Iterator[Frames]:
        assert self.first is not None
        self.height, self.width = self.first.shape[0] * 2 // 3, self.first.shape[1]
        self.count = 1
        yield self.first
        for frame in self.frames:
            self.count += 1
            yield frame
