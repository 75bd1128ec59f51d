"""Writing the shards of a run: each once, by worker processes, and again only where a run was killed.

A finished shard leaves a record under `partial/<digest>/` in the store, so that a killed run redoes no complete shard,
and so that several machines can share the work.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rushes.config import SampleConfig
from rushes.errors import OutrunError, RushesError
from rushes.footage.pinned import MAY_RETURN
from rushes.footage.probes import crash_failure
from rushes.footage.segment_plan import Failure, SegmentPlan
from rushes.footage.shards import ShardRecord, ShardTask, motion_file, shard_file, try_sources, write_shard
from rushes.footage.workers import Crashed, Pool
from rushes.progress import Progress
from rushes.store import Store
from rushes.strict import to_record


class ShardWriter:
    """Plans and writes the shards of one piece of work.

    Args:
        root: folder or URL of the videos.
        config: the recipe.
        store: where the shards and their records go.
        digest: names the work.
        pool: the worker processes.
        progress: where to report to.
    """

    def __init__(
        self, *, root: str, config: SampleConfig, store: Store, digest: str, pool: Pool, progress: Progress
    ) -> None:
        self.root, self.config, self.store, self.pool, self.progress = root, config, store, pool, progress
        self.records = f"partial/{digest}"
        self.folder: Path = store.folder(self.records)

    def tasks(
        self, plan: SegmentPlan, positions: npt.NDArray[np.int64], *, stamps: Mapping[str, str] | None
    ) -> list[ShardTask]:
        """The shards to write: the segments at these positions, in order, each content once.

        Args:
            plan: the planned segments.
            positions: of those to encode.
            stamps: by path, of the files when they were pinned; None checks no file.
        """
        _, first = np.unique(plan.keys[positions], return_index=True)
        once, size = positions[np.sort(first)], self.config.shard_segments
        parts = (plan.select(once[begin : begin + size]) for begin in range(0, len(once), size))
        return [
            ShardTask(
                number=number,
                root=self.root,
                planned=part,
                config=self.config,
                store=self.store.url,
                folder=str(self.folder),
                stamps=stamps and {p.segment.source: stamps.get(p.segment.source, "") for p in part},
            )
            for number, part in enumerate(parts)
        ]

    def write(self, tasks: Sequence[ShardTask], *, seconds: float = math.inf) -> list[ShardTask]:
        """Writes the shards that have no record yet; returns those that are complete after `seconds`, or at the end."""
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
            record = self._without_crashing_files(task) if isinstance(result, Crashed) else result
            self.store.write(self._record_name(task), record.to_json())
            frames += record.shard.frames
            speed = {"frames/s": frames / (time.monotonic() - began)}
            bar.advance(len(task.planned), **speed)
            complete.append(task)
            if time.monotonic() - began > seconds:
                break
        return complete

    def record(self, task: ShardTask) -> ShardRecord:
        """The record of a shard that is written.

        Raises:
            OutrunError: it is no longer in the store: another run of the same work has ended.
        """
        data = self.store.read(self._record_name(task))
        if data is None:
            raise OutrunError(f"sample: the record of shard {task.number} is no longer in the store: run it again")
        return ShardRecord.from_json(data)

    def _is_complete(self, task: ShardTask) -> bool:
        data = self.store.read(self._record_name(task))
        if data is None:
            return False
        record = ShardRecord.from_json(data)
        if any(segment.measured.reason in MAY_RETURN for segment in record.segments):
            return False
        shard = record.shard
        return self.store.holds(shard_file(shard)) and self.store.holds(motion_file(shard))

    def _record_name(self, task: ShardTask) -> str:
        """Holds a digest of the shard's plan: the record of another plan is not found."""
        lasting = to_record(dataclasses.replace(self.config, workers=0))
        plan = json.dumps([[p.segment.key, p.segment.source, p.fps] for p in task.planned] + [lasting], sort_keys=True)
        return f"{self.records}/shard-{task.number:05d}-{hashlib.sha256(plan.encode()).hexdigest()[:16]}.json"

    def _without_crashing_files(self, task: ShardTask) -> ShardRecord:
        """Writes a shard that crashes its process: tries each file alone, then leaves out those that crash."""
        crashed: dict[str, Failure] = {}
        for path in sorted({p.segment.source for p in task.planned}):
            alone = dataclasses.replace(task, planned=[p for p in task.planned if p.segment.source == path])
            result = self.pool.run_alone(try_sources, alone)
            if isinstance(result, Crashed):
                crashed[path] = crash_failure(path, result)
        record = self.pool.run_alone(write_shard, dataclasses.replace(task, crashed=crashed))
        if isinstance(record, Crashed):
            raise RushesError(
                f"sample: the process that writes shard {task.number} crashes (exit {record.exitcode}) though each of "
                "its files decodes alone: check free memory, or lower sample.workers"
            )
        return record
