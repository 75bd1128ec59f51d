"""Footage of a store that is not a folder: the same frames at once, whole shards later, and never stuck."""

import logging
import multiprocessing
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.store import Manifest, Store, sha256_file
from rushes.store import remote as backend
from tests.footage.remote import put_footage

SHARDS, SEGMENTS = 3, 10


class Counted(MemoryFileSystem):  # type: ignore[misc]
    """Remembers what was read, and fails as often as it is told to."""

    protocol = "counted"
    ranges: ClassVar[list[int]] = []
    wholes: ClassVar[list[str]] = []
    failures: ClassVar[list[Exception]] = []

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if self.failures:
            raise self.failures.pop()
        if start is not None and end is not None:
            self.ranges.append(end - start)
        data: bytes = super().cat_file(path, start=start, end=end, **options)
        return data

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.wholes.append(rpath.rsplit("/", 1)[-1])
        super().get_file(rpath, lpath, **options)


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fsspec.register_implementation("counted", Counted, clobber=True)
    for record in (Counted.ranges, Counted.wholes, Counted.failures):
        record.clear()
    yield
    MemoryFileSystem.store.clear()


class Place:
    """The same footage in a folder and in a remote store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"counted://{uuid.uuid4().hex}"
        store = Store(str(folder / "here"))
        self.manifest: Manifest = put_footage(store, shards=SHARDS, segments=SEGMENTS)
        self.here = Footage(self.manifest, store)
        there = Store(self.url, cache=folder / "unused")
        for path in (folder / "here" / "objects").glob("*/*"):
            there.put(path)

    def remote(self, *, cache_bytes: int = 10**8) -> Footage:
        return Footage(self.manifest, Store(self.url, cache=self.folder / "cache", cache_bytes=cache_bytes))

    def rows_of(self, shard: int) -> list[int]:
        return np.flatnonzero(self.here.segments.shard == shard).tolist()

    def object_of(self, shard: int) -> str:
        return self.here._shards[shard].tar.sha256

    def cached(self, shard: int) -> bool:
        name = self.object_of(shard)
        return (self.folder / "cache" / "objects" / name[:2] / name).exists()

    def damage(self, shard: int, change: Callable[[bytearray], None]) -> None:
        name = self.object_of(shard)
        store = Store(self.url)
        data = bytearray(store.read(f"objects/{name[:2]}/{name}") or b"")
        change(data)
        store.write(f"objects/{name[:2]}/{name}", bytes(data))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same(one: Footage, other: Footage, rows: list[int]) -> None:
    for row in rows:
        assert one.mp4(row) == other.mp4(row)
        assert np.array_equal(one.window(row, 3, 9), other.window(row, 3, 9))
        (magnitude, grid), (same, alike) = one.motion(row), other.motion(row)
        assert np.array_equal(magnitude, same) and np.array_equal(grid, alike)


def test_the_first_segment_costs_its_bytes_and_no_shard(place: Place) -> None:
    remote = place.remote()
    tables = list(Counted.wholes)
    row = place.rows_of(1)[0]
    assert remote.mp4(row) == place.here.mp4(row)
    magnitude, _ = remote.motion(row)
    assert np.array_equal(magnitude, place.here.motion(row)[0])
    assert Counted.ranges == [int(place.here.segments.length[row]), 22 * 30]
    time.sleep(0.3)
    assert Counted.wholes == tables and len(tables) == 2, "the two tables"


def test_what_is_read_on_is_fetched_whole_and_stays_the_same(place: Place) -> None:
    remote = place.remote()
    assert_same(remote, place.here, [*place.rows_of(0), *place.rows_of(2)[:1]])
    wait(lambda: place.cached(0))
    time.sleep(0.3)
    assert not place.cached(1)
    ranges = len(Counted.ranges)
    assert_same(remote, place.here, place.rows_of(0))
    assert len(Counted.ranges) == ranges, "out of the cache"
    assert Counted.wholes.count(place.object_of(0)) == 1


def test_all_rows_are_those_of_the_folder(place: Place) -> None:
    remote = place.remote()
    for _ in range(2):
        assert_same(remote, place.here, place.here.select().tolist())
    assert np.array_equal(remote.texts("key"), place.here.texts("key"))


def test_without_room_it_goes_on_by_ranges_and_says_so_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        remote = place.remote(cache_bytes=100)
        for _ in range(2):
            assert_same(remote, place.here, place.here.select().tolist())
        time.sleep(0.3)
    assert not any(place.cached(shard) for shard in range(SHARDS))
    assert [record.message.count("takes no more") for record in caplog.records] == [1]


def test_a_table_that_had_to_make_room_is_fetched_again(place: Place) -> None:
    remote = place.remote()
    for path in (place.folder / "cache" / "objects").glob("*/*"):
        path.unlink()
    assert np.array_equal(remote.texts("source"), place.here.texts("source"))
    assert np.array_equal(remote.motion_quantiles(), place.here.motion_quantiles())


def test_a_damaged_shard_is_an_error_once_it_is_whole(place: Place) -> None:
    def change(data: bytearray) -> None:
        data[100] ^= 1  # in a header of the tar, which no segment shows

    place.damage(0, change)
    remote = place.remote()

    def read_until_told() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert_same(remote, place.here, place.rows_of(0)[:3])
            time.sleep(0.01)

    with pytest.raises(UserError, match=f"{place.object_of(0)} is not what was stored.*run the step"):
        read_until_told()
    assert not place.cached(0)
    assert_same(remote, place.here, place.rows_of(1))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_shard_that_the_disk_of_the_cache_damaged_is_fetched_again(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    place = Place(tmp_path_factory.mktemp("place"))
    name = place.object_of(0)
    place.remote()._store.path(place.here._shards[0].tar)
    cached = place.folder / "cache" / "objects" / name[:2] / name
    damaged = bytearray(cached.read_bytes())
    damaged[int(where * len(damaged))] ^= 1 << bit
    cached.write_bytes(damaged)
    remote = place.remote()
    assert_same(remote, place.here, place.rows_of(0))
    wait(lambda: cached.exists())
    assert sha256_file(cached) == name
    ranges = len(Counted.ranges)
    assert remote.mp4(place.rows_of(0)[0]) == place.here.mp4(place.rows_of(0)[0])
    assert len(Counted.ranges) == ranges, "read from the cache"


def test_a_damaged_segment_is_named(place: Place) -> None:
    def change(data: bytearray) -> None:
        data[:] = bytes(len(data))

    place.damage(0, change)
    row = place.rows_of(0)[2]
    key, shard = place.here.texts("key")[row], place.object_of(0)[:12]
    with pytest.raises(UserError, match=f"segment {key} of object {shard} does not decode.*run sample again"):
        place.remote().window(row, 0, 3)


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_shard_that_is_not_whole_is_named(place: Place, change: str) -> None:
    name = place.object_of(0)
    if change == "cut":
        place.damage(0, lambda data: data.__delitem__(slice(len(data) // 2, None)))
    else:
        Store(place.url).remove(f"objects/{name[:2]}/{name}")
    with pytest.raises(UserError, match=f"object {name[:12]} is .*run the step"):
        place.remote().mp4(place.rows_of(0)[-1])


def test_a_store_that_is_busy_is_asked_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = place.remote()
    Counted.failures.extend([OSError(16, "SlowDown"), ConnectionResetError("gone"), TimeoutError("slow")])
    assert remote.mp4(0) == place.here.mp4(0)
    assert not Counted.failures
    Counted.failures.append(PermissionError("AccessDenied"))
    with pytest.raises(PermissionError):
        remote.mp4(1)
    monkeypatch.setattr(backend, "_PATIENCE", 0.2)
    Counted.failures.extend([ConnectionResetError("gone")] * 50)
    with pytest.raises(ConnectionResetError):
        remote.mp4(1)


def test_a_fetch_in_the_background_that_fails_is_no_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Counted, *arguments: Any, **options: Any) -> None:
        raise PermissionError("AccessDenied")

    remote = place.remote()
    monkeypatch.setattr(Counted, "get_file", broken)
    with caplog.at_level(logging.WARNING):
        assert_same(remote, place.here, place.here.select().tolist())
        wait(lambda: bool(caplog.records))
        assert_same(remote, place.here, place.here.select().tolist())
    assert len(caplog.records) == 1 and "could not be cached (AccessDenied)" in caplog.records[0].message


def _mp4s(footage: Footage, result: Any) -> None:
    found = [footage.mp4(row) for row in footage.select()]
    name = footage._shards[0].tar.sha256
    wait((footage._store.cache.folder / "objects" / name[:2] / name).exists)
    result.put(found)


def test_a_forked_process_reads_and_fetches_for_itself(place: Place) -> None:
    remote, fork = place.remote(), multiprocessing.get_context("fork")
    for row in place.rows_of(1)[:2]:
        remote.mp4(row)
    wait(lambda: place.cached(1))  # its own thread is at work
    result = fork.Queue()
    process = fork.Process(target=_mp4s, args=(remote, result))  # nothing is pickled
    process.start()
    assert result.get(timeout=70) == [place.here.mp4(row) for row in place.here.select()]
    process.join()


def test_it_travels_without_what_it_has_read(place: Place) -> None:
    remote = place.remote()
    remote.window(0, 0, 3)
    copy = pickle.loads(pickle.dumps(remote))
    assert copy.mp4(0) == place.here.mp4(0)
    assert len(pickle.dumps(remote)) < 20_000
