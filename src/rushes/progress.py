"""Progress of a step as events, drawn by whoever can see a terminal.

A step runs in a child process of the pipeline runner and never sees a terminal, so it appends one JSON line an event
to the file named by `RUSHES_PROGRESS`; the parent draws the bars (`rushes.cli`). Library code takes a `Progress` and
calls `bar`; it neither prints nor knows who listens.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol


class Bar(Protocol):
    """One quantity that grows to a known total."""

    def advance(self, count: float = 1, **stats: float) -> None:
        """Adds `count` to what is done; `stats` (loss, accuracy, ...) replace the ones shown before."""


class Progress(Protocol):
    """Where a step reports to."""

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        """Begins a bar. A later bar of the same label replaces it."""

    def say(self, message: str) -> None:
        """States one fact worth a line: a count, a warning, a path."""


class _NullBar:
    def advance(self, count: float = 1, **stats: float) -> None:
        pass


class NullProgress:
    """Listens to nothing: the default of library calls."""

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        """Returns a bar that shows nothing."""
        return _NullBar()

    def say(self, message: str) -> None:
        """Says nothing."""


class EventLog:
    """Appends events to a JSON-lines file; safe for several processes, since each line is one O_APPEND write."""

    def __init__(self, path: Path, *, step: str = "") -> None:
        self.path = path
        self.step = step

    def emit(self, event: str, **fields: Any) -> None:
        """Appends one event with the current time."""
        record = {"time": round(time.time(), 3), "event": event, "step": self.step, **fields}
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(record) + "\n").encode())
        finally:
            os.close(handle)

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        """Begins a bar."""
        return _EventBar(self, label, total=total, unit=unit)

    def say(self, message: str) -> None:
        """Appends one line for people."""
        self.emit("say", message=message)


class _EventBar:
    """Reports at most five times a second, and always the end."""

    def __init__(self, log: EventLog, label: str, *, total: float, unit: str) -> None:
        self.log, self.label, self.total, self.unit = log, label, total, unit
        self.done = 0.0
        self.last = 0.0
        self._emit({})

    def advance(self, count: float = 1, **stats: float) -> None:
        self.done += count
        if self.done >= self.total or time.monotonic() - self.last > 0.2:
            self._emit(stats)

    def _emit(self, stats: dict[str, float]) -> None:
        self.last = time.monotonic()
        rounded = {name: float(f"{value:.4g}") for name, value in stats.items()}
        self.log.emit("bar", label=self.label, done=self.done, total=self.total, unit=self.unit, stats=rounded)


def read_events(path: Path, *, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Returns the complete events of `path` from byte `offset` on, and the offset after them.

    A line that a full disk cut short is left out.
    """
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    events = (_event(line) for line in data[:end].splitlines())
    return [event for event in events if event is not None], offset + end


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


@contextmanager
def timed(log: EventLog) -> Iterator[None]:
    """Emits the start and the end of a step, with its seconds; a failure is the caller's to report."""
    start = time.monotonic()
    log.emit("start")
    yield
    log.emit("end", seconds=round(time.monotonic() - start, 2))
