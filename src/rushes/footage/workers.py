"""Work in processes that may crash: a decoder that crashes on one file takes nothing else with it.

    with Pool(Workers(count=2)) as pool:
        for path, found in pool.run(probe, paths):
            ...  # the result, or Crashed

Tasks run in a pool of processes, which is kept for later tasks. When one of them crashes (segmentation fault, out of
memory, a hung decoder ended at its deadline), the pool is lost; the tasks that were running are then run one by one,
each in a process of its own, and only the one that crashes again is reported as `Crashed`.
"""

import contextlib
import errno
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from rushes.temporary import holds_sockets
from rushes.video.guard import limit_memory

Task = TypeVar("Task")
Result = TypeVar("Result")

# Forked from a small server process: a fork of a process with threads (torch, gRPC) may hang, and each spawned process
# would import everything again. The server has a socket in the temporary folder.
_CONTEXT = multiprocessing.get_context("forkserver") if holds_sockets() else multiprocessing.get_context("spawn")
_CONTEXT.set_forkserver_preload(["rushes.footage.preload"])


@dataclass(frozen=True, kw_only=True)
class Crashed(Generic[Task]):
    """A task that ran alone in a process, and whose process crashed."""

    task: Task
    exitcode: int

    @property
    def by_deadline(self) -> bool:
        """Whether `deadline` ended it."""
        return self.exitcode == -signal.SIGALRM


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes, and the memory of each."""

    count: int
    memory: int = 0
    """Bytes per process; 0 sets no limit. Beyond it an allocation fails, and with it the file."""


class Pool:
    """Processes for tasks: started when first needed, and kept from one `run` to the next until `close`."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Result | Crashed[Task]]]:
        """Yields (task, result) in order of completion; `function` and tasks must be picklable.

        Raises:
            Exception: what `function` raises; all processes are then ended, as when the iterator is closed early.
        """
        pending = list(reversed(tasks))
        while pending:
            suspects: list[Task] = []
            yield from self._together(function, pending, suspects)
            for task in suspects:
                yield task, self.run_alone(function, task)

    def _together(
        self, function: Callable[[Task], Result], pending: list[Task], suspects: list[Task]
    ) -> Iterator[tuple[Task, Result | Crashed[Task]]]:
        """Runs `pending`, from its end, until none is left or a process crashes; `suspects` were running then."""
        running: dict[Future[Result], Task] = {}
        whole = False
        try:
            while (pending or running) and not suspects:
                while pending and len(running) < self.workers.count + 1:  # one more than workers, so that none idles
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
        try:
            with _main_hidden():
                return self._executor.submit(function, task)
        except OSError as error:
            # The executor's thread has found a crash and closes its pipes while this one starts a process with them.
            if error.errno != errno.EBADF:
                raise
            raise BrokenProcessPool(str(error)) from error

    def run_alone(self, function: Callable[[Task], Result], task: Task) -> Result | Crashed[Task]:
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
            return Crashed(task=task, exitcode=process.exitcode or 0)
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
        thread: threading.Thread | None = self._executor._executor_manager_thread  # type: ignore[assignment]
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        if thread is not None:  # it closes its pipes, to which an interpreter that ends meanwhile would write
            thread.join(timeout=10)

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
    """Keeps new processes from importing this one's main module, which no task needs."""
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
    """Limits this process's memory, ignores Ctrl-C, and ends it when its parent ends, however that ends."""
    limit_memory(memory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # a collection would write to the pages that forked workers share, and so copy them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
