"""Accuracy of the demo over several seeds: pretraining against random init, pooled over seeds.

    python benchmarks/demo_seeds.py --videos data/demo --model pace-r2plus1d --seeds 5 --out benchmarks/demo_seeds.md

Each seed changes initial weights, draws and shuffling of pretraining and fine-tuning; videos and splits stay. A
difference is the mean over seeds of right-or-wrong on the same test segment. Finished seeds are found in the store, so
it can be interrupted.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rushes.evaluation.statistics import Interval, difference_interval, share_interval
from rushes.home import open_store
from rushes.store import Manifest

PROTOCOLS = ("fine-tune", "linear probe", "nearest neighbour")


def rushes(*arguments: str) -> None:
    """Runs a step by its verb."""
    subprocess.run([sys.executable, "-m", "rushes.cli", *arguments], check=True)


def evaluate(model: str, seed: int, folder: Path) -> Path:
    """Runs the steps from pretraining to evaluation with a seed; returns the evaluation's pointer."""
    names = ("backbone", "classifier", "baseline", "bundle", "evaluation")
    out = {name: str(folder / f"{name}-{seed}.json") for name in names}
    recipe = (model, "--size", "cpu", "--seed", str(seed))
    footage = ("--footage", str(folder / "footage.json"))
    backbone = ("--backbone", out["backbone"])
    rushes("pretrain", *recipe, *footage, "--out", out["backbone"])
    rushes("finetune", *recipe, *footage, *backbone, "--out", out["classifier"])
    rushes("finetune", *recipe, *footage, *backbone, "--init", "random", "--out", out["baseline"])
    rushes("export", *recipe, "--classifier", out["classifier"], "--out", out["bundle"])
    tested = ("--classifier", out["classifier"], "--baseline", out["baseline"], "--bundle", out["bundle"])
    rushes("evaluate", *recipe, *footage, *backbone, *tested, "--out", out["evaluation"])
    return Path(out["evaluation"])


def right(pointer: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong, and the group, of each test segment."""
    store = open_store()
    table = pq.read_table(store.path(Manifest.read(pointer).files["predictions.parquet"])).to_pydict()
    return (np.array(table[column]) == np.array(table["label"])).astype(float), np.array(table["group"])


def text(interval: Interval, *, signed: bool = False) -> str:
    """In percent."""
    sign = "+" if signed else ""
    if interval.low is None or interval.high is None:
        return f"{100 * interval.value:{sign}.1f}"
    return f"{100 * interval.value:{sign}.1f} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


def main() -> None:
    """Runs the seeds and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", required=True)
    parser.add_argument("--model", default="pace-r2plus1d")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = Path(os.environ.get("RUSHES_HOME", ".rushes")) / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    pin, footage = str(folder / "pin.json"), str(folder / "footage.json")
    rushes("pin", "--videos", arguments.videos, "--out", pin)
    rushes("sample", arguments.model, "--size", "cpu", "--pin", pin, "--out", footage)
    pointers = [evaluate(arguments.model, seed, folder) for seed in range(arguments.seeds)]
    arguments.out.write_text(table(arguments.model, arguments.seeds, pointers))


def table(model: str, seeds: int, pointers: list[Path]) -> str:
    """The table in Markdown."""
    lines = [
        f"# {model} --size cpu on the embedded videos, {seeds} seeds",
        "",
        "| protocol | pretrained | random init | difference | each seed's difference |",
        "|---|---|---|---|---|",
    ]
    for protocol in PROTOCOLS:
        pairs = [[right(p, f"{protocol}, {init}") for init in ("pretrained", "random")] for p in pointers]
        groups = pairs[0][0][1]
        first = np.mean([pair[0][0] for pair in pairs], axis=0)
        second = np.mean([pair[1][0] for pair in pairs], axis=0)
        cells = [text(share_interval(values, groups)) for values in (first, second)]
        gap = text(difference_interval(first - second, groups), signed=True)
        each = ", ".join(f"{100 * (pair[0][0].mean() - pair[1][0].mean()):+.1f}" for pair in pairs)
        lines.append(f"| {protocol} | {cells[0]} | {cells[1]} | {gap} | {each} |")
    summary = Manifest.read(pointers[0]).summary
    versions = Manifest.read(pointers[0]).versions
    lines += [
        "",
        f"Top-1 in percent on {summary['test']['segments']} test segments of {summary['test']['groups']} groups, "
        f"chance {100 * summary['chance']:.1f}; 95 % intervals of the mean over seeds, groups counted as units. Test "
        f"manifest `{summary['test']['manifest_sha256'][:12]}`. The spread over seeds: last column.",
        "",
        f"`python benchmarks/demo_seeds.py --videos data/demo --model {model} --seeds {seeds} --out FILE`, "
        f"{os.cpu_count()} cores of {platform.machine()}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("machine",))
        + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
