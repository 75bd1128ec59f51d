"""The work of the `sample` step: videos to footage.

    summary = sample_footage(archive=Archive(...), config=Sample(), store=store, digest="0123abcd", out=Path("out"),
                             progress=NullProgress())

Files are probed, the plan is made (`rushes.footage.segments`), what earlier runs encoded is taken from them
(`rushes.footage.catalogue`), and worker processes write the rest, one shard at a time (`rushes.footage.shards`). A
finished shard leaves a record under `partial/<digest>/` in the store, so that a run that was killed redoes no complete
shard, and so that several machines can share the work. The bytes depend on the plan and on what was there before the
first of these runs, which the first run writes down.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rushes.config import SampleConfig
from rushes.errors import OutrunError, RushesError, UserError
from rushes.footage.catalogue import INDEX, PROBES, SHARDS, Catalogue, Probed, tombstones
from rushes.footage.columns import text
from rushes.footage.filters import filter_segments
from rushes.footage.index import Geometry, IndexRows, write_index, write_shards
from rushes.footage.labels import Annotation
from rushes.footage.rows import QUARANTINED, REMOVED, SAMPLED, EncodingStats, Segment, Shard
from rushes.footage.segment_plan import Failure, Planned, SegmentPlan, SelectedSegments
from rushes.footage.segments import plan_segments
from rushes.footage.shards import (
    ProbeTask,
    ShardRecord,
    ShardTask,
    motion_file,
    probe_sources,
    shard_file,
    try_sources,
    write_shard,
)
from rushes.footage.sources import Source
from rushes.footage.splits import check_coverage, share_of
from rushes.footage.summary import rows_of, summarise
from rushes.footage.workers import Crashed, Pool, Workers
from rushes.progress import Progress
from rushes.store import Store
from rushes.strict import to_record
from rushes.video.probe import Probe

__all__ = ["Annotation", "Archive", "Source", "sample_footage"]

Integers = npt.NDArray[np.int64]
_PROBES_A_TASK = 16
_LASTING = 16  # tasks a process; probing more leaves 3 MB of holes on its heap, which are worth a new process
_BATCH = 512
_ORDER = [(name, "ascending") for name in ("source", "start", "end", "label")]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What is to be sampled."""

    root: str
    """Folder or fsspec URL under which the sources lie."""
    sources: Iterable[Source]
    """Read once: of an archive, better made as they are read."""
    annotations: Sequence[Annotation] = ()
    previous: Sequence[str] = ()
    """Earlier outputs of `sample` whose shards may be used again; the first is this archive's own last one."""
    forgotten: frozenset[str] = frozenset()
    """SHA-256 of contents that must not be sampled."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of the work: the shards whose number leaves this rest, 1 to `count`."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Partition":
        """Reads "2/3".

        Raises:
            UserError: it is no such thing.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise UserError(f"partition: {text!r} is not allowed; a part and how many there are, such as 1/3 to 3/3")
        return cls(number=int(number), count=int(count))


def sample_footage(
    *,
    archive: Archive,
    config: SampleConfig,
    store: Store,
    digest: str,
    out: Path,
    progress: Progress,
    partition: Partition | None = None,
) -> dict[str, Any]:
    """Samples an archive: the shards go into the store, the index, the shards' list and the probes into `out`.

    Args:
        archive: the files, what is known about them, and what earlier runs left.
        config: the recipe.
        store: where shards and unfinished work lie.
        digest: names the work; the same for all its partitions and retries.
        out: folder for `index.parquet`, `shards.parquet` and `probes.parquet`.
        progress: where to report to.
        partition: encode this part only, and leave `out` empty; whoever comes without, finds the parts' shards.

    Returns:
        What the manifest's summary says: counts, seconds and bytes, by split and by class, and the quarantine.

    Raises:
        UserError: nothing decodes, or the splits contradict each other, share footage, or leave a class without
            training segments.
    """
    work = _Work(archive=archive, config=config, store=store, digest=digest, progress=progress)
    with work.pool:
        planned = work.plan()
        check_coverage((p.segment.label, p.segment.split, p.segment.group) for p in planned)
        known = work.known(planned)
        tasks = work.tasks(planned, np.flatnonzero((known < 0) & ~planned.failed))
        if partition is not None:
            mine = [task for task in tasks if task.number % partition.count == partition.number - 1]
            work.write(mine)
            return {"shards": len(mine), "of": len(tasks), "partition": f"{partition.number}/{partition.count}"}
        work.write(tasks)
    table, shards = work.assemble(planned, known, tasks)
    fresh = shards[len(shards) - len(tasks) :]
    del planned, known, tasks
    work.check_any(table)
    table = filter_segments(table, config, progress)
    used = (row for row in rows_of(table, ("status", "label", "split", "group")) if row["status"] == SAMPLED)
    check_coverage((row["label"], row["split"], row["group"]) for row in used)
    new = {"new_shards": len(fresh), "new_bytes": sum(shard.size + shard.motion_size for shard in fresh)}
    return work.publish(table, shards, out) | new


