"""The probes of an archive's contents: found in worker processes, kept in columns, written to `probes.parquet`."""

import dataclasses
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rushes.config import SampleConfig
from rushes.footage.columns import column
from rushes.footage.index import read_columns
from rushes.footage.pinned import CHANGED
from rushes.footage.probing import ProbeTask, probe_sources
from rushes.footage.rows import source_number
from rushes.footage.segment_plan import Failure
from rushes.footage.sources import Source
from rushes.footage.workers import Crashed, Pool
from rushes.progress import Progress
from rushes.store import Manifest, Store
from rushes.video.probe import Probe

PROBES = "probes.parquet"
TRANSIENT = ("timeout", "decoder_crash", "unreadable", "forgotten", CHANGED)
"""Reasons for which a file that failed once may succeed in another run."""
_FILES_PER_TASK = 16
_LASTING = 16  # tasks per process; probing more leaves 3 MB of holes on its heap, which are worth a new process
_NOTHING = Probe(width=0, height=0, fps=0.0, frames=0, seconds=0.0, codec="")


class ProbeTable:
    """The probe of each content, in columns: a tenth of the memory of the objects."""

    def __init__(self) -> None:
        self._contents = bytearray()
        self._sizes, self._frames, self._rates = array("i"), array("q"), array("d")
        self._moved = array("b")
        self._codecs: list[str] = []
        self._failures: dict[int, Failure] = {}
        self._order: npt.NDArray[np.int64] | None = None
        self._numbers: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, sha256: str, probe: Probe | Failure) -> None:
        """Adds a content, once."""
        self._order = None
        if isinstance(probe, Failure):
            self._failures[len(self._codecs)] = probe
            probe = _NOTHING
        self._contents += bytes.fromhex(sha256)
        self._sizes.extend((probe.width, probe.height))
        self._frames.append(probe.frames)
        self._rates.extend((probe.fps, probe.seconds, probe.start))
        self._moved.append(probe.moved)
        self._codecs.append(sys.intern(probe.codec))

    def withdraw(self, sha256: str, failure: Failure) -> None:
        """Takes back what was read of a content, for a reason that was found later."""
        self._failures[self._row(sha256)] = failure

    def _row(self, sha256: str) -> int:
        order = self._sorted()
        row = int(order[np.searchsorted(self._numbers, np.uint64(source_number(sha256)))])
        assert self._sha256(row) == sha256
        return row

    def __getitem__(self, sha256: str) -> Probe | Failure:
        row = self._row(sha256)
        if row in self._failures:
            return self._failures[row]
        width, height = self._sizes[2 * row : 2 * row + 2]
        fps, seconds, start = self._rates[3 * row : 3 * row + 3]
        return Probe(
            width=width,
            height=height,
            fps=fps,
            frames=self._frames[row],
            seconds=seconds,
            codec=self._codecs[row],
            start=start,
            moved=bool(self._moved[row]),
        )

    def _sha256(self, row: int) -> str:
        return self._contents[32 * row : 32 * row + 32].hex()

    def _sorted(self) -> npt.NDArray[np.int64]:
        """Rows in the order of the contents."""
        if self._order is None:
            # The first 64 bits of a digest: no two contents of an archive share them.
            numbers = np.frombuffer(bytes(self._contents), ">u8")[::4].astype(np.uint64)
            self._order = np.argsort(numbers, kind="stable")
            self._numbers = numbers[self._order]
        return self._order

    def table(self) -> pa.Table:
        """The table of `probes.parquet`: one row per content, in the order of the contents."""
        order = self._sorted()
        failed = np.zeros(len(order), dtype=bool)
        failed[list(self._failures)] = True
        sizes, rates = np.array(self._sizes).reshape(-1, 2)[order], np.array(self._rates).reshape(-1, 3)[order]
        missing, rows = failed[order], order.tolist()
        columns = {
            "width": column(sizes[:, 0], pa.int32(), missing=missing),
            "height": column(sizes[:, 1], pa.int32(), missing=missing),
            "fps": column(rates[:, 0], pa.float64(), missing=missing),
            "frames": column(np.array(self._frames)[order], pa.int64(), missing=missing),
            "seconds": column(rates[:, 1], pa.float64(), missing=missing),
            "start": column(rates[:, 2], pa.float64(), missing=missing),
            "moved": column(np.array(self._moved)[order], pa.int8(), missing=missing),
            "codec": column([self._codecs[row] for row in rows], pa.string(), missing=missing),
            "sha256": column([self._sha256(row) for row in rows], pa.string()),
        }
        for name in ("reason", "message"):
            texts = [getattr(self._failures.get(row), name, "") for row in rows]
            columns[name] = column(texts, pa.string())
        return pa.table(columns)


def read_probes(store: Store, manifest: Manifest) -> dict[str, Probe | Failure]:
    """Reads `probes.parquet`, except for failures that may succeed in another run.

    Those of version 0.1, which believed headers, are not read.
    """
    found: dict[str, Probe | Failure] = {}
    table = read_columns(store.checked(manifest.files[PROBES]))
    for row in table.to_pylist() if "moved" in table.column_names else ():
        sha256, probe = row.pop("sha256"), _probe(row)
        if isinstance(probe, Probe) or probe.reason not in TRANSIENT:
            found[sha256] = probe
    return found


def _probe(row: dict[str, Any]) -> Probe | Failure:
    reason, message = row.pop("reason"), row.pop("message")
    return Failure(reason=reason, message=message) if reason else Probe(**row | {"moved": bool(row["moved"])})


def probe_files(
    sources: Sequence[Source],
    found: ProbeTable,
    *,
    root: str,
    config: SampleConfig,
    pool: Pool,
    progress: Progress,
    pinned: bool = True,
) -> None:
    """Probes contents in worker processes and adds them to `found`.

    Args:
        sources: a file of each content.
        found: the table to add to.
        root: folder or URL of the videos.
        config: the recipe.
        pool: the worker processes.
        progress: where to report to.
        pinned: whether the SHA-256 of the sources are of their contents, and are checked.
    """
    if not sources:
        return
    bar = progress.bar("probe", total=len(sources), unit="files")
    size = min(_FILES_PER_TASK, -(-len(sources) // pool.workers.count))  # few files are spread over all workers
    batches = [sources[begin : begin + size] for begin in range(0, len(sources), size)]
    tasks = [ProbeTask(root=root, files=batch, config=config, pinned=pinned) for batch in batches]
    for task, result in pool.run(probe_sources, tasks):
        probes = _probe_one_by_one(task, pool) if isinstance(result, Crashed) else result
        for source in task.files:
            found.add(source.sha256, probes[source.sha256])
        bar.advance(len(task.files))
    if len(tasks) > _LASTING * pool.workers.count:
        pool.close()


def _probe_one_by_one(task: ProbeTask, pool: Pool) -> dict[str, Probe | Failure]:
    found: dict[str, Probe | Failure] = {}
    for source in task.files:
        result = pool.run_alone(probe_sources, dataclasses.replace(task, files=[source]))
        found |= {source.sha256: crash_failure(source.path, result)} if isinstance(result, Crashed) else result
    return found


def crash_failure(path: str, crashed: Crashed[Any]) -> Failure:
    """Why a file that crashes its process cannot be used."""
    if crashed.by_deadline:
        return Failure(reason="timeout", message=f"{path}: the decoder did not return in time")
    return Failure(reason="decoder_crash", message=f"{path}: the decoder's process crashed (exit {crashed.exitcode})")
