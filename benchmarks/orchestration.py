"""What running the steps as a compiled pipeline costs beside the steps themselves.

    rushes demo; python -m benchmarks.orchestration .rushes/runs/*-demo --out benchmarks/orchestration.md

For finished runs: the time between the run's beginning and its results in which no step was working. It includes
process starts, imports before a step begins, kfp.local, the summary and the waiting in between; the work of a step is
what its own clock says.
"""

import argparse
import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

from benchmarks._runs import processor
from rushes.progress import read_events


def measured(run: Path) -> tuple[int, float, float]:
    """Tasks of a run, their seconds of work, and the run's seconds."""
    events, _ = read_events(run / "progress.jsonl")
    endings = [event for event in events if event["event"] == "end"]
    began = (run / "arguments.json").stat().st_mtime
    ended = (run / "results.json").stat().st_mtime
    return len(endings), sum(event["seconds"] for event in endings), ended - began


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = [
        "# The pipeline's own share",
        "",
        "| run | tasks | work, s | whole, s | orchestration / work |",
        "|---|---|---|---|---|",
    ]
    shares = []
    for run in arguments.runs:
        tasks, work, whole = measured(run)
        cached = sum(event["cached"] for event in json.loads((run / "results.json").read_text()))
        shares.append((whole - work) / work)
        name = f"{tasks} ({cached} already done)" if cached else str(tasks)
        lines.append(f"| {run.name} | {name} | {work:.1f} | {whole:.1f} | {100 * shares[-1]:.1f} % |")
    lines += ["", f"Median {100 * statistics.median(shares):.1f} %; at most 10 % was asked for.", ""]
    versions = f"{processor()}, python {platform.python_version()}, kfp {version('kfp')}"
    lines.append(f"`python -m benchmarks.orchestration RUN...`, {versions}.")
    arguments.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