def peek_footage(
    *,
    archive: Archive,
    config: SampleConfig,
    store: Store,
    out: Path,
    progress: Progress,
    segments: int,
    seconds: float,
) -> dict[str, Any]:
    """Samples some segments of an archive, spread over it, for a first look; nothing is refused or left out.

    Args:
        archive: the files; of very many, some.
        config: the recipe.
        store: for the shards, thrown away with them.
        out: as `sample_footage`.
        progress: where to report to.
        segments: at most so many are encoded.
        seconds: after these no further shard is waited for.

    Returns:
        As `sample_footage`.

    Raises:
        UserError: nothing decodes.
    """
    work = _Work(archive=archive, config=config, store=store, digest="peek", progress=progress)
    with work.pool:
        planned = work.plan()
        usable = np.flatnonzero(~planned.failed)
        shares = [share_of(planned[place].segment.key) for place in usable.tolist()]
        tasks = work.tasks(planned, np.sort(usable[np.argsort(shares)[:segments]]))
        tasks = sorted(work.write(tasks, seconds=seconds), key=lambda task: task.number)
    done = {p.segment.key for task in tasks for p in task.planned}
    shown = planned.select(np.array([n for n, p in enumerate(planned) if p.failure or p.segment.key in done], np.int64))
    table, shards = work.assemble(shown, np.full(len(shown), -1), tasks)
    work.check_any(table)
    return work.publish(table, shards, out)


