"""The cached steps on tiny videos, by a copy of the package whose code a test changes.

The steps run in the process of the test, by the code of this checkout; what their digests read is the copy.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import rushes
from rushes import digests
from rushes.footage.reference import DataReference
from rushes.recipes import parse_recipe
from rushes.steps.evaluate import evaluate
from rushes.steps.export import export
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample

TINY: dict[str, dict[str, Any]] = {
    "sample": {"short_side": 32, "val_share": 0.0, "workers": 1},
    "pretrain": {
        "task": "pace",
        "options": {"strides": 2},
        "crop": 32,
        "clip_frames": 4,
        "backbone": "tiny_r3d",
        "epochs": 1,
        "samples_per_epoch": 4,
        "batch": 2,
        "workers": 0,
    },
    "finetune": {"epochs": 1, "batch": 2, "workers": 0},
    "evaluate": {"clips": 1, "resamples": 100},
    "export": {"clips": 1},
}
POINTERS = ("pin", "footage", "backbone", "tuned", "random", "bundle", "metrics")
ORDER = ("sample", "pretrain", "finetune", "export", "evaluate")


@dataclass
class Chain:
    """Runs of the steps on one store, each by the code as it is then.

    Args:
        folder: for the copy of the package and the store.
        videos: what is pinned.
    """

    folder: Path
    videos: Path
    ended: list[dict[str, Any]] = field(default_factory=list)
    """The end of each step of the last run: step, ref, cached, summary."""

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.restore()

    def restore(self) -> None:
        """Makes the copy of the package anew."""
        shutil.rmtree(self.package, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "_bundled")
        shutil.copytree(Path(rushes.__file__).parent, self.package, ignore=ignored)

    @property
    def package(self) -> Path:
        return self.folder / "src" / "rushes"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Steps and commands use its store, and digests its copy of the package."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("RUSHES_STORE", "RUSHES_CACHE"):
                patch.delenv(name, raising=False)
            patch.setenv("RUSHES_HOME", str(self.home))
            patch.setenv("RUSHES_PROGRESS", str(self.events))
            patch.setattr(digests, "ROOT", self.package.parent)
            yield
        torch.set_num_threads(threads)

    def run(
        self, changes: Mapping[str, Any] | None = None, *, until: str = "evaluate", videos: Path | None = None
    ) -> set[str]:
        """Runs pin, sample, pretrain, finetune (twice), export and evaluate; returns those that did their work.

        Args:
            changes: fields of the recipe, by section.
            until: the last step.
            videos: others than those of all runs.
        """
        sections = {name: section | (changes or {}).get(name, {}) for name, section in TINY.items()}
        recipe = parse_recipe({"name": "tiny", **sections})
        at = {name: self.home / f"{name}.json" for name in POINTERS}
        tune = functools.partial(finetune, recipe=recipe, footage=at["footage"], backbone=at["backbone"])
        judge = functools.partial(evaluate, recipe=recipe, footage=at["footage"], backbone=at["backbone"])
        runs: dict[str, list[Callable[[], object]]] = {
            "sample": [lambda: sample(recipe=recipe, pin=at["pin"], out=at["footage"])],
            "pretrain": [lambda: pretrain(recipe=recipe, footage=at["footage"], out=at["backbone"])],
            "finetune": [
                lambda: tune(out=at["tuned"]),
                lambda: tune(out=at["random"], init="random"),
            ],
            "export": [lambda: export(recipe=recipe, classifier=at["tuned"], out=at["bundle"])],
            "evaluate": [
                lambda: judge(classifier=at["tuned"], baseline=at["random"], bundle=at["bundle"], out=at["metrics"])
            ],
        }
        self.events.unlink(missing_ok=True)
        pin(data=DataReference(videos=str(videos or self.videos)), out=at["pin"])
        for step in ORDER[: ORDER.index(until) + 1]:
            for run in runs[step]:
                run()
        lines = [json.loads(line) for line in self.events.read_text().splitlines()]
        self.ended = [event for event in lines if event["event"] == "end" and event["step"] != "pin"]
        return {event["step"] for event in self.ended if not event["cached"]}

    def run_elsewhere(self, patch: str, *, until: str) -> set[str]:
        """`run` in a process in which `patch` runs first, as in those that it starts; by the code of this checkout."""
        (self.folder / "sitecustomize.py").write_text(patch)
        search = os.pathsep.join([str(self.folder), str(Path(__file__).parents[1])])
        done = subprocess.run(
            [sys.executable, "-m", "tests.chain", str(self.folder), str(self.videos), until],
            env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return set(done.stdout.split())

    def manifest(self, name: str) -> dict[str, Any]:
        """A pointer of the last run."""
        found: dict[str, Any] = json.loads((self.home / f"{name}.json").read_text())
        return found

    def edit(self, name: str, old: str, new: str) -> None:
        """Changes the code of a module in the copy."""
        path = self.package / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new))


if __name__ == "__main__":
    here = Chain(Path(sys.argv[1]), Path(sys.argv[2]))
    with here.in_use():
        sys.stdout.write(" ".join(here.run(until=sys.argv[3])))
