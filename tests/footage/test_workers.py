"""Processes that die take nothing else with them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rushes.footage.workers import Died, Workers, alarm, run_alone, run_tasks


def square(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if n == 5:
        alarm(0.05)
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
    results = dict(run_tasks(square, range(8), workers=Workers(count=2)))
    assert {n: r for n, r in results.items() if n not in (3, 5)} == {n: n * n for n in range(8) if n not in (3, 5)}
    crash, hang = results[3], results[5]
    assert isinstance(crash, Died) and crash.exitcode == -signal.SIGSEGV and not crash.by_alarm
    assert isinstance(hang, Died) and hang.by_alarm


def test_a_process_killed_by_accident_costs_only_a_repetition(tmp_path: Path) -> None:
    flag = str(tmp_path / "flag")
    assert list(run_tasks(die_once, [flag], workers=Workers(count=1))) == [(flag, "done")]


def test_errors_of_the_work_itself_come_through() -> None:
    with pytest.raises(ValueError, match="bad 1"):
        list(run_tasks(fail, [1], workers=Workers(count=1)))
    with pytest.raises(ValueError, match="bad 2"):
        run_alone(fail, 2, workers=Workers(count=1))


def test_a_long_temporary_folder_holds_no_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = (
        "from rushes.footage.workers import Workers, run_tasks\n"
        "print(sorted(run_tasks(abs, [-1, -2], workers=Workers(count=1))))"
    )
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[(-2, 2), (-1, 1)]\n", "")


def hog(size: int) -> int:
    return len(bytearray(size))


def test_no_process_takes_more_memory_than_it_may() -> None:
    limited = Workers(count=1, memory=1 << 30)
    assert list(run_tasks(hog, [100 << 20], workers=limited)) == [(100 << 20, 100 << 20)]
    with pytest.raises(MemoryError):
        list(run_tasks(hog, [2 << 30], workers=limited))
    with pytest.raises(MemoryError):
        run_alone(hog, 2 << 30, workers=limited)