class _Work:
    """The parts of a run, and what they share."""

    def __init__(
        self, *, archive: Archive, config: SampleConfig, store: Store, digest: str, progress: Progress
    ) -> None:
        self.archive, self.config, self.store, self.digest = archive, config, store, digest
        self.files = 0
        self.progress = progress
        self.pool = Pool(
            Workers(count=config.workers or os.cpu_count() or 1, memory=round(config.max_memory_gb * 2**30))
        )
        self.folder = store.folder(f"partial/{digest}")
        store.sweep(f"partial/{digest}")
        self.previous = self._history()
        self.catalogue = Catalogue(store, self.previous)
        self.probed = Probed()

    def _history(self) -> list[str]:
        """The earlier outputs that count: those which the first run, or the first of several parts, knew."""
        name = f"partial/{self.digest}/previous.json"
        data = self.store.read(name)
        if data is None:
            self.store.create(name, json.dumps(list(self.archive.previous)).encode())
            data = self.store.read(name) or b"[]"
        previous: list[str] = json.loads(data)
        return previous

    # Probing ---------------------------------------------------------------------------------------------------------

    def plan(self) -> SegmentPlan:
        """The segments that there will be."""
        sources = sorted(self.archive.sources, key=lambda source: source.path)
        self.files = len(sources)
        self._probe_all(sources)
        return plan_segments(sources, self.archive.annotations, self.probed, self.config)

    def _probe_all(self, sources: Sequence[Source]) -> None:
        """Finds out what each content promises; those that an earlier run probed are not opened."""
        wanted = {source.sha256: source.path for source in sources}
        for sha256 in list(wanted):
            if sha256 in self.archive.forgotten:
                self.probed.add(sha256, _FORGOTTEN)
            elif sha256 in self.catalogue.probes:
                self.probed.add(sha256, self.catalogue.probes[sha256])
            else:
                continue
            del wanted[sha256]
        self.catalogue.probes = {}
        if not wanted:
            return
        bar = self.progress.bar("probe", total=len(wanted), unit="files")
        tasks = self._probe_tasks(wanted)
        for task, result in self.pool.run(probe_sources, tasks):
            found = self._probe_one_by_one(task) if isinstance(result, Crashed) else result
            for sha256 in task.paths:
                self.probed.add(sha256, found[sha256])
            bar.advance(len(task.paths))
        if len(tasks) > _LASTING * self.pool.workers.count:
            self.pool.close()

    def _probe_tasks(self, wanted: Mapping[str, str]) -> list[ProbeTask]:
        """Some files each: few files are spread over all workers."""
        size = min(_PROBES_A_TASK, -(-len(wanted) // self.pool.workers.count))
        items = iter(wanted.items())
        batches = iter(lambda: dict(itertools.islice(items, size)), {})
        return [ProbeTask(root=self.archive.root, paths=batch, config=self.config) for batch in batches]

    def _probe_one_by_one(self, task: ProbeTask) -> dict[str, Probe | Failure]:
        found: dict[str, Probe | Failure] = {}
        for sha256, path in task.paths.items():
            alone = dataclasses.replace(task, paths={sha256: path})
            result = self.pool.run_alone(probe_sources, alone)
            found |= {sha256: _crash_failure(path, result)} if isinstance(result, Crashed) else result
        return found

    # Shards ----------------------------------------------------------------------------------------------------------

    def known(self, planned: SegmentPlan) -> Integers:
        """Row in the catalogue of each planned segment, -1 where it is new or its file cannot be used."""
        rows = self.catalogue.find(planned.keys)
        rows[planned.failed] = -1
        return rows

    def tasks(self, planned: SegmentPlan, places: Integers) -> list[ShardTask]:
        """The shards to write: the segments at these places, in order, each content once."""
        _, first = np.unique(planned.keys[places], return_index=True)
        once, size = places[np.sort(first)], self.config.shard_segments
        return [
            ShardTask(
                number=number,
                root=self.archive.root,
                planned=planned.select(once[begin : begin + size]),
                config=self.config,
                store=self.store.url,
                folder=str(self.folder),
            )
            for number, begin in enumerate(range(0, len(once), size))
        ]

    def write(self, tasks: Sequence[ShardTask], *, seconds: float = math.inf) -> list[ShardTask]:
        """Writes the shards that have no record yet; returns those that are complete when the seconds are over."""
        if not tasks:
            return []
        bar = self.progress.bar("sample", total=sum(len(task.planned) for task in tasks), unit="segments")
        complete = [task for task in tasks if self._is_complete(task)]
        bar.advance(sum(len(task.planned) for task in complete))
        if complete:
            self.progress.say(f"{len(complete)} of {len(tasks)} shards are complete from an earlier run")
        numbers = {task.number for task in complete}
        remaining = [task for task in tasks if task.number not in numbers]
        began, frames = time.monotonic(), 0
        for task, result in self.pool.run(write_shard, remaining):
            record = self._write_without_killers(task) if isinstance(result, Crashed) else result
            self.store.write(self._name(task), record.to_json())
            frames += record.shard.frames
            speed = {"frames/s": frames / (time.monotonic() - began)}
            bar.advance(len(task.planned), **speed)
            complete.append(task)
            if time.monotonic() - began > seconds:
                break
        return complete

    def record(self, task: ShardTask) -> ShardRecord:
        """What a shard that is written holds."""
        data = self.store.read(self._name(task))
        if data is None:
            raise OutrunError(f"sample: the record of shard {task.number} has gone from the store: run it again")
        return ShardRecord.from_json(data)

    def _is_complete(self, task: ShardTask) -> bool:
        data = self.store.read(self._name(task))
        if data is None:
            return False
        shard = ShardRecord.from_json(data).shard
        return self.store.holds(shard_file(shard)) and self.store.holds(motion_file(shard))

    def _name(self, task: ShardTask) -> str:
        """The plan is part of the name: a record of another plan is not found."""
        lasting = to_record(dataclasses.replace(self.config, workers=0))
        plan = json.dumps([[p.segment.key, p.segment.source, p.fps] for p in task.planned] + [lasting], sort_keys=True)
        return f"partial/{self.digest}/shard-{task.number:05d}-{hashlib.sha256(plan.encode()).hexdigest()[:16]}.json"

    def _write_without_killers(self, task: ShardTask) -> ShardRecord:
        """A shard that kills its process: each file alone, the killers quarantined, then the shard without them."""
        banned: dict[str, Failure] = {}
        for path in sorted({p.segment.source for p in task.planned}):
            part = dataclasses.replace(task, planned=[p for p in task.planned if p.segment.source == path])
            result = self.pool.run_alone(try_sources, part)
            if isinstance(result, Crashed):
                banned[path] = _crash_failure(path, result)
        record = self.pool.run_alone(write_shard, dataclasses.replace(task, banned=banned))
        if isinstance(record, Crashed):
            raise RushesError(
                f"sample: the process that writes shard {task.number} crashes (exit {record.exitcode}) though each of "
                "its files decodes alone: check free memory, or lower sample.workers"
            )
        return record

    # The index -------------------------------------------------------------------------------------------------------

    def assemble(
        self, planned: SegmentPlan | SelectedSegments, known: Integers, tasks: Sequence[ShardTask]
    ) -> tuple[pa.Table, list[Shard]]:
        """All rows of the index, and the shards they lie in: those used again, then the new ones."""
        places = self.catalogue.shards_of(known[known >= 0])
        shards = [dataclasses.replace(self.catalogue.shards[place], shard=n) for n, place in enumerate(places)]
        numbers = {place: n for n, place in enumerate(places)} | {-1: -1}
        fresh = self._fresh(tasks, shards)
        again: dict[str, EncodingStats] = {}
        repeated = self._repeated(planned, known)
        rows = IndexRows()
        for begin in range(0, len(planned), _BATCH):
            part = known[begin : begin + _BATCH]
            reused = iter(self.catalogue.measured(part[part >= 0]))
            for p, row in zip(planned[begin : begin + _BATCH], part, strict=True):
                if p.failure is not None:
                    measured = EncodingStats(status=QUARANTINED, reason=p.failure.reason, message=p.failure.message)
                elif row >= 0:
                    found = next(reused)
                    measured = dataclasses.replace(found, shard=numbers[found.shard])
                elif p.segment.key in again:
                    measured = again[p.segment.key]
                else:
                    measured = next(fresh)
                    again |= {p.segment.key: measured} if p.segment.key in repeated else {}
                rows.add(_placed(p, measured), measured)
        gone = self._tombstones(planned)
        for segment in gone:
            rows.add(segment, EncodingStats(status=REMOVED, reason="removed"))
        # The plan is in order already; sorting takes the table's memory once more.
        return rows.table().sort_by(_ORDER) if gone else rows.table(), shards

    @staticmethod
    def _repeated(planned: SegmentPlan | SelectedSegments, known: Integers) -> set[str]:
        """Keys of new segments that are planned more than once."""
        keys, counts = np.unique(planned.keys[known < 0], return_counts=True)
        return {f"{key:016x}" for key in keys[counts > 1].tolist()}

    def _fresh(self, tasks: Sequence[ShardTask], shards: list[Shard]) -> Iterator[EncodingStats]:
        """What the new segments became, in order; appends their shards."""
        for task in tasks:
            record = self.record(task)
            number = len(shards)
            shards.append(dataclasses.replace(record.shard, shard=number))
            for written in record.segments:
                measured = written.measured
                yield dataclasses.replace(measured, shard=number) if measured.shard >= 0 else measured

    def check_any(self, table: pa.Table) -> None:
        """Raises UserError, with the reasons, where nothing of the archive decodes."""
        if pc.any(pc.equal(table["status"], text(SAMPLED))).as_py():
            return
        reasons = Counter(row["reason"] for row in rows_of(table, ("status", "reason")) if row["status"] == QUARANTINED)
        listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        raise UserError(f"videos: no decodable video among {self.files} files: {listed}")

    def publish(self, table: pa.Table, shards: Sequence[Shard], out: Path) -> dict[str, Any]:
        """Writes the three tables; returns what they amount to."""
        config = self.config
        geometry = Geometry(short_side=config.short_side, fps=config.fps, qp=config.qp, gop=config.gop)
        write_index(out / INDEX, table, geometry)
        write_shards(out / SHARDS, shards)
        pq.write_table(self.probed.table(), out / PROBES, compression="zstd")
        return summarise(table, shards=len(shards))

    def _tombstones(self, planned: Iterable[Planned]) -> list[Segment]:
        if not self.previous:
            return []
        return tombstones(self.store, self.previous[0], present={p.segment.source for p in planned})


_FORGOTTEN = Failure(reason="forgotten", message="forgotten on request, by its content: it is not sampled again")


def _placed(planned: Planned, measured: EncodingStats) -> Segment:
    if measured.status != SAMPLED:
        return planned.segment
    return dataclasses.replace(planned.segment, end=planned.segment.start + measured.frames / measured.fps)


def _crash_failure(path: str, crashed: Crashed[Any]) -> Failure:
    if crashed.by_alarm:
        return Failure(reason="timeout", message=f"{path}: the decoder did not come back in time")
    return Failure(reason="decoder_crash", message=f"{path}: the decoder's process crashed (exit {crashed.exitcode})")
