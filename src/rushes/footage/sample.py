"""The work of the `sample` step: videos to footage.

    summary = sample_footage(archive=Archive(...), config=SampleConfig(), store=store, digest="0123abcd",
                             out=Path("out"), progress=NullProgress())

Files are probed (`probes`), segments are planned (`segments`) and found again in earlier footage (`catalogue`), worker
processes encode the new ones (`shard_writer`), and the index is made of all of them (`assembly`, `filters`). The bytes
depend on the plan and on the footage that was there before the first of these runs, which the first run writes down.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.assembly import assemble
from rushes.footage.catalogue import INDEX, SHARDS, Catalogue, tombstones
from rushes.footage.columns import text
from rushes.footage.files import is_url
from rushes.footage.filters import filter_segments
from rushes.footage.hashes import Hashes
from rushes.footage.index import Geometry, write_index, write_shards
from rushes.footage.intervals import check_intervals
from rushes.footage.pinned import CHANGED
from rushes.footage.probes import PROBES, ProbeTable, probe_files
from rushes.footage.rows import QUARANTINED, SAMPLED, Segment, Shard
from rushes.footage.segment_plan import Failure, SegmentPlan, SelectedSegments
from rushes.footage.segments import plan_segments
from rushes.footage.shard_writer import ShardWriter
from rushes.footage.shards import ShardTask
from rushes.footage.sources import Source
from rushes.footage.splits import check_coverage, share_of
from rushes.footage.summary import rows_of, summarise
from rushes.footage.workers import Pool, Workers
from rushes.progress import Progress
from rushes.store import Store

Integers = npt.NDArray[np.int64]
_SAID = 10
_FORGOTTEN = Failure(reason="forgotten", message="forgotten on request, by its content: it is not sampled again")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What is to be sampled."""

    root: str
    """Folder or fsspec URL of the sources."""
    sources: Iterable[Source]
    """Read once: for an archive, better a generator."""
    annotations: Sequence[Annotation] = ()
    last: str = ""
    """This archive's own last output of `sample`: its files that are gone leave tombstones. Empty for a new archive."""
    previous: Sequence[str] = ()
    """Other earlier outputs of `sample`, of any archive, whose shards may be used again."""
    forgotten: frozenset[str] = frozenset()
    """SHA-256 of contents that must not be sampled."""
    hashes: Hashes | None = None
    """Where `pin` remembers the SHA-256 of files: wrong ones are taken out."""
    pinned: bool = True
    """Whether the SHA-256 of the sources are of their contents, which are then checked as they are read; False where
    only names stand for them."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of the work: the shards whose number divided by `count` leaves the rest `number` - 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Partition":
        """Reads "2/3".

        Raises:
            UserError: it has another form.
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
        archive: the files, what is known about them, and earlier footage.
        config: the recipe.
        store: where shards and unfinished work are kept.
        digest: names the work; the same for all its partitions and retries.
        out: folder for `index.parquet`, `shards.parquet` and `probes.parquet`.
        progress: where to report to.
        partition: encode this part only, and leave `out` empty; a run without it finds the parts' shards.

    Returns:
        The manifest's summary: counts, seconds and bytes, by split and by class, and the quarantine.

    Raises:
        UserError: nothing decodes, or the splits contradict each other, share footage, or leave a class without
            training segments.
    """
    work = _Work(archive=archive, config=config, store=store, digest=digest, progress=progress)
    with work.pool:
        plan = work.plan()
        check_coverage((p.segment.label, p.segment.split, p.segment.group) for p in plan)
        known = work.known(plan)
        tasks = work.shards.tasks(plan, np.flatnonzero((known < 0) & ~plan.failed), stamps=work.stamps)
        if partition is not None:
            return _write_part(work.shards, tasks, partition)
        work.shards.write(tasks)
    table, shards = work.assemble(plan, known, tasks)
    new = shards[len(shards) - len(tasks) :]
    del plan, known, tasks
    table = filter_segments(table, config, progress)
    _check_used(table)
    size = sum(shard.size + shard.motion_size for shard in new)
    return work.publish(table, shards, out) | {"new_shards": len(new), "new_bytes": size}


def _write_part(shards: ShardWriter, tasks: Sequence[ShardTask], partition: Partition) -> dict[str, Any]:
    mine = [task for task in tasks if task.number % partition.count == partition.number - 1]
    shards.write(mine)
    return {"shards": len(mine), "of": len(tasks), "partition": f"{partition.number}/{partition.count}"}


def _check_used(table: pa.Table) -> None:
    """Raises UserError where too little is left of a class after filtering."""
    used = (row for row in rows_of(table, ("status", "label", "split", "group")) if row["status"] == SAMPLED)
    check_coverage((row["label"], row["split"], row["group"]) for row in used)


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
        store: for the shards; thrown away with them.
        out: as `sample_footage`.
        progress: where to report to.
        segments: encode at most so many.
        seconds: stop waiting for further shards after this many seconds.

    Returns:
        As `sample_footage`.

    Raises:
        UserError: nothing decodes.
    """
    work = _Work(archive=archive, config=config, store=store, digest="peek", progress=progress)
    with work.pool:
        plan = work.plan()
        usable = np.flatnonzero(~plan.failed)
        shares = [share_of(plan[position].segment.key) for position in usable.tolist()]
        tasks = work.shards.tasks(plan, np.sort(usable[np.argsort(shares)[:segments]]), stamps=work.stamps)
        tasks = sorted(work.shards.write(tasks, seconds=seconds), key=lambda task: task.number)
    done = {p.segment.key for task in tasks for p in task.planned}
    shown = plan.select(np.array([n for n, p in enumerate(plan) if p.failure or p.segment.key in done], np.int64))
    table, shards = work.assemble(shown, np.full(len(shown), -1), tasks)
    return work.publish(table, shards, out)


