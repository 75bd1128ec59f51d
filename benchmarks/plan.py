"""What `rushes plan` predicts from 1 % of an archive, against what sampling all of it takes.

    python -m benchmarks.plan

Prints a table and writes `benchmarks/plan.md`. Needs ffmpeg's command line tool.
"""

import ctypes
import os
import platform
import resource
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import _films
from benchmarks._runs import processor, run, sampled
from rushes.footage.archive import list_archive

OUT = Path(__file__).with_name("plan.md")
CORES = os.cpu_count() or 1
_SUBREAPER = 36  # of prctl.h


def main(*, files: int = 4000, seeds: int = 8, share: float = 0.01, out: Path = OUT) -> None:
    """Plans from a share of a synthetic archive with several seeds, and samples all of it once."""
    # Orphaned grandchildren become our children, so that their time is counted when they end.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder) / "archive", Path(folder) / "work"
        _films.varied(root, count=files)
        plans, costs = [], []
        for seed in range(seeds):
            began = _clock()
            plans.append(run("plan", root=root, seed=seed, share=share).figures)
            costs.append(_clock() - began)
        began = _clock()
        done, _, _ = sampled(root, work, workers=CORES)
        seconds = _clock() - began
        summary = done.figures["summary"]
        whole = {"core-seconds": seconds, "bytes": summary["new_bytes"], "frames": summary["frames"]}
        listed = list_archive(str(root)).files
    lines = _table(plans, whole, costs)
    sizes = [file.size for file in listed]
    remark = (
        f"{len(listed):,} files of {min(sizes) / 1e3:,.0f} kB to {max(sizes) / 1e6:,.1f} MB, {sum(sizes) / 1e9:.2f} "
        f"GB, {plans[0]['hours']:.1f} hours: 24 films of 320 x 240 to 1280 x 720 pixels, 24 to 30 frames a "
        "second, four kinds of content and grain, cut at log-normal lengths. Planned from "
        f"{100 * np.mean([one['share'] for one in plans]):.2f} % of the work ({plans[0]['segments']} segments, of "
        f"{plans[0]['opened']} files that were opened), {seeds} times with other seeds; then all of it was sampled "
        f"once, by {CORES} workers, default recipe. Time is user and system of all processes, "
        f"at niceness {os.nice(0)}; load average {before:.1f} before and {os.getloadavg()[0]:.1f} after."
    )
    command = " ".join(["python -m benchmarks.plan", *sys.argv[1:]])
    packages = ", ".join(f"{name} {version(name)}" for name in ("av", "numpy", "pyarrow", "scipy"))
    text = "\n".join(
        [
            "# What a plan predicts, against what sampling takes",
            "",
            *lines,
            "",
            remark.strip(),
            "",
            f"`{command}`, {CORES} cores of {processor()}, python {platform.python_version()}, {packages}.",
            "",
        ]
    )
    print(text)
    out.write_text(text)


def _table(plans: list[dict[str, Any]], whole: dict[str, float], costs: list[float]) -> list[str]:
    heads = ("", "sampling all of it", "plan / measured, median", "worst", "within the range", "target")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, value in whole.items():
        low, middle, high = np.array([plan["ranges"][name] for plan in plans]).T
        ratios = middle / value
        worst = ratios[np.argmax(np.abs(np.log(ratios)))]
        held = int(np.sum((low <= value) & (value <= high)))
        target = "" if name == "frames" else "0.75 to 1.25"
        measured = (f"{value:,.0f}", f"{np.median(ratios):.3f}", f"{worst:.3f}", f"{held} of {len(plans)}")
        cells = (name, *measured, target)
        lines.append(f"| {' | '.join(cells)} |")
    each = float(np.median(costs))
    share = f"{each:,.1f} ({100 * each / whole['core-seconds']:.1f} %)"
    lines.append(f"| core-seconds of a plan, its start included | {share} | | | | |")
    return lines


def _clock() -> float:
    """User and system seconds of this process and of all that have ended under it."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    tyro.cli(main)
