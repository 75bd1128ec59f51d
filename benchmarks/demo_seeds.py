"""Accuracy of the demo over several seeds: pretraining against random init, pooled over seeds.

    python benchmarks/demo_seeds.py --videos data/demo --model pace-r2plus1d --seeds 5 --precision fp32 bf16 \
        --out benchmarks/demo_seeds.md

One table for each precision, then their difference (their seconds: training.py). Each seed changes initial weights,
draws and shuffling of pretraining and fine-tuning; videos and splits stay. A difference is the mean over seeds of
right-or-wrong on the same test segment. Finished seeds are found in the store, so it can be interrupted.
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


def evaluate(model: str, seed: int, precision: str, folder: Path) -> Path:
    """Runs the steps from pretraining to evaluation with a seed; returns the evaluation's pointer."""
    names = ("backbone", "classifier", "baseline", "bundle", "evaluation")
    out = {name: str(folder / f"{precision}-{name}-{seed}.json") for name in names}
    computed = ("--pretrain.precision", precision, "--finetune.precision", precision)
    recipe = (model, "--size", "cpu", "--seed", str(seed), *computed)
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
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = Path(os.environ.get("RUSHES_HOME", ".rushes")) / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    pin, footage = str(folder / "pin.json"), str(folder / "footage.json")
    rushes("pin", "--videos", arguments.videos, "--out", pin)
    rushes("sample", arguments.model, "--size", "cpu", "--pin", pin, "--out", footage)
    seeds, found = range(arguments.seeds), dict[str, list[Path]]()
    for seed in seeds:
        for precision in arguments.precision:
            found.setdefault(precision, []).append(evaluate(arguments.model, seed, precision, folder))
    parts = [f"# {arguments.model} --size cpu on the embedded videos, {arguments.seeds} seeds"]
    parts += [table(precision, pointers) for precision, pointers in found.items()]
    if len(found) == 2:
        parts.append(side_by_side(found))
    arguments.out.write_text("\n\n".join([*parts, made_by(arguments, next(iter(found.values()))[0])]) + "\n")


def table(precision: str, pointers: list[Path]) -> str:
    """Pretrained and random weights, in Markdown."""
    lines = [
        f"## In {precision}",
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
    metadata = text(share_interval(*right(pointers[0], "linear probe, metadata")))
    lines.append(f"| linear probe of metadata only, no frames | {metadata} | | | |")
    return "\n".join(lines)


def side_by_side(found: dict[str, list[Path]]) -> str:
    """Accuracy of pretrained weights by precision, in Markdown."""
    one, other = found
    lines = [
        f"## {other} against {one}",
        "",
        f"| | {one} | {other} | difference |",
        "|---|---|---|---|",
    ]
    for protocol in PROTOCOLS:
        pairs = [[right(p, f"{protocol}, pretrained") for p in two] for two in zip(*found.values(), strict=True)]
        first, second = (np.mean([pair[i][0] for pair in pairs], axis=0) for i in (0, 1))
        groups = pairs[0][0][1]
        gap = text(difference_interval(second - first, groups), signed=True)
        lines.append(f"| {protocol} | {100 * first.mean():.1f} | {100 * second.mean():.1f} | {gap} |")
    return "\n".join(lines)


def made_by(arguments: argparse.Namespace, pointer: Path) -> str:
    """What was counted, and the command."""
    found = Manifest.read(pointer)
    test, versions = found.summary["test"], found.versions.items()
    return (
        f"Top-1 in percent on {test['segments']} test segments of {test['groups']} groups, "
        f"chance {100 * found.summary['chance']:.1f}; 95 % intervals of the mean over seeds, groups counted as units. "
        f"Test manifest `{test['manifest_sha256'][:12]}`. The spread over seeds: last column.\n\n"
        f"`python benchmarks/demo_seeds.py --videos data/demo --model {arguments.model} --seeds {arguments.seeds} "
        f"--precision {' '.join(arguments.precision)} --out FILE`, {os.cpu_count()} cores of {platform.machine()}, "
        + ", ".join(f"{name} {version}" for name, version in versions if name != "machine")
        + "."
    )


if __name__ == "__main__":
    main()
