"""`dvc repro` on the committed dvc.yaml with a smaller recipe: up to the classifier, or (soak) to its evaluation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from rushes.store import Manifest
from tests.integration.conftest import QUICK, write_videos

ROOT = Path(__file__).parents[2]
STAGES = ("pin", "sample", "pretrain", "finetune", "finetune-random", "export", "evaluate")


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

    def repro(self, stage: str) -> set[str]:
        """Brings a stage up to date; returns the stages that ran."""
        shown = self.run(sys.executable, "-m", "dvc", "repro", stage)
        return {name for name in STAGES if f"Running stage '{name}'" in shown}

    def pointer(self, stage: str) -> Manifest:
        return Manifest.read(self.folder / "artifacts" / f"{stage}.json")

    def change(self, section: str, **values: int) -> None:
        """Changes values in a section of the recipe."""
        recipe = self.folder / "models" / "pace-r2plus1d" / "recipe.yaml"
        record = yaml.safe_load(recipe.read_text())
        recipe.write_text(yaml.safe_dump(record | {section: record.get(section, {}) | values}))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def check_repetitions(repository: Repository, stages: Sequence[str], **values: int) -> None:
    """The stages run once; then, after a change of these values in the last one's section, only the last one."""
    last = stages[-1]
    assert repository.repro(last) == set(stages)
    made = repository.pointer(last)
    lock = yaml.safe_load((repository.folder / "dvc.lock").read_text())
    assert set(lock["stages"]) == set(stages)
    assert repository.repro(last) == {"pin"}, "the folder of videos is looked at each time"
    repository.change(last, **values)
    assert repository.repro(last) == {"pin", last}
    assert repository.pointer(last) == made, "the flags decide here, so that the store has it"


def test_the_stages_run_once_and_again_only_after_a_change(repository: Repository) -> None:
    check_repetitions(repository, ("pin", "sample", "pretrain", "finetune"), epochs=3)
    assert repository.pointer("finetune").inputs["backbone"] == repository.pointer("pretrain").ref


@pytest.mark.soak  # the stages' commands and what they read: test_pipeline.py
def test_all_stages_run_once_and_again_only_after_a_change(repository: Repository) -> None:
    check_repetitions(repository, STAGES, clips=3)
    evaluated, exported = repository.pointer("evaluate"), repository.pointer("export")
    assert evaluated.inputs["classifier"] == exported.inputs["classifier"] == repository.pointer("finetune").ref
    assert evaluated.inputs["baseline"] == repository.pointer("finetune-random").ref
