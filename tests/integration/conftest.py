"""A home with real servers, a folder of small real mp4 files, and the command line as a user calls it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rushes.video.encode import encode_h264

QUICK = (
    "--sample.short_side",
    "32",
    "--pretrain.crop",
    "32",
    "--pretrain.epochs",
    "1",
    "--pretrain.samples_per_epoch",
    "32",
    "--pretrain.workers",
    "0",
    "--sample.val_share",
    "0",
    "--finetune.epochs",
    "10",
    "--finetune.batch",
    "8",
    "--finetune.optimizer.lr",
    "1e-2",
    "--finetune.optimizer.warmup_steps",
    "2",
    "--finetune.workers",
    "0",
    "--evaluate.clips",
    "2",
    "--export.clips",
    "2",
    "--evaluate.resamples",
    "200",
    "--promote.resamples",
    "200",
)
"""A recipe that takes seconds: enough to tell a moving picture from a still one, which is all that these tests ask."""


@dataclass(frozen=True)
class Cli:
    """Runs `rushes` in a folder, with a home of its own."""

    home: Path
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"RUSHES_HOME": str(self.home), "PYTHONUNBUFFERED": "1", **self.extra}

    def __call__(self, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rushes.cli", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """As from a terminal: where the tests run in the background, they were told to ignore Ctrl-C."""
        return subprocess.Popen(
            [sys.executable, "-m", "rushes.cli", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ok(self, *arguments: object) -> str:
        """Output of a command that must succeed."""
        done = self(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr + self.last_log()
        return done.stdout

    def last_log(self) -> str:
        logs = sorted(self.home.glob("runs/*/run.log"))
        return logs[-1].read_text()[-4000:] if logs else ""

    def results(self) -> list[dict[str, Any]]:
        """Endings of the last finished run's steps."""
        found: list[dict[str, Any]] = json.loads(sorted(self.home.glob("runs/*/results.json"))[-1].read_text())
        return found


def processes_of(cli: Cli) -> list[str]:
    """Command lines that name the home of this command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(cli.home) in words and process.pid != os.getpid():
            found.append(words)
    return found


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody listens on."""
    for first in range(20000 + 97 * os.getpid() % 10000, 60000, 7):
        ports = list(range(first, first + count))
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return ports
    raise AssertionError("no free ports")


def write_videos(folder: Path, *, files: int = 16, seed: int = 0) -> None:
    """Class folders `moving/` and `resting/`: textures that drift or stay, 40 frames of 48 x 32 each."""
    rng = np.random.default_rng(seed)
    for label, speed in (("moving", 2), ("resting", 0)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(files):
            noise = rng.normal(0, 30, (48, 96)).cumsum(axis=1) / 3 + rng.uniform(90, 160)
            luma = [np.roll(noise, speed * t, axis=1)[:32, :48] for t in range(40)]
            frames = [np.vstack([y, np.full((16, 48), 128.0)]).clip(16, 235).astype(np.uint8) for y in luma]
            (folder / label / f"v{number:02d}.mp4").write_bytes(encode_h264(frames, fps=25.0, qp=26, gop=12))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "motion"
    write_videos(folder)
    return folder


@pytest.fixture(scope="session")
def ports() -> dict[str, str]:
    first, *_, last = free_ports(4)
    return {"RUSHES_TRITON_PORT": str(first), "RUSHES_MLFLOW_PORT": str(last)}


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, str]) -> Iterator[Cli]:
    """The command line on a home whose servers are up for the whole session."""
    command = Cli(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("cwd"), ports)
    command.ok("up")
    yield command
    command("down")
