"""`rushes pretrain` in two processes: stopped or killed, it ends in the same bits, and says which one was killed."""

import contextlib
import dataclasses
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from rushes.config import PretrainConfig, Recipe, SampleConfig
from rushes.errors import RushesError
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.progress import read_events
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
from tests.integration.conftest import write_videos
from tests.training.forks import Fork
from tests.training.test_loop import OPTIMIZER
from tests.training.test_survival import begin, wait_until

RECIPE = Recipe(
    name="shared",
    sample=SampleConfig(short_side=32, val_share=0.25, workers=2),
    pretrain=PretrainConfig(
        task="pace",
        options={"strides": 2},
        backbone="tiny_r2plus1d",
        clip_frames=8,
        crop=16,
        batch=8,
        epochs=2,
        samples_per_epoch=160,
        optimizer=OPTIMIZER,
        device="cpu",
        workers=0,
        ranks=2,
    ),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with footage of eight small videos."""
    home = tmp_path_factory.mktemp("home")
    write_videos(home / "videos", files=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(home))
        pin(data=DataReference(videos=str(home / "videos")), out=home / "pin.json")
        sample(recipe=RECIPE, pin=home / "pin.json", out=home / "footage.json")
        yield home


def _pretrain(folder: str, home: str, seed: int) -> None:
    begin()
    os.setpgrp()  # what a signal to the step reaches
    events = Path(folder) / "events.jsonl"
    os.environ |= {"RUSHES_HOME": home, "RUSHES_PROGRESS": str(events)}
    recipe = dataclasses.replace(RECIPE, seed=seed)
    try:
        pretrain(recipe=recipe, footage=Path(home) / "footage.json", out=Path(folder) / "backbone.json")
    except (RushesError, KeyboardInterrupt) as error:
        (Path(folder) / "said").write_text(str(error))
        sys.exit(error.exit_code if isinstance(error, RushesError) else 130)


def steps_done(folder: Path) -> int:
    events = folder / "events.jsonl"
    bars = [event for event in read_events(events)[0] if event["event"] == "bar"] if events.exists() else []
    return int(bars[-1]["done"]) if bars else 0


@contextlib.contextmanager
def started(folder: Path, home: Path, *, seed: int) -> Iterator[psutil.Process]:
    """The step's process, and all that it started ended at last."""
    folder.mkdir(exist_ok=True)
    (folder / "events.jsonl").unlink(missing_ok=True)
    process = Fork(target=_pretrain, args=(str(folder), str(home), seed))
    process.start()
    found = psutil.Process(process.pid)
    try:
        yield found
        process.join(100)
        (folder / "status").write_text(str(process.exitcode))
    finally:
        for left in [*_children(found), found]:
            with contextlib.suppress(psutil.Error):
                left.kill()
        process.join()


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def ranks_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in _children(process) if "rushes.steps.ranks" in child.cmdline()]


def end_by(folder: Path, home: Path, act: Callable[[psutil.Process], None], *, seed: int) -> int:
    """Acts once a few steps are done; returns the exit status."""
    with started(folder, home, seed=seed) as process:
        wait_until(lambda: steps_done(folder) >= 3, seconds=90)
        everyone = _children(process)
        act(process)
    _, alive = psutil.wait_procs(everyone, timeout=20)
    assert alive == []
    return int((folder / "status").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    backbone = Manifest.read(folder / "backbone.json")
    assert backbone.summary["ranks"] == 2
    return load_file(open_store().path(backbone.files["weights.safetensors"]))


def stop(process: psutil.Process) -> None:
    process.terminate()


def interrupt(process: psutil.Process) -> None:
    process.send_signal(signal.SIGINT)


def kill_one(process: psutil.Process) -> None:
    ranks_of(process)[1].kill()


SAVED = r"(stopped by|interrupted) .*after step \d+ of 40, which is saved: the same command goes on from there"
KILLED = r"training: rank 1 \(process \d+\) was killed by SIGKILL, and all others were ended: .*"
ENDS = [(stop, 75, SAVED), (interrupt, 130, SAVED), (kill_one, 1, KILLED)]


@pytest.mark.parametrize(
    ("act", "status", "words"), [ENDS[0], *(pytest.param(*end, marks=pytest.mark.soak) for end in ENDS[1:])]
)
def test_all_processes_end_within_seconds_and_one_line_says_why(
    tmp_path: Path, home: Path, act: Callable[[psutil.Process], None], status: int, words: str
) -> None:
    assert end_by(tmp_path / "cut", home, act, seed=status) == status
    assert re.fullmatch(words, (tmp_path / "cut" / "said").read_text())


@pytest.mark.soak  # of the loop alone: tests/training/test_ranks.py
def test_however_it_is_ended_it_goes_on_to_the_bits_of_a_run_in_one_go(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for act, status, _ in ENDS:
        assert end_by(tmp_path / "cut", home, act, seed=1) == status
    assert end_by(tmp_path / "cut", home, lambda process: None, seed=1) == 0
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    pin(data=DataReference(videos=str(home / "videos")), out=tmp_path / "pin.json")
    sample(recipe=RECIPE, pin=tmp_path / "pin.json", out=tmp_path / "footage.json")
    assert end_by(tmp_path / "whole", tmp_path, lambda process: None, seed=1) == 0
    in_one_go = weights(tmp_path / "whole")
    monkeypatch.setenv("RUSHES_HOME", str(home))
    for name, value in weights(tmp_path / "cut").items():
        assert torch.equal(value, in_one_go[name]), name
