"""The work of the `sample` step: videos to footage.

    summary = sample_footage(root="videos", sources=..., annotations=..., config=Sample(), store=store,
                             digest="0123abcd", out=Path("out"), progress=NullProgress())

Files are probed, the plan is made (`rushes.footage.plan`), and worker processes write one shard at a time
(`rushes.footage.shards`). A finished shard leaves a record under `partial/<digest>/` in the store, so that a run that
was killed redoes no complete shard. The bytes depend on the plan alone.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rushes.config import Sample, to_record
from rushes.errors import RushesError, UserError
from rushes.footage.index import QUARANTINED, SAMPLED, Geometry, Segment, write_index, write_shards
from rushes.footage.labels import SPLITS, Annotation
from rushes.footage.plan import Failure, Planned, Source, check_coverage, plan_segments
from rushes.footage.shards import (
    ProbeTask,
    ShardRecord,
    ShardTask,
    probe_sources,
    stored_file,
    try_sources,
    write_shard,
)
from rushes.footage.workers import Died, run_alone, run_tasks
from rushes.progress import Progress
from rushes.store import Store
from rushes.video.decode import Probe

__all__ = ["Annotation", "Source", "sample_footage"]

_PROBES_A_TASK = 16
_LISTED = 20  # quarantined segments that the summary names


def sample_footage(
    *,
    root: str | Path,
    sources: Sequence[Source],
    annotations: Sequence[Annotation],
    config: Sample,
    store: Store,
    digest: str,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Samples every source; writes `index.parquet` and `shards.parquet` into `out`, the shards into the store.

    Returns:
        What the manifest's summary says: counts, seconds and bytes, by split and by class, and the quarantine.

    Raises:
        UserError: nothing decodes, or the splits contradict each other or leave a class without training segments.
    """
    workers = config.workers or os.cpu_count() or 1
    probes = _probe_all(str(root), sources, config, workers, progress)
    planned = plan_segments(sources, annotations, probes, config)
    if all(p.row.status == QUARANTINED for p in planned):
        raise _nothing_decodes([p.row for p in planned], len(sources))
    tasks = _shard_tasks(planned, probes, root=str(root), config=config, store=store, digest=digest)
    records = _write_all(tasks, store, digest, workers, progress)
    rows = [row for number in sorted(records) for row in records[number].rows]
    sampled = [row for row in rows if row.status == SAMPLED]
    if not sampled:
        raise _nothing_decodes(rows, len(sources))
    check_coverage(sampled)
    geometry = Geometry(short_side=config.short_side, fps=config.fps, qp=config.qp, gop=config.gop)
    write_index(out / "index.parquet", rows, geometry)
    write_shards(out / "shards.parquet", [records[number].shard for number in sorted(records)])
    messages = {path: probe.message for path, probe in probes.items() if isinstance(probe, Failure)}
    for record in records.values():
        messages |= record.messages
    return _summary(rows, messages, shards=len(records))


def _nothing_decodes(rows: Sequence[Segment], files: int) -> UserError:
    reasons = Counter(row.reason for row in rows)
    listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    return UserError(f"videos: no decodable video among {files} files: {listed}")


# Probing -------------------------------------------------------------------------------------------------------------


def _probe_all(
    root: str, sources: Sequence[Source], config: Sample, workers: int, progress: Progress
) -> dict[str, Probe | Failure]:
    batches = [sources[n : n + _PROBES_A_TASK] for n in range(0, len(sources), _PROBES_A_TASK)]
    tasks = [ProbeTask(root=root, sources=batch, config=config) for batch in batches]
    bar = progress.bar("probe", total=len(sources), unit="files")
    found: dict[str, Probe | Failure] = {}
    for task, result in run_tasks(probe_sources, tasks, workers=workers):
        found |= _probe_one_by_one(task) if isinstance(result, Died) else result
        bar.advance(len(task.sources))
    return found


def _probe_one_by_one(task: ProbeTask) -> dict[str, Probe | Failure]:
    found: dict[str, Probe | Failure] = {}
    for source in task.sources:
        result = run_alone(probe_sources, dataclasses.replace(task, sources=[source]))
        found |= {source.path: _death(source.path, result)} if isinstance(result, Died) else result
    return found


def _death(path: str, died: Died[Any]) -> Failure:
    if died.by_alarm:
        return Failure(reason="timeout", message=f"{path}: the decoder did not come back in time")
    return Failure(reason="decoder_crash", message=f"{path}: the decoder's process died (exit {died.exitcode})")


# Shards --------------------------------------------------------------------------------------------------------------


