"""`dvc repro` on the committed dvc.yaml, up to the evaluated and exported model; only the recipe is smaller."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rushes.store import Manifest
from tests.integration.conftest import QUICK, write_videos

ROOT = Path(__file__).parents[2]
STAGES = ("pin", "sample", "pretrain", "finetune", "finetune-random", "evaluate", "export")


class Repository:
    """A git and DVC repository with the committed stages, whose commands have the flags of a small recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        small = (*QUICK, "--pretrain.samples_per_epoch", "8", "--finetune.epochs", "1", "--sample.workers", "1")
        for stage in stages["stages"].values():
            stage["cmd"] = stage["cmd"].replace("--size cpu", " ".join(("--size cpu", *small)))
        (folder / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
        for name in ("src/rushes", "models"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_bundled"))
        write_videos(folder / "data" / "demo", files=4)
        command = folder / "bin" / "rushes"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rushes.cli "$@"\n')
        command.chmod(0o755)
        self.run("git", "init", "--quiet")
        self.run(sys.executable, "-m", "dvc", "init", "--quiet")

    def run(self, *command: str) -> str:
        own = {"RUSHES_HOME": str(self.folder / "home"), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        quiet = {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | own | quiet, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    def repro(self) -> set[str]:
        """The stages that ran."""
        shown = self.run(sys.executable, "-m", "dvc", "repro", "evaluate", "export")
        return {name for name in STAGES if f"Running stage '{name}'" in shown}

    def pointer(self, stage: str) -> Manifest:
        return Manifest.read(self.folder / "artifacts" / f"{stage}.json")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_the_stages_run_once_and_again_only_after_a_change(repository: Repository) -> None:
    assert repository.repro() == set(STAGES)
    evaluated, exported = repository.pointer("evaluate"), repository.pointer("export")
    assert evaluated.inputs["classifier"] == exported.inputs["classifier"] == repository.pointer("finetune").ref
    assert evaluated.inputs["baseline"] == repository.pointer("finetune-random").ref
    lock = yaml.safe_load((repository.folder / "dvc.lock").read_text())
    assert set(lock["stages"]) == set(STAGES)
    assert repository.repro() == {"pin"}, "the folder of videos is looked at each time"
    recipe = repository.folder / "models" / "pace-r2plus1d" / "recipe.yaml"
    record = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump(record | {"evaluate": record.get("evaluate", {}) | {"clips": 3}}))
    assert repository.repro() == {"pin", "evaluate"}
    assert repository.pointer("evaluate") == evaluated, "the flags decide here, so that the store has it"
