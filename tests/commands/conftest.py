"""A comparison on tiny real videos, run on this machine by the command line."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rushes.cli import main
from rushes.footage.reader import Footage
from rushes.home import open_store
from rushes.store import Manifest, Store
from tests.steps.test_downstream import write_videos

QUICK = (
    "sample.short_side=32,sample.workers=1,pretrain.crop=32,pretrain.epochs=1,pretrain.samples_per_epoch=32,"
    "pretrain.batch=16,pretrain.optimizer.warmup_steps=0,pretrain.workers=0,pretrain.device=cpu,finetune.epochs=2,finetune.batch=8,finetune.workers=0,"
    "finetune.device=cpu,evaluate.clips=2,evaluate.device=cpu"
)
MEMBER = f"vcop=vcop-r3d:{QUICK}"
OTHER = f"longer=vcop-r3d:{QUICK},pretrain.epochs=2"
FILES = 8
"""Of each of two classes; each file is a group."""
TABLES = ["comparison.csv", "comparison.html", "comparison.json", "comparison.md"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A comparison that has been run."""

    out: Path
    store: Store

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "comparison.json").read_text())
        return found

    def chain(self, name: str) -> Path:
        """The folder of a chain, by its name but for the digest."""
        (folder,) = (self.out / "work").glob(f"{name}-????????")
        return folder

    def manifest(self, chain: str, name: str) -> Manifest:
        return Manifest.read(self.chain(chain) / f"{name}.json")

    def footage(self, fold: int) -> Footage:
        return Footage(Manifest.read(self.out / "work" / f"footage-{fold}.json"), self.store)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder / "classes", files=FILES)
    return folder / "classes"


@pytest.fixture(scope="session")
def compared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return compare(MEMBER, videos=videos, folder=tmp_path_factory.mktemp("compare"))


def compare(*members: str, videos: Path, folder: Path) -> Compared:
    """On two folds, with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        patch.setenv("RUSHES_PROGRESS", "")
        for name in ("RUSHES_STORE", "RUSHES_CACHE"):
            patch.delenv(name, raising=False)
        status = main(
            [
                "compare",
                *members,
                "--size",
                "cpu",
                "--videos",
                str(videos),
                "--folds",
                "2",
                "--labels-per-class",
                "2",
                "--parallel",
                "2",
                "--out",
                str(folder / "out"),
            ]
        )
        assert status == 0
        return Compared(out=folder / "out", store=open_store())
