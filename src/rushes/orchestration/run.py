"""A run of the pipeline as `rushes run` sees it: a folder, servers beside it, a child process, events."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rushes.config import Recipe
from rushes.errors import RushesError
from rushes.footage.reference import DataReference
from rushes.journal import RUN
from rushes.orchestration.local import Runner, compiled_pipeline
from rushes.processes import end_group
from rushes.progress import read_events
from rushes.strict import to_record

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The pipeline's parameters."""

    data: DataReference
    models: tuple[Recipe, ...]
    endpoint: str
    partitions: int = 1

    def to_record(self) -> dict[str, Any]:
        """Plain data, as the compiled pipeline takes it."""
        models = [to_record(recipe) for recipe in self.models]
        return vars(self.data) | {"models": models, "endpoint": self.endpoint, "partitions": self.partitions}


class LocalRun:
    """A started run, as a context manager: leaving it ends the child process."""

    def __init__(
        self, arguments: Arguments, *, home: Path, runner: Runner = "subprocess", pipeline: Path | None = None
    ) -> None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        self.folder = _new_folder(home / "runs", f"{stamp}-{arguments.endpoint}")
        self.events = self.folder / "progress.jsonl"
        self.log = self.folder / "run.log"
        (self.folder / "arguments.json").write_text(json.dumps(arguments.to_record(), indent=1))
        environment = os.environ | {
            "RUSHES_HOME": str(home),
            "RUSHES_PROGRESS": str(self.events),
            RUN: self.folder.name,
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rushes.orchestration.local",
                    str(self.folder),
                    "--runner",
                    runner,
                    "--pipeline",
                    str(pipeline or compiled_pipeline()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> "LocalRun":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def follow(self) -> Iterator[Event | None]:
        """Yields events as they are written, and None if there are no new ones, until the child has ended."""
        offset = 0
        while True:
            ended = self.process.poll() is not None
            events, offset = read_events(self.events, offset=offset)
            yield from events
            if ended:
                return
            yield None
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends the child and all steps that it runs: SIGTERM to the group, SIGKILL after 10 s."""
        end_group(self.process)

    def result(self) -> int:
        """The child's exit status."""
        return self.process.wait()


class Background:
    """Work in a thread beside the run (starting servers) whose failure must end the run."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: RushesError | None = None
        self._work = work
        self._thread = threading.Thread(target=self._target, daemon=True)
        self._thread.start()

    def _target(self) -> None:
        try:
            self._work()
        except RushesError as error:
            self.error = error
        except Exception as error:
            self.error = RushesError(f"{type(error).__name__}: {error}")

    def check(self) -> None:
        """Raises the error of the work, if it failed."""
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        """Waits for the work to end, for at most a minute."""
        self._thread.join(60)


def _new_folder(parent: Path, name: str) -> Path:
    for number in range(1000):
        folder = parent / (name if not number else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise RushesError(f"{parent}: no free name for a run")
