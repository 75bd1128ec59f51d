"""What evaluation measures on footage against an endpoint's answers to the files, with the footage's encoding or not.

    python -m benchmarks.served --videos data/demo --models pace-r2plus1d vcop-r3d
    python -m benchmarks.served --videos ../shared/data/ut_interaction --splits ../shared/data/splits/ut_interaction \
        --folds 1 2 3 --models pace-r2plus1d
    python -m benchmarks.served --videos ../shared/data/ut_interaction --cost 12

Runs the steps of each model's `cpu` size up to two bundles (found in the store if they are done), and prints one row of
benchmarks/served.md per model: every labelled test segment counts, over all folds. Milliseconds are CPU time of one
thread, medians over the videos: decoding and scaling, what encoding and decoding again add, the graph.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks._runs import processor
from rushes.config import Recipe, load_recipe
from rushes.evaluation.report import interval_text
from rushes.evaluation.served import ServedAnswer, served_metrics
from rushes.footage.archive import EXTENSIONS
from rushes.footage.provenance import OriginalFiles
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import home_folder, open_store
from rushes.progress import NullProgress
from rushes.serving.bundle import InProcessModel, fetch_bundle
from rushes.serving.originals import served_answers
from rushes.serving.request import request_clips
from rushes.steps.export import export
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
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


def bundles(data: DataReference, recipe: Recipe, folder: Path) -> tuple[Manifest, dict[str, InProcessModel]]:
    """The footage, and the model with and without the footage's encoding."""
    at = {name: folder / f"{name}.json" for name in ("pin", "footage", "backbone", "classifier", "encoded", "raw")}
    pin(data=data, out=at["pin"])
    footage = sample(recipe=recipe, pin=at["pin"], out=at["footage"])
    pretrain(recipe=recipe, footage=at["footage"], out=at["backbone"])
    finetune(recipe=recipe, footage=at["footage"], backbone=at["backbone"], out=at["classifier"])
    models = {}
    for name, encode in (("encoded", True), ("raw", False)):
        changed = dataclasses.replace(recipe, export=dataclasses.replace(recipe.export, encode=encode))
        made = export(recipe=changed, classifier=at["classifier"], out=at[name])
        target = folder / f"bundle-{name}-{made.digest}-{os.getpid()}"
        models[name] = InProcessModel(fetch_bundle(made, open_store(), folder=target))
    return footage, models


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
    parser.add_argument("--videos", required=True)
    parser.add_argument("--splits", default="")
    parser.add_argument("--folds", type=int, nargs="+", default=[1])
    parser.add_argument("--models", nargs="+", default=["pace-r2plus1d"])
    parser.add_argument("--pretrain-epochs", type=int, default=0, help="0 for the recipe's")
    parser.add_argument("--qp", type=int, default=0, help="quantiser of the footage; 0 for the recipe's")
    parser.add_argument("--cost", type=int, default=0, help="measure only the time, of every n-th video")
    chosen = parser.parse_args(arguments)
    if chosen.cost:
        cost(Path(chosen.videos), every=chosen.cost)
        return
    for model in chosen.models:
        recipe = load_recipe(model, size="cpu")
        if chosen.pretrain_epochs:
            shorter = dataclasses.replace(recipe.pretrain, epochs=chosen.pretrain_epochs)
            recipe = dataclasses.replace(recipe, pretrain=shorter)
        if chosen.qp:
            recipe = dataclasses.replace(recipe, sample=dataclasses.replace(recipe.sample, qp=chosen.qp))
        found = Answers()
        for fold in chosen.folds:
            folder = home_folder() / "served" / f"{model}-{fold}-{chosen.qp}"
            folder.mkdir(parents=True, exist_ok=True)
            data = DataReference(videos=chosen.videos, splits=chosen.splits, fold=fold)
            measure(*bundles(data, recipe, folder), found)
        print(row(model, found), flush=True)
    print(f"\n{os.cpu_count()} cores of {processor()}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
