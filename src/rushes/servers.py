"""The servers of one machine, MLflow and Triton, started and stopped together."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rushes import processes
from rushes.processes import Server
from rushes.progress import Progress
from rushes.serving.environment import can_run_triton
from rushes.serving.server import NAME as TRITON
from rushes.serving.server import start_triton, stop_triton
from rushes.tracking.server import NAME as MLFLOW
from rushes.tracking.server import start_mlflow

NAMES = (MLFLOW, TRITON)


def running(home: Path) -> list[Server]:
    """The servers of a home that run."""
    found = (processes.status(name=name, home=home) for name in NAMES)
    return [server for server in found if server is not None]


def start_all(home: Path, *, progress: Progress) -> list[str]:
    """Starts the servers that do not run, or that an earlier version left open; returns the names of those it started.

    MLflow is left out if MLFLOW_TRACKING_URI names another server, Triton if its binary cannot run. If one fails, those
    that were started are stopped again.
    """
    started: list[str] = []
    before = running(home)
    try:
        if can_run_triton() is None and start_triton(home=home, progress=progress) not in before:
            started.append(TRITON)
        if not os.environ.get("MLFLOW_TRACKING_URI") and start_mlflow(home=home) not in before:
            started.append(MLFLOW)
    except BaseException:
        stop(home, started)
        raise
    return started


def abandon(home: Path, names: Sequence[str], *, starting: Callable[[], None]) -> None:
    """Stops servers that may still be starting.

    Args:
        home: their home.
        names: of the servers.
        starting: waits until their start, which is interrupted, has returned.
    """
    for name in names:
        processes.interrupt(name=name, home=home)
    starting()
    stop(home, names)


def stop(home: Path, names: Sequence[str] = NAMES) -> list[str]:
    """Stops the named servers and waits until they are gone; returns those that ran."""
    stopped = []
    if TRITON in names and stop_triton(home=home):
        stopped.append(TRITON)
    if MLFLOW in names and processes.stop(name=MLFLOW, home=home):
        stopped.append(MLFLOW)
    return stopped
