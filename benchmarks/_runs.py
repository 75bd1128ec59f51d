"""A job in its own process, whose time and memory the benchmarks measure: JSON in, figures in JSON out.

    python -m benchmarks._runs sample '{"root": ..., "listing": ..., "store": ..., "out": ..., "config": {...}}'
    python -m benchmarks._runs plan '{"root": ..., "seed": 0, "share": 0.01}'
    python -m benchmarks._runs reader_memory '{"manifest": ..., "store": ..., "span": 64, "draws": 1000}'

It imports only what the job itself needs.
"""

import compileall
import dataclasses
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import rushes
from rushes.config import SampleConfig
from rushes.footage.archive import list_archive
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.files import content_digest
from rushes.footage.probes import PROBES
from rushes.footage.sample import Archive, sample_footage
from rushes.footage.sources import Source
from rushes.progress import NullProgress
from rushes.store import Manifest, Store

_INTERVAL = 0.1  # seconds between two measurements of memory


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished job."""

    figures: dict[str, Any]
    peak: int
    """Peak of the sum of PSS over the process and its descendants; bytes."""
    worker: int
    """Peak resident memory of one descendant, sampled ten times per second; bytes."""


def run(job: str, *, memory: bool = False, **arguments: object) -> Run:
    """Runs a job in a fresh process; measures its memory only if `memory` is set.

    Raises:
        CalledProcessError: it fails.
    """
    _compile()
    command = [sys.executable, "-m", "benchmarks._runs", job, json.dumps(arguments, default=str)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak, worker = _peak(process) if memory else (0, 0)
        output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(figures=json.loads(output), peak=peak, worker=worker)


def processor() -> str:
    """The CPU's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


@cache
def _compile() -> None:
    """Writes the package's bytecode, as an installer does, so that no process has to compile what it imports."""
    compileall.compile_dir(Path(rushes.__file__).parent, quiet=1)


def sampled(root: Path, work: Path, *, memory: bool = False, **config: object) -> tuple[Run, Manifest, Store]:
    """Samples the videos under `root` into a new store under `work`; returns figures and the footage."""
    listing, out, store = work / "listing.json", work / "out", Store(str(work / "store"))
    out.mkdir(parents=True)
    files = [(item.path, content_digest(str(root), item.path), item.size) for item in list_archive(str(root)).files]
    listing.write_text(json.dumps(files))
    done = run("sample", memory=memory, root=root, listing=listing, store=store.url, out=out, config=config)
    return done, footage(out, store), store


def footage(out: Path, store: Store) -> Manifest:
    """The manifest of footage whose tables are in `out`."""
    files = {name: store.put(out / name) for name in (INDEX, SHARDS, PROBES) if (out / name).exists()}
    return Manifest(kind="footage", step="sample", digest="0" * 16, inputs={}, config={}, code="", files=files)


def _peak(process: "subprocess.Popen[str]") -> tuple[int, int]:
    import psutil

    tree, peak, worker = psutil.Process(process.pid), 0, 0
    while process.poll() is None:
        total = 0
        for member in [tree, *_children(tree)]:
            try:
                held = member.memory_full_info()
                total += held.pss
                worker = max(worker, held.rss if member != tree else 0)
            except psutil.Error:  # it ended meanwhile
                continue
        peak = max(peak, total)
        time.sleep(_INTERVAL)
    return peak, worker


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        found: list[Any] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


# In the process ------------------------------------------------------------------------------------------------------


def sample(*, root: str, listing: str, store: str, out: str, config: dict[str, Any]) -> dict[str, Any]:
    """Samples as the `sample` step does; seconds of the whole call, the start of its workers included."""

    def archive() -> Archive:
        files = json.loads(Path(listing).read_text())
        return Archive(root=root, sources=(Source(path=path, sha256=sha256, size=size) for path, sha256, size in files))

    began = time.perf_counter()
    summary = sample_footage(
        archive=archive(),
        config=SampleConfig(**config),
        store=Store(store),
        digest="benchmark",
        out=Path(out),
        progress=NullProgress(),
    )
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "summary": summary, "parent": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def reader_memory(*, manifest: str, store: str, span: int, draws: int) -> dict[str, Any]:
    """Resident memory of a reader worker after each part is loaded: libraries, PyTorch, footage, windows, draws."""
    import psutil

    held: dict[str, int] = {}

    def note(name: str) -> None:
        held[name] = psutil.Process().memory_info().rss

    from rushes.footage.reader import Footage

    note("reader")
    from rushes.training.data import Windows

    note("torch")
    opened = Footage(Manifest.read(Path(manifest)), Store(store))
    note("footage")
    windows = Windows.of(opened, opened.select(), span=span, seed=0)
    note("windows")
    step = max(1, windows.samples // draws)
    for number in range(draws):
        windows[0, number * step]
    note("draws")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"held": held, "peak": peak, "windows": windows.samples, "frames": int(opened.segments.frames.sum())}


def plan(*, root: str, seed: int, share: float) -> dict[str, Any]:
    """What `rushes plan` predicts for sampling: [low, middle, high] by name."""
    from rushes.forecast.sampling import ListedArchive, sample_part
    from rushes.recipes import load_recipe

    recipe = dataclasses.replace(load_recipe("vcop-r3d"), seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        found = sample_part(
            recipe,
            ListedArchive(root=root, files=list_archive(root).files),
            share=share,
            scratch=Path(scratch),
            progress=NullProgress(),
        )
    ranges = {"core-seconds": found.core_seconds, "bytes": found.size, "frames": found.frames}
    figures = {name: dataclasses.astuple(one) for name, one in ranges.items()}
    known = {"hours": found.seconds / 3600, "share": found.share, "segments": found.drawn, "opened": len(found.files)}
    return {"ranges": figures, **known}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"sample": sample, "reader_memory": reader_memory, "plan": plan}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
