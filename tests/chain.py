"""The cached steps on tiny videos, in a process of their own, by whatever `rushes` its PYTHONPATH names first.

    python chain.py VIDEOS HOME CHANGES UNTIL

`Chain` starts it: with a copy of the package, whose code a test changes, and with patches that run before all else.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "sample": {"short_side": 32, "val_share": 0.0, "workers": 1},
    "pretrain": {
        "task": "pace",
        "options": {"strides": 2},
        "crop": 32,
        "clip_frames": 4,
        "backbone": "tiny_r2plus1d",
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


def main(videos: Path, home: Path, changes: Mapping[str, Any], until: str) -> None:
    """Runs pin, sample, pretrain, finetune (twice), export and evaluate, up to a step."""
    from rushes.config import parse_recipe
    from rushes.footage.reference import DataReference
    from rushes.steps.evaluate import evaluate
    from rushes.steps.export import export
    from rushes.steps.finetune import finetune
    from rushes.steps.pin import pin
    from rushes.steps.pretrain import pretrain
    from rushes.steps.sample import sample

    sections = {name: section | changes.get(name, {}) for name, section in TINY.items()}
    recipe = parse_recipe({"name": "tiny", **sections})
    at = {name: home / f"{name}.json" for name in POINTERS}
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
    pin(data=DataReference(videos=str(videos)), out=at["pin"])
    for step in ORDER[: ORDER.index(until) + 1]:
        for run in runs[step]:
            run()


@dataclass
class Chain:
    """Runs of the steps on one store, each by the code as it is then.

    Args:
        folder: for the copy of the package, the store and the patches.
        videos: what is pinned.
    """

    folder: Path
    videos: Path
    ended: list[dict[str, Any]] = field(default_factory=list)
    """The end of each step of the last run: step, ref, cached, summary."""

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.restore()

    def restore(self) -> None:
        """Makes the copy of the package anew."""
        import rushes

        shutil.rmtree(self.package, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "_bundled")
        shutil.copytree(Path(rushes.__file__).parent, self.package, ignore=ignored)

    @property
    def package(self) -> Path:
        return self.folder / "src" / "rushes"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        until: str = "evaluate",
        patch: str = "",
        videos: Path | None = None,
    ) -> set[str]:
        """Runs the steps; returns those that did their work.

        Args:
            changes: fields of the recipe, by section.
            until: the last step.
            patch: Python that runs at the start of every process.
            videos: others than those of all runs.
        """
        events = self.folder / "events.jsonl"
        events.unlink(missing_ok=True)
        patches = self._patches(patch)
        arguments = (__file__, str(videos or self.videos), str(self.home), json.dumps(changes or {}), until)
        done = self._process(*arguments, events=events, patches=patches)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        self.ended = [event for event in lines if event["event"] == "end" and event["step"] != "pin"]
        return {event["step"] for event in self.ended if not event["cached"]}

    def rushes(self, *arguments: str, patch: str = "") -> "subprocess.CompletedProcess[str]":
        """A command of the command line, with the code as it is; `patch` is as in `run`."""
        return self._process("-m", "rushes.cli", *arguments, patches=self._patches(patch))

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

    def _patches(self, patch: str) -> Path:
        folder = self.folder / "patches"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(patch)
        return folder

    def _process(
        self, *arguments: str, patches: Path, events: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        search = [str(path) for path in (patches, self.package.parent)]
        own = {"PYTHONPATH": os.pathsep.join(search), "RUSHES_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        reports = {"RUSHES_PROGRESS": str(events)} if events else {}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=os.environ | own | reports, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4])
