"""What sampling an archive costs, found out on some of its segments: by the very code that the step runs.

    opened = open_files(archive, config=Sample(), workers=2, progress=progress)
    costs = sample_some(opened, [3, 14], root=root, config=Sample(), scratch=scratch, progress=progress)

Time is the processor's (user and system of the process that does the work), since the clock on the wall depends on who
else is busy.
"""

import dataclasses
import hashlib
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rushes.config import SampleConfig
from rushes.footage.archive import Listed
from rushes.footage.catalogue import INDEX, SHARDS, Probed
from rushes.footage.index import Geometry, IndexRows, write_index, write_shards
from rushes.footage.labels import Annotation
from rushes.footage.rows import SAMPLED, EncodingStats, Shard
from rushes.footage.segment_plan import Failure, Planned
from rushes.footage.segments import plan_segments
from rushes.footage.shards import ProbeTask, ShardTask, probe_sources, try_sources, write_shard
from rushes.footage.sources import Source
from rushes.footage.workers import Crashed, Pool, Workers
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.video.probe import Probe

_DECODE = 3.3e-9
"""Core-seconds to decode and scale a pixel of the source, roughly: a size to draw by, which measuring then corrects."""
_ENCODE = 1.9e-8
"""Core-seconds to encode and look at a pixel of the footage, roughly."""
_BLOCK = 512  # of a tar
_MOTION = 22  # bytes a frame of the sidecar
_LITTLE = 0.2  # seconds


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A segment that would be sampled."""

    planned: Planned
    probe: Probe
    work: float
    """Core-seconds that sampling it takes, roughly."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.planned.segment.end - self.planned.segment.start


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What opening files told."""

    pieces: Sequence[Piece]
    """In order of file and start."""
    seconds: Mapping[str, float]
    """Core-seconds that opening took, by path."""
    failures: Mapping[str, Failure]
    """Why files cannot be used, by path."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What sampling a piece took and gave."""

    piece: Piece
    seconds: float
    """Core-seconds."""
    measured: EncodingStats
    shard: Shard

    @property
    def size(self) -> int:
        """Bytes in the store, its share of a shard's last block left out."""
        if not self.measured.length:
            return 0
        blocks = -(-self.measured.length // _BLOCK)
        return _BLOCK * (blocks + 3) + _MOTION * self.measured.frames

    def windows(self, span: int) -> int:
        """Windows of so many frames in its shots."""
        edges = (0, *self.measured.cuts, self.measured.frames)
        return sum((stop - start) // span for start, stop in pairwise(edges))


# Opening -------------------------------------------------------------------------------------------------------------


def open_files(
    root: str, files: Sequence[Listed], *, annotations: Sequence[Annotation], config: SampleConfig, progress: Progress
) -> Opened:
    """Opens files and plans their segments, as the step would.

    Args:
        root: folder or URL.
        files: some or all of its files, each once.
        annotations: of these files.
        config: how they would be sampled.
        progress: where to report to.
    """
    sources = [Source(path=file.path, sha256=identity(file), size=file.size) for file in files]
    bar = progress.bar("open", total=len(sources), unit="files")
    probed = Probed()
    found: dict[str, Probe | Failure] = {}
    seconds: dict[str, float] = {}
    tasks = [ProbeTask(root=root, paths={source.sha256: source.path}, config=config) for source in sources]
    with Pool(_workers(config)) as pool:
        for task, result in pool.run(_timed_probe, tasks):
            ((sha256, path),) = task.paths.items()
            spent, outcome = (0.0, _CRASHED) if isinstance(result, Crashed) else result
            probed.add(sha256, outcome)
            found[path], seconds[path] = outcome, spent
            bar.advance()
    pieces = []
    for planned in plan_segments(sources, annotations, probed, config):
        probe = found[planned.segment.source]
        if isinstance(probe, Probe):
            pieces.append(Piece(planned=planned, probe=probe, work=work_of(planned, probe, config)))
    failures = {path: outcome for path, outcome in found.items() if isinstance(outcome, Failure)}
    return Opened(pieces=pieces, seconds=seconds, failures=failures)


_CRASHED = Failure(reason="decoder_crash", message="the decoder's process crashed")


def identity(file: Listed) -> str:
    """Stands for the SHA-256 of a file's content, which is not read for this."""
    return hashlib.sha256(f"{file.path}\0{file.size}\0{file.stamp}".encode()).hexdigest()


def work_of(planned: Planned, probe: Probe, config: SampleConfig) -> float:
    """Core-seconds that sampling a segment takes, roughly; above 0."""
    seconds = max(planned.segment.end - planned.segment.start, 1 / planned.fps)
    shorter = min(probe.width, probe.height)
    ratio = config.short_side / shorter
    decoded = probe.width * probe.height * probe.fps
    encoded = probe.width * probe.height * ratio**2 * planned.fps
    return seconds * (_DECODE * decoded + _ENCODE * encoded)


def _timed_probe(task: ProbeTask) -> tuple[float, Probe | Failure]:
    began = _clock()
    (outcome,) = probe_sources(task).values()
    return _clock() - began, outcome


# Sampling ------------------------------------------------------------------------------------------------------------


def sample_some(
    root: str, pieces: Sequence[Piece], *, config: SampleConfig, scratch: Path, progress: Progress
) -> list[Cost | None]:
    """Samples pieces, each into a shard of its own in a store under `scratch`; None where the process died of it."""
    store, folder = Store(str(scratch / "store")), scratch / "partial"
    folder.mkdir(parents=True)
    tasks = [
        ShardTask(number=number, root=root, planned=[piece.planned], config=config, store=store.url, folder=str(folder))
        for number, piece in enumerate(pieces)
    ]
    bar = progress.bar("sample", total=sum(piece.seconds for piece in pieces), unit="seconds of video")
    costs: list[Cost | None] = [None] * len(pieces)
    with Pool(_workers(config)) as pool:
        for task, result in pool.run(_timed_shard, tasks):
            piece = pieces[task.number]
            if not isinstance(result, Crashed):
                seconds, measured, shard = result
                costs[task.number] = Cost(piece=piece, seconds=seconds, measured=measured, shard=shard)
            bar.advance(piece.seconds)
    return costs


def _timed_shard(task: ShardTask) -> tuple[float, EncodingStats, Shard]:
    _warm_up(task)
    began = _clock()
    record = write_shard(task)
    return _clock() - began, record.segments[0].measured, record.shard


def _warm_up(task: ShardTask) -> None:
    """Does a little of it, once a process, since libraries take their time at the first call."""
    global _warm
    if not _warm:
        (planned,) = task.planned
        little = dataclasses.replace(planned, limit=planned.segment.start + _LITTLE, expected=0)
        try_sources(dataclasses.replace(task, planned=[little]))
        _warm = True


_warm = False


def _clock() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _workers(config: SampleConfig) -> Workers:
    return Workers(count=config.workers or os.cpu_count() or 1, memory=round(config.max_memory_gb * 2**30))


def footage_of(costs: Sequence[Cost], *, config: SampleConfig, scratch: Path) -> tuple[Manifest, Store]:
    """The footage that was made, for a look at what reading it costs."""
    rows, store = IndexRows(), Store(str(scratch / "store"))
    used = [cost for cost in costs if cost.measured.status == SAMPLED]
    for number, cost in enumerate(used):
        rows.add(cost.piece.planned.segment, dataclasses.replace(cost.measured, shard=number))
    geometry = Geometry(short_side=config.short_side, fps=config.fps, qp=config.qp, gop=config.gop)
    write_index(scratch / INDEX, rows.table(), geometry)
    write_shards(scratch / SHARDS, [dataclasses.replace(cost.shard, shard=n) for n, cost in enumerate(used)])
    files = {name: store.put(scratch / name) for name in (INDEX, SHARDS)}
    return Manifest(kind="footage", step="sample", digest="plan", inputs={}, config={}, code="", files=files), store
