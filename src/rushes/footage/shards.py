"""One shard: encoded segments in a tar, and their motion in a sidecar; written by a worker process.

The tar holds `<key>.mp4` and `<key>.json` for each segment (webdataset's layout) with constant headers, so that the
same plan gives the same bytes. Neither holds a path or a label: these belong to the index, where they may change.
The sidecar is a NumPy array of `MOTION` with one entry per frame, in the order of the segments.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rushes.config import SampleConfig
from rushes.footage.encoding import Encoded, encode_segments
from rushes.footage.rows import MOTION, QUARANTINED, EncodingStats, Shard, source_number
from rushes.footage.segment_plan import Failure, Planned
from rushes.store import File, Store
from rushes.video.motion import Motion


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """What a worker needs to write a shard."""

    number: int
    """Of the shard, among those that this run writes."""
    root: str
    planned: Sequence[Planned]
    config: SampleConfig
    store: str
    folder: str
    """Where the tar is written before it becomes an object."""
    crashed: Mapping[str, Failure] = dataclasses.field(default_factory=dict)
    """By path: files that crashed a process before, which must not be opened again."""
    stamps: Mapping[str, str] | None = None
    """By path, of the files when they were pinned, where known; None: the SHA-256 of the segments are not checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A segment that was encoded, or could not be."""

    key: str
    source_sha256: str
    measured: EncodingStats


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A complete shard and the outcome of its segments, in the order of the plan."""

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


def write_shard(task: ShardTask) -> ShardRecord:
    """Writes the shard and its sidecar into the store."""
    store = Store(task.store)
    written: list[Written] = []
    sidecar = Sidecar()
    with _temporary(task) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for planned, encoded in _encoded(task):
                segment = planned.segment
                if isinstance(encoded, Failure):
                    measured = EncodingStats(status=QUARANTINED, reason=encoded.reason, message=encoded.message)
                else:
                    measured = dataclasses.replace(
                        encoded.measured,
                        shard=task.number,
                        offset=tar.offset + tarfile.BLOCKSIZE,
                        frame_offset=sidecar.frames,
                    )
                    add_member(tar, f"{segment.key}.mp4", encoded.mp4)
                    add_member(tar, f"{segment.key}.json", _card(planned, measured))
                    sidecar.add(_entries(encoded.motion))
                del encoded  # not in memory while the next one is encoded
                written.append(Written(key=segment.key, source_sha256=segment.source_sha256, measured=measured))
        file.flush()
        tar_file = store.put(Path(file.name))
    sources = {s.source_sha256 for s in written if s.measured.frames}
    return ShardRecord(shard=put_sidecar(store, task.number, tar_file, sidecar, sources=sources), segments=written)


@contextlib.contextmanager
def _temporary(task: ShardTask) -> Iterator[IO[bytes]]:
    """A file for the tar, locked while it is written, so that no other process takes it for abandoned."""
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - removed below
            dir=task.folder, prefix=f"shard-{task.number:05d}-", suffix=".part", delete=False
        )
        with contextlib.suppress(OSError):  # some shared file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():
            break
        file.close()  # removed by another process before it was locked
    try:
        yield file
    finally:
        Path(file.name).unlink(missing_ok=True)
        file.close()


def is_abandoned(part: Path) -> bool:
    """Whether no process writes a temporary file any more; False where the file system has no locks."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Sidecar:
    """The motion of a shard's segments as a NumPy file.

    Appended as segments arrive; concatenating at the end would hold it in memory three times.
    """

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
        """Of the same length for any number of frames: NumPy pads the digits."""
        header = {"descr": np.lib.format.dtype_to_descr(MOTION), "fortran_order": False, "shape": (self.frames,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def put_sidecar(store: Store, number: int, tar: File, sidecar: Sidecar, *, sources: Iterable[str]) -> Shard:
    """Stores the sidecar; returns the shard's row."""
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
    """Decodes and encodes the shard's segments and discards them, to see whether the process crashes."""
    return sum(1 for _ in _encoded(task))


def _encoded(task: ShardTask) -> Iterator[tuple[Planned, Encoded | Failure]]:
    return encode_segments(task.planned, root=task.root, config=task.config, failures=task.crashed, stamps=task.stamps)


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
    """The segment's JSON file."""
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