def _shard_tasks(
    planned: Sequence[Planned],
    probes: Mapping[str, Probe | Failure],
    *,
    root: str,
    config: Sample,
    store: Store,
    digest: str,
) -> list[ShardTask]:
    folder = store.folder(f"partial/{digest}")
    _sweep(folder)
    size = config.shard_segments
    tasks = []
    for number, begin in enumerate(range(0, len(planned), size)):
        part = planned[begin : begin + size]
        fps = {}
        for p in part:
            probe = probes[p.row.source]
            if isinstance(probe, Probe):
                fps[p.row.source] = probe.fps
        task = ShardTask(
            number=number, root=root, planned=part, fps=fps, config=config, store=store.url, folder=str(folder)
        )
        tasks.append(task)
    return tasks


def _sweep(folder: Path) -> None:
    """Removes what killed runs left; a day old, so that no run that goes on beside this one loses its file."""
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > 24 * 3600:
            part.unlink(missing_ok=True)


def _write_all(
    tasks: Sequence[ShardTask], store: Store, digest: str, workers: int, progress: Progress
) -> dict[int, ShardRecord]:
    bar = progress.bar("sample", total=sum(len(task.planned) for task in tasks), unit="segments")
    records: dict[int, ShardRecord] = {}
    for number, record in _finished(tasks, store, digest):
        records[number] = record
        bar.advance(len(record.rows))
    if records:
        progress.say(f"{len(records)} of {len(tasks)} shards are complete from an earlier run")
    remaining = [task for task in tasks if task.number not in records]
    for task, result in run_tasks(write_shard, remaining, workers=workers):
        record = _write_without_killers(task) if isinstance(result, Died) else result
        store.write(_record_name(task, digest), record.to_json())
        records[task.number] = record
        bar.advance(len(record.rows))
    return records


def _record_name(task: ShardTask, digest: str) -> str:
    """The plan is part of the name: a record of another plan is not found."""
    plan = json.dumps([dataclasses.asdict(p) for p in task.planned] + [_lasting(task.config)], sort_keys=True)
    return f"partial/{digest}/shard-{task.number:05d}-{hashlib.sha256(plan.encode()).hexdigest()[:16]}.json"


def _lasting(config: Sample) -> dict[str, Any]:
    return to_record(dataclasses.replace(config, workers=0))


def _finished(tasks: Sequence[ShardTask], store: Store, digest: str) -> Iterator[tuple[int, ShardRecord]]:
    for task in tasks:
        data = store.read(_record_name(task, digest))
        if data is None:
            continue
        record = ShardRecord.from_json(data)
        try:
            store.path(stored_file(record.shard))
        except UserError:
            continue  # its tar has gone: written anew
        yield task.number, record


def _write_without_killers(task: ShardTask) -> ShardRecord:
    """A shard that kills its process: each file alone, the killers quarantined, then the shard without them."""
    banned: dict[str, Failure] = {}
    for path in sorted({p.row.source for p in task.planned}):
        part = dataclasses.replace(task, planned=[p for p in task.planned if p.row.source == path])
        result = run_alone(try_sources, part)
        if isinstance(result, Died):
            banned[path] = _death(path, result)
    record = run_alone(write_shard, dataclasses.replace(task, banned=banned))
    if isinstance(record, Died):
        raise RushesError(
            f"sample: the process that writes shard {task.number} dies (exit {record.exitcode}) though every file of "
            "it decodes alone: check free memory, or lower sample.workers"
        )
    return record


# Summary -------------------------------------------------------------------------------------------------------------


def _summary(rows: Sequence[Segment], messages: Mapping[str, str], *, shards: int) -> dict[str, Any]:
    sampled = [row for row in rows if row.status == SAMPLED]
    bad = [row for row in rows if row.status == QUARANTINED]
    labels = sorted({row.label for row in sampled if row.label})
    return {
        **_totals(sampled),
        "shards": shards,
        "files": len({row.source for row in sampled}),
        "groups": len({row.group for row in sampled}),
        "splits": {split: _totals([row for row in sampled if row.split == split]) for split in SPLITS},
        "classes": labels,
        "per_class": {
            label: dict(sorted(Counter(row.split for row in sampled if row.label == label).items())) for label in labels
        },
        "quarantined": len(bad),
        "quarantine_reasons": dict(sorted(Counter(row.reason for row in bad).items())),
        "quarantine": [
            {
                "source": row.source,
                "start": row.start,
                "reason": row.reason,
                "message": messages.get(row.key) or messages.get(row.source, ""),
            }
            for row in bad[:_LISTED]
        ],
    }


def _totals(rows: Sequence[Segment]) -> dict[str, Any]:
    return {
        "segments": len(rows),
        "seconds": round(sum(row.frames / row.fps for row in rows), 3),
        "frames": sum(row.frames for row in rows),
        "bytes": sum(row.bytes for row in rows),
    }
