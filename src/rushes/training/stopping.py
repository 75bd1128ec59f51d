"""SIGTERM and Ctrl-C while training: noticed at once, obeyed between two steps, so that nothing is lost."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from rushes.errors import StoppedError

PATIENCE = 6.0
"""Seconds that a step may still take before the state ahead of it is saved: what stops a run waits 10 s for it."""


class Stop:
    """Notices SIGTERM and Ctrl-C from entering to leaving, in the main thread; elsewhere it does nothing.

    A second Ctrl-C ends the process as if nothing noticed it; a second SIGTERM asks for nothing new.

    Args:
        overdue: called from another thread where nobody has asked for PATIENCE seconds after the signal.
    """

    def __init__(self, overdue: Callable[[], None]) -> None:
        self.number = 0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._timer = threading.Timer(PATIENCE, overdue)
        self._timer.daemon = True

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._notice) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        self._restore(signal.SIGTERM, signal.SIGINT)

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    def error(self, where: str) -> BaseException:
        """What to raise in answer to the signal: KeyboardInterrupt, or for SIGTERM StoppedError."""
        if self.number == signal.SIGINT:
            return KeyboardInterrupt(f"interrupted {where}: the same command goes on from there")
        by = "SIGTERM" if self.number else "another process of the run"
        return StoppedError(f"stopped by {by} {where}: the same command goes on from there")

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.number or os.getpid() != self._process:
            return  # asked already, or in a loader worker that has just been forked: its parent ends it
        self.number = number
        self._restore(signal.SIGINT)
        self._timer.start()

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number) or signal.SIG_DFL)
