"""What evaluation measures on footage against an endpoint's answers to the files, with the footage's encoding or not.

    rushes compare vcop-r3d pace-r2plus1d --size cpu --videos data/demo --folds 1 --labels-per-class 0 --out comparison
    python -m benchmarks.served comparison
    python -m benchmarks.served --cost 12 --videos ../shared/data/ut_interaction

Exports the classifiers that a comparison fine-tuned on all labels, and prints one row of benchmarks/served.md per
model: every labelled test segment counts, over all folds. Milliseconds are CPU time of one thread, medians over the
videos: decoding and scaling, what encoding and decoding again add, the graph.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks._runs import processor
from rushes.comparing.chain_process import ORDER
from rushes.config import NO_TASK, Recipe
from rushes.evaluation.report import interval_text
from rushes.evaluation.served import ServedAnswer, served_metrics
from rushes.footage.archive import EXTENSIONS
from rushes.footage.provenance import OriginalFiles
from rushes.footage.reader import Footage
from rushes.home import open_store
from rushes.progress import NullProgress
from rushes.serving.bundle import InProcessModel, fetch_bundle
from rushes.serving.originals import served_answers
from rushes.serving.request import request_clips
from rushes.steps.base import read_input
from rushes.steps.export import export
from rushes.store import Manifest
from rushes.strict import build
from rushes.training.data import EvenClips
from rushes.video.coding import Encoding
from rushes.video.file_clips import video_clips

T = TypeVar("T")
TIMED = 60
"""Videos whose time is taken, at most."""


@dataclasses.dataclass
class Answers:
    """One entry per test segment."""

    measured: list[str] = dataclasses.field(default_factory=list)
    encoded: list[ServedAnswer] = dataclasses.field(default_factory=list)
    raw: list[ServedAnswer] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    groups: list[str] = dataclasses.field(default_factory=list)
    milliseconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def timed(self, name: str, work: Callable[[], T]) -> T:
        """Does the work and notes its CPU time."""
        began = time.process_time()
        result = work()
        self.milliseconds.setdefault(name, []).append(1000 * (time.process_time() - began))
        return result


def bundles(chain: Path, folder: Path) -> tuple[Manifest, dict[str, InProcessModel]]:
    """A chain's footage, and its classifier with and without the footage's encoding."""
    order = json.loads((chain / ORDER).read_text())
    recipe = build(Recipe, order["recipe"], "recipe")
    models = {}
    for name, encode in (("encoded", True), ("raw", False)):
        changed = dataclasses.replace(recipe, export=dataclasses.replace(recipe.export, encode=encode))
        made = export(recipe=changed, classifier=chain / "classifier-0.json", out=folder / f"{name}.json")
        models[name] = InProcessModel(fetch_bundle(made, open_store(), folder=folder / name))
    return read_input(Path(order["footage"]), "footage"), models


def models_of(comparison: Path) -> dict[str, list[Path]]:
    """The folders of the pretrained models' chains, one per fold and seed."""
    found: dict[str, list[Path]] = {}
    for order in sorted(comparison.glob(f"work/*/{ORDER}")):
        recipe = json.loads(order.read_text())["recipe"]
        if recipe["pretrain"]["task"] != NO_TASK:
            found.setdefault(recipe["name"], []).append(order.parent)
    return found


def measure(footage: Manifest, models: dict[str, InProcessModel], found: Answers) -> None:
    """Adds the answers about one test split."""
    store, contract = open_store(), models["encoded"].bundle.contract
    files = OriginalFiles.of(footage, store)
    assert files is not None, "the videos are there"
    reader = Footage(footage, store, short_side=contract.short_side)
    rows = reader.select("test", labelled=True)
    clips = EvenClips(reader, rows, clips=contract.clips, clip_frames=contract.clip_frames, crop=contract.crop)
    found.measured += [models["encoded"].classify(clips[n][0].numpy()).top(1)[0][0] for n in range(len(rows))]
    for name in ("encoded", "raw"):
        answers: list[ServedAnswer] = getattr(found, name)
        answers += served_answers(models[name], reader, rows, files=files, progress=NullProgress())
    found.labels += [str(label) for label in reader.segments.label[rows]]
    found.groups += [str(group) for group in reader.texts("group")[rows]]
    time.sleep(1)  # until the graph's threads, which wait for more by spinning, are quiet
    read = []
    for source in reader.texts("source")[rows][:TIMED]:
        video = (Path(files.root) / source).read_bytes()
        for name, model in models.items():
            clips_of = found.timed(name, partial(request_clips, video, model.bundle.contract))
        read.append(clips_of)
    for one in read:
        found.timed("graph", partial(models["raw"].classify, one))


def row(model: str, found: Answers) -> str:
    """A row of the table."""
    figures: dict[str, dict[str, Any]] = {
        name: served_metrics(
            getattr(found, name),
            measured=found.measured,
            labels=found.labels,
            groups=found.groups,
        )
        for name in ("encoded", "raw")
    }
    cells = [model, f"{len(found.labels)} ({len(set(found.groups))})", interval_text(figures["encoded"]["footage"])]
    for figure in figures.values():
        cells += [f"{100 * figure[name]['value']:.1f} %" for name in ("served", "agreement")]
        cells.append(interval_text(figure["difference"], signed=True))
    decode, both, graph = (statistics.median(found.milliseconds[name]) for name in ("raw", "encoded", "graph"))
    return f"| {' | '.join(cells)} | {decode:.0f} | {both - decode:.0f} | {graph:.0f} |"


def cost(folder: Path, *, every: int) -> None:
    """Prints what encoding adds for every n-th video of a folder, with the geometry of `full` and of `cpu` recipes."""
    for side, crop, clip_frames in ((128, 112, 16), (56, 48, 8)):
        encoding = Encoding(codec="h264", short_side=side, qp=26, gop=12)
        found = Answers()
        geometry: dict[str, Any] = {"short_side": side, "fps": 25.0, "clips": 10, "clip_frames": clip_frames}
        for path in sorted(path for path in folder.rglob("*") if path.suffix in EXTENSIONS)[::every]:
            for name, used in (("raw", None), ("encoded", encoding)):
                found.timed(name, partial(video_clips, path.read_bytes(), **geometry, crop=crop, encoding=used))
        raw, both = (statistics.median(found.milliseconds[name]) for name in ("raw", "encoded"))
        print(f"| {len(found.milliseconds['raw'])} of {folder.name} | {side} | {raw:.0f} | {both - raw:.0f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, nargs="?", help="the folder that `rushes compare` wrote to")
    parser.add_argument("--cost", type=int, default=0, help="measure only the time, of every n-th of --videos")
    parser.add_argument("--videos", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.cost:
        cost(chosen.videos, every=chosen.cost)
        return
    for model, chains in models_of(chosen.comparison).items():
        found = Answers()
        for chain in chains:
            with tempfile.TemporaryDirectory() as folder:
                measure(*bundles(chain, Path(folder)), found)
        print(row(model, found), flush=True)
    print(f"\n{os.cpu_count()} cores of {processor()}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
