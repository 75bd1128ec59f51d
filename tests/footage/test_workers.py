"""Processes that die take nothing else with them."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rushes.footage.workers import Crashed, Pool, Workers
from rushes.video.guard import deadline


def square(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if n == 5:
        deadline(0.05)
        time.sleep(30)
    return n * n


def fail(n: int) -> int:
    raise ValueError(f"bad {n}")


def die_once(flag: str) -> str:
    if not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_a_crash_and_a_hang_are_reported_and_the_rest_is_done() -> None:
    with Pool(Workers(count=2)) as pool:
        results = dict(pool.run(square, range(8)))
    assert {n: r for n, r in results.items() if n not in (3, 5)} == {n: n * n for n in range(8) if n not in (3, 5)}
    crash, hang = results[3], results[5]
    assert isinstance(crash, Crashed) and crash.exitcode == -signal.SIGSEGV and not crash.by_deadline
    assert isinstance(hang, Crashed) and hang.by_deadline


def test_a_process_killed_by_accident_costs_only_a_repetition(tmp_path: Path) -> None:
    flag = str(tmp_path / "flag")
    with Pool(Workers(count=1)) as pool:
        assert list(pool.run(die_once, [flag])) == [(flag, "done")]


def process(_: int) -> int:
    return os.getpid()


def test_processes_stay_until_one_dies_or_the_pool_is_closed() -> None:
    def found() -> set[int | Crashed[int]]:
        return {pid for _, pid in pool.run(process, range(8))}

    with Pool(Workers(count=1)) as pool:
        first = found()
        assert len(first) == 1 and found() == first
        assert not [n for n, _ in pool.run(square, [3, 4]) if n not in (3, 4)]
        second = found()
        assert len(second) == 1 and second != first
        (left,) = second
    assert isinstance(left, int) and not Path(f"/proc/{left}").exists()


def test_whoever_dies_between_two_runs_is_replaced() -> None:
    with Pool(Workers(count=2)) as pool:
        for _ in range(3):
            (pid,) = {pid for _, pid in pool.run(process, [0])}
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGKILL)
            assert dict(pool.run(square, [1, 2])) == {1: 1, 2: 4}


@pytest.mark.parametrize(("number", "passes"), [(errno.EBADF, True), (errno.EMFILE, False)])
def test_a_pool_that_closes_while_a_process_starts_is_replaced(
    number: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash that the executor notices in the middle of `submit`: its pipes are closed under the new process."""
    start = ProcessPoolExecutor._spawn_process  # type: ignore[attr-defined]
    failures = [OSError(number, os.strerror(number))]

    def spawn(executor: ProcessPoolExecutor) -> None:
        if failures:
            raise failures.pop()
        start(executor)

    monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", spawn)
    with Pool(Workers(count=2)) as pool:
        if passes:
            assert dict(pool.run(square, [1, 2, 4])) == {1: 1, 2: 4, 4: 16}
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                list(pool.run(square, [1, 2, 4]))


def test_an_iterator_that_is_given_up_ends_the_processes() -> None:
    with Pool(Workers(count=2)) as pool:
        results = pool.run(process, range(100))
        _, pid = next(results)
        assert Path(f"/proc/{pid}").exists()
        del results
        assert not Path(f"/proc/{pid}").exists()


def imported(size: int) -> tuple[set[str], int]:
    square = np.ones((size, size)) @ np.ones((size, size))  # large enough to be worth threads
    assert square[0, 0] == size
    threads = list(Path("/proc/self/task").iterdir())
    return {"fsspec", "pyarrow", "rushes.footage.shards", "yaml"} & set(sys.modules), len(threads)


def test_processes_have_what_decoding_needs_and_no_more() -> None:
    with Pool(Workers(count=1)) as pool:
        ((_, found),) = pool.run(imported, [500])
    assert found == ({"rushes.footage.shards"}, 2), "the second thread waits for the parent's end"


def test_errors_of_the_work_itself_come_through() -> None:
    with Pool(Workers(count=1)) as pool:
        with pytest.raises(ValueError, match="bad 1"):
            list(pool.run(fail, [1]))
        with pytest.raises(ValueError, match="bad 2"):
            pool.run_alone(fail, 2)


def test_a_closed_pool_leaves_no_thread_that_an_ending_interpreter_would_meet() -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        with Pool(Workers(count=2)) as pool:
            assert len(list(pool.run(abs, [-1, -2, -3]))) == 3
        assert {thread for thread in threading.enumerate() if "Manager" in type(thread).__name__} <= before


def test_a_long_temporary_folder_holds_no_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = (
        "from rushes.footage.workers import Pool, Workers\n"
        "with Pool(Workers(count=1)) as pool:\n"
        "    print(sorted(pool.run(abs, [-1, -2])))"
    )
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[(-2, 2), (-1, 1)]\n", "")


def hog(size: int) -> int:
    return len(bytearray(size))


def test_no_process_takes_more_memory_than_it_may() -> None:
    with Pool(Workers(count=1, memory=1 << 30)) as pool:
        assert list(pool.run(hog, [100 << 20])) == [(100 << 20, 100 << 20)]
        with pytest.raises(MemoryError):
            list(pool.run(hog, [2 << 30]))
        with pytest.raises(MemoryError):
            pool.run_alone(hog, 2 << 30)
