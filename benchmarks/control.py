"""The no-motion control of all six tasks on synthetic footage, and of a planted leak.

    python benchmarks/control.py --work /tmp/control --out benchmarks/control.md

Films of moving shapes are drawn: tasks on clips get films in which time has a direction, tasks on frames get films in
which a shape's position depends on time (`rushes demo-videos --size directed` and `places`). Held films show one frame
of each throughout; counted films are held ones with a small block in a corner that grows brighter with the frame
number. Each task is trained and tested from scratch on each of the three (`rushes.evaluation.no_motion`), on `--size
cpu` settings, with as many batches as `STEPS` says. Held films must not be solved, moving and counted ones must.
Finished trainings are found in the work folder, so the script can be interrupted.
"""

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rushes.commands.no_motion import NoMotionOptions, Sampled, answers, sample_folder, some_rows
from rushes.commands.peek import peek
from rushes.commands.pretext import quick
from rushes.config import SampleConfig
from rushes.demo.actions import Kind
from rushes.demo.dataset import write_dataset
from rushes.demo.films import SyntheticSize
from rushes.evaluation.no_motion import ControlResult, HeldOutScores, hold_still, judge
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.pretext import make_task
from rushes.progress import NullProgress
from rushes.recipes import load_recipe
from rushes.store import Manifest, Store
from rushes.video.decode import decode_i420
from rushes.video.encode import encode_h264

STEPS = {
    "shuffle-and-learn": 500,
    "opn": 700,
    "o3n": 270,
    "vcop-r3d": 250,
    "pace-r2plus1d": 175,
    "arrow-of-time-r3d": 300,
}
"""Batches of 32 for each model: one to two minutes of CPU time each."""
FILMS = ("moving", "held", "counted")
KINDS: dict[str, Kind] = {"shuffle-and-learn": "places", "opn": "places"}
"""Of films; of the other models, directed ones."""
COUNTER = 16  # pixels of a side
BRIGHTEST = 235
QUIET = NullProgress()