class _Work:
    """The parts of a run, and what they share."""

    def __init__(
        self, *, archive: Archive, config: SampleConfig, store: Store, digest: str, progress: Progress
    ) -> None:
        self.archive, self.config, self.store, self.progress = archive, config, store, progress
        self.files = 0
        self.pool = Pool(
            Workers(count=config.workers or os.cpu_count() or 1, memory=round(config.max_memory_gb * 2**30))
        )
        self.shards = ShardWriter(
            root=archive.root, config=config, store=store, digest=digest, pool=self.pool, progress=progress
        )
        store.sweep(f"partial/{digest}")
        self.last, previous = self._earlier(f"partial/{digest}/previous.json")
        self.catalogue = Catalogue(store, [self.last, *previous] if self.last else previous)
        self.probes = ProbeTable()
        self.stamps: dict[str, str] | None = None

    def _earlier(self, name: str) -> tuple[str, list[str]]:
        """The archive's last output and the other earlier ones, as the first run, or the first part, knew them."""
        known = json.dumps({"last": self.archive.last, "previous": list(self.archive.previous)}).encode()
        data = self.store.read(name)
        if data is None:
            self.store.create(name, known)
            data = self.store.read(name) or known
        record = json.loads(data)
        return record["last"], record["previous"]

    def plan(self) -> SegmentPlan:
        """Probes the files and plans their segments."""
        sources = sorted(self.archive.sources, key=lambda source: source.path)
        self.files = len(sources)
        if self.archive.pinned:  # of a folder's files, a digest says more
            self.stamps = {s.path: s.stamp for s in sources} if is_url(self.archive.root) else {}
        self._probe(sources)
        check_intervals(self.archive.annotations, sources, self.probes)
        return plan_segments(sources, self.archive.annotations, self.probes, self.config)

    def _probe(self, sources: Sequence[Source]) -> None:
        """Probes each content; those that are forgotten, or that an earlier run probed, are not opened."""
        new = {source.sha256: source for source in sources}
        for sha256 in list(new):
            probe = _FORGOTTEN if sha256 in self.archive.forgotten else self.catalogue.probes.get(sha256)
            if probe is not None:
                self.probes.add(sha256, probe)
                del new[sha256]
        self.catalogue.probes = {}
        probe_files(
            list(new.values()),
            self.probes,
            root=self.archive.root,
            config=self.config,
            pool=self.pool,
            progress=self.progress,
            pinned=self.archive.pinned,
        )

    def known(self, plan: SegmentPlan) -> Integers:
        """Row in the catalogue of each planned segment, -1 where it is new or its file cannot be used."""
        rows = self.catalogue.find(plan.keys)
        rows[plan.failed] = -1
        return rows

    def assemble(
        self, plan: SegmentPlan | SelectedSegments, known: Integers, tasks: Sequence[ShardTask]
    ) -> tuple[pa.Table, list[Shard]]:
        """All rows of the index, and its shards.

        Raises:
            UserError: nothing of the archive decodes.
        """
        records = (self.shards.record(task) for task in tasks)
        table, shards = assemble(plan, known, self.catalogue, records, removed=self._removed(plan))
        self._withdraw_changed(table)
        if not pc.any(pc.equal(table["status"], text(SAMPLED))).as_py():
            raise self._nothing_decodes(table)
        return table, shards

    def _withdraw_changed(self, table: pa.Table) -> None:
        """Takes back what was read of files that proved to be others than those that were pinned."""
        changed = table.filter(pc.equal(table["reason"], text(CHANGED)))
        rows = changed.select(["source", "source_sha256", "message"]).to_pylist()
        for row in rows:
            self.probes.withdraw(row["source_sha256"], Failure(reason=CHANGED, message=row["message"]))
        if rows and self.archive.hashes is not None:
            self.archive.hashes.drop({row["source"]: row["source_sha256"] for row in rows})
        for message in sorted({row["message"] for row in rows})[:_SAID]:
            self.progress.say(message)

    def _removed(self, plan: SegmentPlan | SelectedSegments) -> list[Segment]:
        if not self.last:
            return []
        return tombstones(self.store, self.last, present={p.segment.source for p in plan})

    def _nothing_decodes(self, table: pa.Table) -> UserError:
        reasons = Counter(row["reason"] for row in rows_of(table, ("status", "reason")) if row["status"] == QUARANTINED)
        listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        return UserError(f"videos: no decodable video among {self.files} files: {listed}")

    def publish(self, table: pa.Table, shards: Sequence[Shard], out: Path) -> dict[str, Any]:
        """Writes the three tables; returns their summary."""
        config = self.config
        geometry = Geometry(short_side=config.short_side, fps=config.fps, qp=config.qp, gop=config.gop)
        write_index(out / INDEX, table, geometry)
        write_shards(out / SHARDS, shards)
        pq.write_table(self.probes.table(), out / PROBES, compression="zstd")
        return summarise(table, shards=len(shards))
