"""Work in processes that may die: a decoder that crashes on one file takes nothing else with it.

    with Pool(Workers(count=2)) as pool:
        for path, found in pool.run(probe, paths):
            ...  # the result, or Died

Tasks run in a pool of processes, which stay for what comes next. When one dies natively (segmentation fault, out of
memory, a hung decoder ended by its alarm), the pool is lost with it; the tasks that were under way are then run one by
one, each in a process of its own, and only the one that dies again is reported as `Died`.
"""

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# Forked off a small server process of their own: a fork of a process with threads (torch, gRPC) may hang, and spawned
# processes would each import everything anew.
# Its socket lies in the temporary folder, and a socket's path holds hardly more than 100 characters.
_FITS = len(tempfile.gettempdir()) < 70
_CONTEXT = multiprocessing.get_context("forkserver") if _FITS else multiprocessing.get_context("spawn")
_CONTEXT.set_forkserver_preload(["rushes.footage.preload"])


@dataclass(frozen=True, kw_only=True)
class Died(Generic[Task]):
    """A task whose process died, alone."""

    task: Task
    exitcode: int

    @property
    def by_alarm(self) -> bool:
        """Whether `alarm` ended it."""
        return self.exitcode == -signal.SIGALRM


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes, and what each may take."""

    count: int
    memory: int = 0
    """Bytes of its own memory; 0 sets no limit. Beyond it an allocation fails, and with it the file."""


class Pool:
    """Processes for tasks: each started when it is first needed, and kept from one `run` to the next until `close`."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Result | Died[Task]]]:
        """Yields (task, result) in order of completion; `function` and tasks must be picklable.

        Raises:
            Exception: what `function` raises; all processes are then ended, as when the iterator is given up.
        """
        pending = list(reversed(tasks))
        while pending:
            suspects: list[Task] = []
            yield from self._together(function, pending, suspects)
            for task in suspects:
                yield task, self.run_alone(function, task)

    def _together(
        self, function: Callable[[Task], Result], pending: list[Task], suspects: list[Task]
    ) -> Iterator[tuple[Task, Result | Died[Task]]]:
        """Runs `pending`, from its end, until none is left or a process dies; `suspects` were under way then."""
        running: dict[Future[Result], Task] = {}
        whole = False
        try:
            while (pending or running) and not suspects:
                while pending and len(running) < self.workers.count + 1:  # one more than workers: none waits for us
                    running[self._submit(function, pending[-1])] = pending[-1]
                    pending.pop()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    task = running.pop(future)
                    try:
                        yield task, future.result()
                    except BrokenProcessPool:
                        suspects.append(task)
            whole = not suspects
        except BrokenProcessPool:  # from submit: the task is still pending
            pass
        finally:
            if not whole:
                self.close()
        suspects += running.values()

    def _submit(self, function: Callable[[Task], Result], task: Task) -> "Future[Result]":
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.workers.count, mp_context=_CONTEXT, initializer=begin_worker, initargs=(self.workers.memory,)
            )
        with _main_hidden():
            return self._executor.submit(function, task)

    def run_alone(self, function: Callable[[Task], Result], task: Task) -> Result | Died[Task]:
        """Runs one task in a process of its own."""
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_alone, args=(theirs, function, task, self.workers.memory))
        with _main_hidden():
            process.start()
        theirs.close()
        try:
            kind, value = ours.recv()
        except EOFError:
            process.join()
            return Died(task=task, exitcode=process.exitcode or 0)
        finally:
            ours.close()
            with contextlib.suppress(ValueError):
                process.join(timeout=10)
                process.kill()
        if kind == "error":
            raise value
        result: Result = value
        return result

    def close(self) -> None:
        """Ends the processes; the next `run` starts others."""
        if self._executor is None:
            return
        processes = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
        for process in processes:
            process.kill()
        for process in processes:
            process.join()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _alone(connection: Connection, function: Callable[[Task], Result], task: Task, memory: int) -> None:
    begin_worker(memory)
    try:
        connection.send(("result", function(task)))
    except Exception as error:
        connection.send(("error", error))


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keeps new processes from importing this one's main module, of which no task needs anything."""
    main = sys.modules["__main__"]
    known = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in known:
        del main.__file__
    try:
        yield
    finally:
        vars(main).update(known)


def begin_worker(memory: int = 0) -> None:
    """Leaves Ctrl-C to the parent, ends with it, also when it is killed, and takes no more memory than it may."""
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # a collection would write to, and so copy, the pages that forked workers share
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def alarm(seconds: float) -> None:
    """Ends this process after `seconds` unless called again before; 0 calls it off.

    The last resort against a decoder that does not return: Python's own checks never run then.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
