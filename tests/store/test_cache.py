"""The node's cache: never too much and never anything half, whatever processes do at once and whoever is killed."""

import errno
import fcntl
import hashlib
import logging
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rushes.store import cache as module
from rushes.store.cache import Cache, NoRoomError

SIZE = 100_000
FORK = multiprocessing.get_context("fork")


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def name(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


def fetching(number: int, *, log: Path | None = None, seconds: float = 0.0) -> Callable[[Path], None]:
    """Writes an object in ten steps."""

    def fetch(path: Path) -> None:
        if log is not None:
            with log.open("a") as file:
                file.write(f"{number}\n")
        data = content(number)
        with path.open("wb") as file:
            for begin in range(0, SIZE, SIZE // 10):
                file.write(data[begin : begin + SIZE // 10])
                file.flush()
                time.sleep(seconds / 10)

    return fetch


def fill(cache: Cache, number: int, *, urgent: bool = True, **more: Any) -> Path:
    return cache.fill(name(number), SIZE, fetching(number, **more), urgent=urgent)


def held(cache: Cache) -> set[int]:
    return {number for number in range(12) if (cache.folder / "objects" / name(number)[:2] / name(number)).exists()}


def used(cache: Cache, number: int, seconds_ago: float) -> None:
    when = time.time() - seconds_ago
    os.utime(cache.folder / "objects" / name(number)[:2] / name(number), (when, when))


def taken(folder: Path) -> int:
    """Bytes of all objects and parts; one that is renamed meanwhile counts once."""
    found = {}
    for path in folder.glob("objects/*/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found[stat.st_ino] = stat.st_size
    return sum(found.values())


def test_what_is_least_recently_used_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3 * SIZE + 10)
    for number, ago in ((0, 300.0), (1, 200.0), (2, 100.0)):
        assert fill(cache, number).read_bytes() == content(number)
        used(cache, number, ago)
    assert cache.find(name(0), SIZE) is not None
    fill(cache, 3)
    assert held(cache) == {0, 2, 3}
    used(cache, 2, 100.0)
    used(cache, 3, 50.0)
    assert cache.read(name(2), SIZE, 10, 20) == content(2)[10:20]
    fill(cache, 4)
    assert held(cache) == {0, 2, 4}


def test_what_is_not_urgent_removes_only_what_nobody_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path, limit=2 * SIZE)
    fill(cache, 0), fill(cache, 1)
    used(cache, 0, 1000.0)
    with caplog.at_level(logging.WARNING):
        for number in (2, 3, 4):
            with pytest.raises(NoRoomError):
                fill(cache, number, urgent=False)
    assert held(cache) == {0, 1}
    assert [record.message.count("takes no more") for record in caplog.records] == [1], "said once"
    used(cache, 0, 4000.0)
    fill(cache, 2, urgent=False)
    assert held(cache) == {1, 2}


def test_what_is_larger_than_the_limit_is_let_in_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=SIZE // 2)
    fill(cache, 0), fill(cache, 1)
    assert held(cache) == {1}


def test_a_share_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_FREE", 0.0)
    fill(Cache(tmp_path), 0, urgent=False)
    monkeypatch.setattr(module, "KEEP_FREE", 1.0)
    with pytest.raises(NoRoomError):
        fill(Cache(tmp_path), 1, urgent=False)
    # What must be here takes of it; what was handed out a moment ago stays where it is.
    fill(Cache(tmp_path), 1)
    assert held(Cache(tmp_path)) == {0, 1}
    used(Cache(tmp_path), 0, 4000.0)
    fill(Cache(tmp_path), 2)
    assert held(Cache(tmp_path)) == {1, 2}


def test_an_object_stays_whole_for_whoever_has_it_open(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=SIZE)
    with fill(cache, 0).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        fill(cache, 1)
        assert held(cache) == {1}
        assert mapped[:] == file.read() == content(0)
    assert cache.read(name(0), SIZE, 0, 10) is None


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("not what was stored")

    with pytest.raises(ValueError, match="not what was stored"):
        cache.fill(name(0), SIZE, broken, urgent=True)
    assert taken(tmp_path) == 0 and not list(tmp_path.glob("objects/*/*"))
    assert fill(cache, 0).read_bytes() == content(0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_while_fetching_leaves_nothing(tmp_path: Path, number: int) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoRoomError):
        Cache(tmp_path).fill(name(0), SIZE, full, urgent=True)
    assert not list(tmp_path.glob("objects/*/*"))


def test_a_folder_that_is_removed_while_fetching_is_no_room(tmp_path: Path) -> None:
    """Somebody empties the cache, which they may at any time."""
    cache = Cache(tmp_path / "cache")

    def fetch(path: Path) -> None:
        shutil.rmtree(cache.folder)
        path.write_bytes(content(1))

    with pytest.raises(NoRoomError):
        cache.fill(name(1), SIZE, fetch, urgent=True)
    assert fill(cache, 1).read_bytes() == content(1), "and later it is filled again"


def test_a_truncated_object_is_not_here(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = fill(cache, 0)
    path.write_bytes(content(0)[:-1])
    assert cache.find(name(0), SIZE) is None and cache.read(name(0), SIZE, 0, 5) is None
    assert fill(cache, 0).read_bytes() == content(0)


# Several processes ---------------------------------------------------------------------------------------------------


def _use_many(folder: Path, limit: int, seed: int, result: Any) -> None:
    cache, rng = Cache(folder, limit=limit), random.Random(seed)
    whole = gone = 0
    for _ in range(40):
        number = rng.randrange(12)
        path = fill(cache, number, seconds=0.01)
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another has made room of it
            gone += 1
            continue
        assert data == content(number)
        part = cache.read(name(number), SIZE, 500, 900)
        assert part is None or part == data[500:900]
        whole += 1
    result.put((whole, gone))


def test_four_processes_at_once_stay_within_the_limit(tmp_path: Path) -> None:
    limit = 2 * SIZE + SIZE // 2
    result: Any = FORK.Queue()
    processes = [FORK.Process(target=_use_many, args=(tmp_path, limit, seed, result)) for seed in range(4)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, taken(tmp_path))
        time.sleep(0.001)
    assert [process.exitcode for process in processes] == [0] * 4
    read = [result.get(timeout=10) for _ in processes]
    assert sum(whole for whole, _ in read) > 60, read
    assert SIZE < most <= limit + SIZE
    assert taken(tmp_path) <= limit and not list(tmp_path.glob("objects/*/.part-*"))


def _fill_one(folder: Path, log: Path, barrier: Any) -> None:
    barrier.wait()
    assert fill(Cache(folder), 0, log=log, seconds=0.3).read_bytes() == content(0)


def test_what_four_processes_want_is_fetched_once(tmp_path: Path) -> None:
    barrier = FORK.Barrier(4)
    arguments = (tmp_path / "cache", tmp_path / "log", barrier)
    processes = [FORK.Process(target=_fill_one, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "0\n"


def _hang(folder: Path) -> None:
    fill(Cache(folder), 0, seconds=600.0)


def test_what_a_killed_process_left_is_removed_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    process = FORK.Process(target=_hang, args=(tmp_path,))
    process.start()
    while not taken(tmp_path):
        time.sleep(0.01)
    cache = Cache(tmp_path, limit=SIZE)
    # While it lives, what is not urgent goes on without it, and its room is taken.
    began = time.monotonic()
    fill(cache, 0, urgent=False)
    with pytest.raises(NoRoomError):
        fill(cache, 1, urgent=False)
    assert held(cache) == set() and time.monotonic() - began < 60
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(tmp_path.glob("objects/*/.part-*"))) == 1
    assert fill(cache, 1).read_bytes() == content(1)
    assert [path.name for path in tmp_path.glob("objects/*/*")] == [name(1)]


def test_a_process_forked_while_room_is_made_keeps_nobody_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache._alone():
        child = FORK.Process(target=time.sleep, args=(60,))
        child.start()
    thread = threading.Thread(target=fill, args=(cache, 0), daemon=True)
    thread.start()
    thread.join(30)
    assert held(cache) == {0}
    child.kill()
    child.join()


def test_without_locks_what_two_processes_want_is_fetched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unknown)
    log = tmp_path / "log"
    threads = [
        threading.Thread(target=fill, args=(Cache(tmp_path), 0), kwargs={"log": log, "seconds": 0.3}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read_text() == "0\n0\n"
    assert [path.read_bytes() for path in tmp_path.glob("objects/*/*")] == [content(0)]
