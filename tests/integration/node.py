"""A machine of a cluster: a process with a home and a cache of its own, that runs one step.

python -m tests.integration.node pretrain footage.json backbone.json
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from rushes.progress import read_events

STEPS, BATCH = 24, 2
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Node:
    """Where it keeps its things, and which store it works with."""

    folder: Path
    store: str
    environment: Mapping[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()
    """Command that runs the step's command."""

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables that make a process this machine."""
        return {
            "RUSHES_HOME": str(self.folder / "home"),
            "RUSHES_CACHE": str(self.cache),
            "RUSHES_STORE": self.store,
            "RUSHES_CACHE_GB": "4",
            "RUSHES_PROGRESS": str(self.folder / "events.jsonl"),
            **self.environment,
        }

    def start(self, step: str, *arguments: object) -> "subprocess.Popen[bytes]":
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "events.jsonl").unlink(missing_ok=True)
        own = {"TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        environment = os.environ | own | self.settings
        command = [*self.within, sys.executable, "-m", "tests.integration.node", step, *map(str, arguments)]
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def run(self, step: str, *arguments: object) -> None:
        """Runs a step to its end."""
        assert self.start(step, *arguments).wait() == 0, self.log()

    def run_here(self, step: str, *arguments: object) -> None:
        """Runs a step in this process, which has imported torch already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ, self.settings):
            _run(step, *map(str, arguments))

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def events(self) -> list[dict[str, Any]]:
        return read_events(self.folder / "events.jsonl")[0]

    def trained(self) -> list[dict[str, Any]]:
        """Events of a bar of training, from the first step on."""
        return [event for event in self.events() if event.get("unit") == "steps" and event["done"] >= 1]


def _run(step: str, *arguments: str) -> None:
    import torch

    from rushes.config import Optimizer, PretrainConfig, Recipe, SampleConfig
    from rushes.footage.reference import DataReference
    from rushes.steps import pin, pretrain, sample

    torch.set_num_threads(1)
    recipe = Recipe(
        name="small",
        sample=SampleConfig(short_side=48, qp=10, shard_segments=2, workers=1),
        pretrain=PretrainConfig(
            task="pace",
            options={"strides": 2},
            backbone="tiny_r2plus1d",
            clip_frames=8,
            crop=16,
            epochs=2,
            batch=BATCH,
            samples_per_epoch=STEPS // 2 * BATCH,
            checkpoint_seconds=0,
            device="cpu",
            workers=1,
            optimizer=Optimizer(name="adamw", lr=3e-3),
        ),
    )
    paths = [Path(argument) for argument in arguments]
    match step:
        case "pin":
            pin.pin(data=DataReference(videos=arguments[0]), out=paths[1])
        case "sample":
            sample.sample(recipe=recipe, pin=paths[0], out=paths[1], partition=arguments[2])
        case "pretrain":
            pretrain.pretrain(recipe=recipe, footage=paths[0], out=paths[1])


if __name__ == "__main__":
    _run(*sys.argv[1:])
