"""Processes that begin with torch imported and with no training behind them: torch refuses to train in the fork of one
that has trained, and importing it anew takes seconds.

`multiprocessing` has one fork server per process, which is the footage's; this is another.
"""

import atexit
import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context, util
from typing import Any, BinaryIO


class _Server:
    """A process that forks on request, started with the first."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self.process.kill)

    def ask(self, *message: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


_server: list[_Server] = []


class Fork:
    """A process that calls `target`, with the part of multiprocessing's interface that tests need."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.target, self.args, self.pid, self.exitcode = target, args, 0, None

    def start(self) -> None:
        if not _server:
            _server.append(_Server())
        self.pid = _server[0].ask("start", self.target, self.args)

    def join(self, timeout: float | None = None) -> None:
        self.exitcode = _server[0].ask("join", self.pid, timeout)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def main() -> None:
    """Starts and joins as it is told by standard input, and answers on standard output."""

    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight]).step()  # the first one imports a thousand modules
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # children print elsewhere
    gc.freeze()  # otherwise a fork's first collection copies all pages
    context, started = get_context("fork"), dict[int, Any]()
    with contextlib.suppress(EOFError):
        while True:
            kind, *rest = pickle.load(sys.stdin.buffer)
            if kind == "start":
                process = context.Process(target=_call, args=rest)
                process.start()
                assert process.pid is not None
                started[process.pid] = process
                _answer(answers, process.pid)
            else:
                started[rest[0]].join(rest[1])
                _answer(answers, started[rest[0]].exitcode)
    for process in started.values():
        process.kill()


def _call(target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Calls and ends as a process does, but for the second that torch takes to be taken apart."""
    status = 1
    try:
        target(*args)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    util._exit_function()  # type: ignore[attr-defined]  # ends the processes that it started itself
    sys.stderr.flush()
    os._exit(status)


def _answer(file: BinaryIO, value: Any) -> None:
    pickle.dump(value, file)
    file.flush()


if __name__ == "__main__":
    main()
