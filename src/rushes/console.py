"""What a run prints: bars in a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from rushes.progress import read_events

Event = Mapping[str, Any]
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class View(Protocol):
    """Draws events."""

    def show(self, event: Event) -> None:
        """Shows one event."""


class LinesView:
    """For logs and pipes: a line at the start and end of each step, and at most one every ten seconds between."""

    def __init__(self) -> None:
        self.last = 0.0

    def show(self, event: Event) -> None:
        """Prints a line, if the event is worth one."""
        kind, step = event["event"], event["step"]
        if kind == "start":
            console.print(f"{step}: started", markup=False)
        elif kind == "say":
            console.print(f"{step}: {event['message']}", markup=False)
        elif kind == "end":
            console.print(f"{step}: {_ending(event)}", markup=False)
        elif kind == "bar" and time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            figures = f"{event['label']}: {event['done']:.0f}/{event['total']:.0f} {event['unit']} {_stats(event)}"
            console.print(figures.rstrip(), markup=False)


class BarsView:
    """For terminals: a bar for the running step; finished steps stay as lines above it."""

    def __init__(self, progress: RichProgress) -> None:
        self.progress = progress
        self.bars: dict[tuple[str, str], TaskID] = {}

    def show(self, event: Event) -> None:
        """Moves a bar, or prints a line above the bars."""
        kind, step = event["event"], event["step"]
        if kind == "start":
            self.bars[step, ""] = self.progress.add_task(f"[bold]{step}", total=None, unit="", stats="")
        elif kind == "say":
            self.progress.console.print(f"  {step}: {event['message']}", markup=False)
        elif kind == "bar":
            self._bar(event)
        elif kind in ("end", "error"):
            for key in [key for key in self.bars if key[0] == step]:
                self.progress.remove_task(self.bars.pop(key))
            if kind == "end":
                self.progress.console.print(f"[green]✓[/] [bold]{step:<9}[/] {_ending(event)}")

    def _bar(self, event: Event) -> None:
        key = (event["step"], event["label"])
        waiting = self.bars.pop((event["step"], ""), None)
        if waiting is not None:
            self.progress.remove_task(waiting)
        if key not in self.bars:
            self.bars[key] = self.progress.add_task(f"[bold]{event['label']}", total=event["total"], unit="", stats="")
        self.progress.update(
            self.bars[key], total=event["total"], completed=event["done"], unit=event["unit"], stats=_stats(event)
        )


@contextmanager
def view() -> Iterator[View]:
    """The view for the terminal or the pipe that the output goes to."""
    if not console.is_terminal:
        yield LinesView()
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[stats]}"),
    )
    with RichProgress(*columns, console=console, transient=True, refresh_per_second=8) as progress:
        yield BarsView(progress)


@contextmanager
def watching(events: Path) -> Iterator[None]:
    """Draws the events of a step that runs in this process, from a second thread."""
    ended = threading.Event()

    def follow(shown: View) -> None:
        offset, last = 0, False
        while not last:
            last = ended.wait(0.1)
            records, offset = read_events(events, offset=offset)
            for record in records:
                shown.show(record)

    with view() as shown:
        thread = threading.Thread(target=follow, args=(shown,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _ending(event: Event) -> str:
    how = "already done" if event["cached"] else f"{event['seconds']:.1f} s"
    init = event["summary"].get("init")
    return f"{how:<14}{event['ref']}{f'  from {init} weights' if init else ''}"


def _stats(event: Event) -> str:
    return "  ".join(_stat(name, value) for name, value in event["stats"].items())


def _stat(name: str, value: float) -> str:
    """Such as `loss 0.693`; shares of a whole, such as `waiting 3 %`, have no decimals."""
    return f"{name.removesuffix(' %')} {value:.0f} %" if name.endswith(" %") else f"{name} {value:.4g}"
