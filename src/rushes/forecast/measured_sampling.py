"""The cost of sampling some segments of an archive, measured with the code that the step runs.

    opened = open_files(root, files, annotations=[], config=SampleConfig(), progress=progress)
    costs = sample_some(root, opened.segments[:3], config=SampleConfig(), scratch=scratch, progress=progress)

Seconds are of the processor (user and system time of the process that does the work): wall-clock time depends on what
else is running.
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
from rushes.footage.annotation import Annotation
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.files import Listed
from rushes.footage.index import Geometry, IndexRows, write_index, write_shards
from rushes.footage.probes import ProbeTable
from rushes.footage.probing import ProbeTask, probe_sources
from rushes.footage.rows import SAMPLED, EncodingStats, Shard
from rushes.footage.segment_plan import Failure, Planned
from rushes.footage.segments import plan_segments
from rushes.footage.shards import ShardTask, try_sources, write_shard
from rushes.footage.sources import Source
from rushes.footage.workers import Crashed, Pool, Workers
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.video.probe import Probe

_DECODE = 3.3e-9
"""Core-seconds to decode and scale a pixel of the source, roughly: only used to draw segments by their work."""
_ENCODE = 1.9e-8
"""Core-seconds to encode and analyse a pixel of the footage, roughly."""
_BLOCK = 512  # of a tar
_MOTION = 22  # bytes per frame of the sidecar
_WARM_UP = 0.2  # seconds of video


@dataclass(frozen=True, kw_only=True)
class OpenedSegment:
    """A planned segment of a file that could be opened."""

    planned: Planned
    probe: Probe
    work: float
    """Core-seconds that sampling it takes, roughly."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.planned.segment.end - self.planned.segment.start


@dataclass(frozen=True, kw_only=True)
class OpenedFiles:
    """The result of opening files."""

    segments: Sequence[OpenedSegment]
    """In order of file and start."""
    seconds: Mapping[str, float]
    """Core-seconds that opening took, by path."""
    failures: Mapping[str, Failure]
    """Why files cannot be used, by path."""


@dataclass(frozen=True, kw_only=True)
class SamplingCost:
    """What sampling a segment took and made."""

    segment: OpenedSegment
    seconds: float
    """Core-seconds."""
    measured: EncodingStats
    shard: Shard

    @property
    def size(self) -> int:
        """Bytes in the store, without its share of the shard's last block."""
        if not self.measured.length:
            return 0
        blocks = -(-self.measured.length // _BLOCK)
        return _BLOCK * (blocks + 3) + _MOTION * self.measured.frames

    def windows(self, span: int) -> int:
        """Windows of `span` frames in its shots."""
        edges = (0, *self.measured.cuts, self.measured.frames)
        return sum((stop - start) // span for start, stop in pairwise(edges))


# Opening -------------------------------------------------------------------------------------------------------------


def open_files(
    root: str, files: Sequence[Listed], *, annotations: Sequence[Annotation], config: SampleConfig, progress: Progress
) -> OpenedFiles:
    """Opens files and plans their segments as the step does.

    Args:
        root: folder or URL.
        files: some or all of its files, each once.
        annotations: of these files.
        config: how they are sampled.
        progress: where to report to.
    """
    sources = [Source(path=file.path, sha256=identity(file), size=file.size) for file in files]
    bar = progress.bar("open", total=len(sources), unit="files")
    probed = ProbeTable()
    found: dict[str, Probe | Failure] = {}
    seconds: dict[str, float] = {}
    tasks = [ProbeTask(root=root, files=[source], config=config, pinned=False) for source in sources]
    with Pool(_workers(config)) as pool:
        for task, result in pool.run(_timed_probe, tasks):
            (source,) = task.files
            spent, outcome = (0.0, _CRASHED) if isinstance(result, Crashed) else result
            probed.add(source.sha256, outcome)
            found[source.path], seconds[source.path] = outcome, spent
            bar.advance()
    segments = []
    for planned in plan_segments(sources, annotations, probed, config):
        probe = found[planned.segment.source]
        if isinstance(probe, Probe):
            segments.append(OpenedSegment(planned=planned, probe=probe, work=work_of(planned, probe, config)))
    failures = {path: outcome for path, outcome in found.items() if isinstance(outcome, Failure)}
    return OpenedFiles(segments=segments, seconds=seconds, failures=failures)


_CRASHED = Failure(reason="decoder_crash", message="the decoder's process crashed")


def identity(file: Listed) -> str:
    """A stand-in for the SHA-256 of a file's content, which is not read here."""
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
    root: str, segments: Sequence[OpenedSegment], *, config: SampleConfig, scratch: Path, progress: Progress
) -> list[SamplingCost | None]:
    """Samples segments, each into its own shard of a store under `scratch`; None for one whose process crashed."""
    store, folder = Store(str(scratch / "store")), scratch / "partial"
    folder.mkdir(parents=True)
    tasks = [
        ShardTask(
            number=number, root=root, planned=[segment.planned], config=config, store=store.url, folder=str(folder)
        )
        for number, segment in enumerate(segments)
    ]
    bar = progress.bar("sample", total=sum(segment.seconds for segment in segments), unit="seconds of video")
    costs: list[SamplingCost | None] = [None] * len(segments)
    with Pool(_workers(config)) as pool:
        for task, result in pool.run(_timed_shard, tasks):
            segment = segments[task.number]
            if not isinstance(result, Crashed):
                seconds, measured, shard = result
                costs[task.number] = SamplingCost(segment=segment, seconds=seconds, measured=measured, shard=shard)
            bar.advance(segment.seconds)
    return costs


def _timed_shard(task: ShardTask) -> tuple[float, EncodingStats, Shard]:
    _warm_up(task)
    began = _clock()
    record = write_shard(task)
    return _clock() - began, record.segments[0].measured, record.shard


def _warm_up(task: ShardTask) -> None:
    """Samples a little, once per process, since libraries are slow at the first call."""
    global _warm
    if not _warm:
        (planned,) = task.planned
        short = dataclasses.replace(planned, limit=planned.segment.start + _WARM_UP, expected=0)
        try_sources(dataclasses.replace(task, planned=[short]))
        _warm = True


_warm = False


def _clock() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _workers(config: SampleConfig) -> Workers:
    return Workers(count=config.workers or os.cpu_count() or 1, memory=round(config.max_memory_gb * 2**30))


def footage_of(costs: Sequence[SamplingCost], *, config: SampleConfig, scratch: Path) -> tuple[Manifest, Store]:
    """The sampled segments as footage, to measure what reading it costs."""
    rows, store = IndexRows(), Store(str(scratch / "store"))
    used = [cost for cost in costs if cost.measured.status == SAMPLED]
    for number, cost in enumerate(used):
        rows.add(cost.segment.planned.segment, dataclasses.replace(cost.measured, shard=number))
    geometry = Geometry(short_side=config.short_side, fps=config.fps, qp=config.qp, gop=config.gop)
    write_index(scratch / INDEX, rows.table(), geometry)
    write_shards(scratch / SHARDS, [dataclasses.replace(cost.shard, shard=n) for n, cost in enumerate(used)])
    files = {name: store.put(scratch / name) for name in (INDEX, SHARDS)}
    return Manifest(kind="footage", step="sample", digest="plan", inputs={}, config={}, code="", files=files), store
