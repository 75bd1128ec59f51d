"""Progress of a step as events, which the process at the terminal draws.

A step runs in a child process of the pipeline runner and has no terminal, so it appends one line of JSON per event to
the file that `RUSHES_PROGRESS` names; the parent draws the bars (`rushes.console`). Library code takes a `Progress`
and calls `bar`; it never prints.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Protocol


class Bar(Protocol):
    """One quantity that grows to a known total."""

    def advance(self, count: float = 1, **stats: float) -> None:
        """Adds `count` to the total so far; `stats` (loss, accuracy, ...) replace the earlier ones."""


class Progress(Protocol):
    """What a step reports to."""

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        """Begins a bar; a later bar of the same label replaces it."""

    def say(self, message: str) -> None:
        """Reports one line: a count, a warning, a path."""


class _NullBar:
    def advance(self, count: float = 1, **stats: float) -> None:
        pass


class NullProgress:
    """Drops everything: the default of library calls."""

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        """Returns a bar that shows nothing."""
        return _NullBar()

    def say(self, message: str) -> None:
        """Drops the message."""


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


def first_error(path: Path) -> dict[str, Any] | None:
    """The first event in the file at `path` that says that a step failed, or None."""
    events, _ = read_events(path)
    return next((event for event in events if event["event"] == "error"), None)