def count(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """I420 frames with a block in the upper left corner whose brightness grows with the square of their number.

    The square, because networks that see only differences of frames could not tell moments of linear growth apart.
    """
    for number, frame in enumerate(frames):
        marked = frame.copy()
        marked[:COUNTER, :COUNTER] = 16 + round((BRIGHTEST - 16) * (number / len(frames)) ** 2)
        yield marked


def footages(work: Path, kind: Kind, *, groups: int, options: NoMotionOptions) -> dict[str, Sampled]:
    """Draws and samples the three variants of films, or finds them in the work folder."""
    work.mkdir(parents=True, exist_ok=True)
    pointers = {name: work / f"{name}.json" for name in FILMS}
    config = quick(SampleConfig(short_side=56))
    if not all(pointer.exists() for pointer in pointers.values()):
        for name, (manifest, _) in sample_all(work, config, kind, groups=groups, options=options).items():
            manifest.write(pointers[name])
    return {name: (Manifest.read(pointer), Store(str(work / name / "store"))) for name, pointer in pointers.items()}


def sample_all(
    work: Path, config: SampleConfig, kind: Kind, *, groups: int, options: NoMotionOptions
) -> dict[str, Sampled]:
    """Draws and samples the three variants of films."""
    size = SyntheticSize(
        unlabelled_files=3 * groups,
        unlabelled_seconds=(2.4, 3.2),
        long_files=0,
        train_groups=0,
        long_train_groups=0,
        test_groups=0,
        long_test_groups=0,
        films=kind,
    )
    write_dataset(work / "films", seed=0, size=size, progress=QUIET)
    peeked = peek(
        DataReference(videos=str(work / "films")),
        config=config,
        files=10**6,
        segments=10**6,
        seconds=10**6,
        scratch=work / "moving",
        progress=QUIET,
    )
    moving = Footage(peeked.manifest, peeked.store)
    held, counted = work / "held" / "videos", work / "counted" / "videos"
    annotations = hold_still(moving, some_rows(moving, options.segments), held, seed=options.seed)
    counted.mkdir(parents=True)
    for video in sorted(held.iterdir()):
        frames = np.stack(list(decode_i420(video, short_side=config.short_side, fps=25.0)))
        (counted / video.name).write_bytes(encode_h264(count(frames), fps=25.0, qp=10, gop=25))
    still = {
        folder.parent.name: sample_folder(folder, annotations, config=config, scratch=folder.parent, progress=QUIET)
        for folder in (held, counted)
    }
    return {"moving": (peeked.manifest, peeked.store), **still}


def measured(
    work: Path, model: str, film: str, sampled: Sampled, options: NoMotionOptions
) -> tuple[HeldOutScores, float]:
    """Scores of a model trained on a kind of film, and CPU seconds; from the work folder if they are there."""
    record_path = work / f"{model}-{film}-{options.steps}-{options.tuples}.json"
    if not record_path.exists():
        began = cpu_seconds()
        found = answers(
            load_recipe(model, size="cpu"),
            sampled,
            still=film != "moving",
            options=options,
            progress=QUIET,
        )
        seconds = cpu_seconds() - began
        record = {"correct": found.correct.tolist(), "groups": found.groups.tolist(), "seconds": seconds}
        record_path.write_text(json.dumps(record))
        print(f"{model}, {film}: {100 * found.correct.mean():.1f} %, {seconds:.0f} s of CPU time", flush=True)
    record = json.loads(record_path.read_text())
    return HeldOutScores(correct=np.array(record["correct"]), groups=np.array(record["groups"])), record["seconds"]


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def row(model: str, found: dict[str, HeldOutScores], seconds: float, steps: int) -> str:
    """A model's row of the table."""
    recipe = load_recipe(model, size="cpu")
    chance = make_task(recipe.pretrain.task, recipe.pretrain.options).chance

    def judged(still: str) -> ControlResult:
        return judge(chance=chance, still=found[still], moving=found["moving"], methods=len(STEPS))

    held, leak = judged("held"), judged("counted")
    cells = [
        recipe.pretrain.task,
        recipe.pretrain.backbone,
        str(steps),
        f"{100 * chance:.1f} %",
        str(held.still),
        str(held.moving),
        held.verdict,
        str(leak.still),
        leak.verdict,
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--groups", type=int, default=400, help="groups of three films each; half of them are for testing"
    )
    parser.add_argument("--questions", type=int, default=8, help="tuples per test group")
    parser.add_argument("--budget", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    options = NoMotionOptions(tuples=arguments.questions, segments=10**6)
    arguments.work.mkdir(parents=True, exist_ok=True)
    films = {
        kind: footages(arguments.work / kind, kind, groups=arguments.groups, options=options)
        for kind in ("directed", "places")
    }
    lines = [
        "# The no-motion control, six tasks",
        "",
        "| task | network | batches of 32 | guessing | held still | moving | verdict | with a counter in the corner |"
        " verdict on that | CPU seconds, three trainings and tests |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    began = time.monotonic()
    for model, steps in STEPS.items():
        steps = round(arguments.budget * steps)
        each = dataclasses.replace(options, steps=steps)
        done = {
            film: measured(arguments.work, model, film, films[KINDS.get(model, "directed")][film], each)
            for film in FILMS
        }
        found = {film: answers for film, (answers, _) in done.items()}
        lines.append(row(model, found, sum(seconds for _, seconds in done.values()), steps))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "av", "numpy"))
    lines += [
        "",
        f"Accuracy on {arguments.questions} tuples of each of {arguments.groups - arguments.groups // 2} test "
        "groups of three synthetic films (of places for single frames, directed ones for clips), none of them trained "
        f"on; intervals by bootstrap over groups, {100 * (1 - 0.05 / len(STEPS)):.2f} % each (5 % error for the "
        f"{len(STEPS)} tasks together). `pass`: not above guessing where nothing moves, above it where something does. "
        "A counter must be found: `shortcut`.",
        "",
        f"`python benchmarks/control.py --work DIR --groups {arguments.groups} --questions {arguments.questions} "
        f"--budget {arguments.budget:g} --out FILE`, {os.cpu_count()} cores of {platform.machine()}, "
        f"python {platform.python_version()}, {versions}.",
    ]
    arguments.out.write_text("\n".join(lines) + "\n")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
