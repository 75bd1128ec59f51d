"""The store: what was put comes back whole or is noticed; writes survive kills; create has one winner."""

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.store import File, Manifest, Store, sha256_file, write_atomic


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    return Store(f"memory://{uuid.uuid4().hex}/store", cache=tmp_path / "cache")


def manifest(*, digest: str = "d1", files: dict[str, File] | None = None, **changes: Any) -> Manifest:
    made = Manifest(
        kind="backbone",
        step="pretrain",
        digest=digest,
        inputs={"footage": "sample/ab"},
        config={"lr": 0.1},
        code="c",
        files=files or {},
        summary={"loss": 1.5},
        versions={"torch": "2"},
    )
    return dataclasses.replace(made, **changes)


def damage(store: Store, file: File, change: Callable[[bytes], bytes | None]) -> None:
    """Alters an object where it is stored, behind the store's back."""
    name = f"objects/{file.sha256[:2]}/{file.sha256}"
    data = store.read(name)
    assert data is not None
    changed = change(data)
    if changed is None:
        store.remove(name)
    else:
        store.write(name, changed)


# Objects -------------------------------------------------------------------------------------------------------------


def test_what_is_put_comes_back(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(3_000_000))
    file = store.put(source)
    assert file == File(sha256=sha256_file(source), size=3_000_000)
    assert file == store.put(source) == store.put_bytes(source.read_bytes())
    assert store.path(file).read_bytes() == store.checked(file).read_bytes() == source.read_bytes()
    empty = store.put_bytes(b"")
    assert store.checked(empty).read_bytes() == b""


def test_a_missing_object_is_named_with_a_remedy(store: Store) -> None:
    with pytest.raises(UserError, match=r"object 000000000000 is missing.*run the step"):
        store.path(File(sha256="0" * 64, size=3))


def test_a_truncated_object_is_noticed_and_stored_again(store: Store) -> None:
    data = os.urandom(100_000)
    file = store.put_bytes(data)
    store.publish(manifest(files={"w": file}))
    damage(store, file, lambda data: data[:-1])
    with pytest.raises(UserError, match="run the step"):
        store.path(file)
    assert store.find("pretrain/d1") is None
    store.put_bytes(data)
    assert store.checked(file).read_bytes() == data
    assert store.find("pretrain/d1") is not None


def test_an_altered_object_is_noticed(store: Store) -> None:
    file = store.put_bytes(b"a" * 1000)
    damage(store, file, lambda data: b"b" + data[1:])
    with pytest.raises(UserError, match="is not what was stored"):
        store.checked(file)


def test_an_altered_object_can_be_made_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    data = os.urandom(1000)
    file = store.put_bytes(data)
    store.publish(manifest(files={"w": file}))
    damage(store, file, lambda data: bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(UserError, match="run the step that made it again"):
        store.checked(file)
    # The remedy must work: the step does not count as done, and its bytes are stored afresh.
    assert store.find("pretrain/d1") is None
    store.put_bytes(data)
    assert store.checked(file).read_bytes() == data


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"x" + data[1:]])
def test_a_damaged_cache_is_fetched_again(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path)
    file = store.put_bytes(b"a" * 1000)
    cached = store.path(file)
    cached.write_bytes(change(cached.read_bytes()))
    assert store.path(file).stat().st_size == 1000
    assert store.checked(file).read_bytes() == b"a" * 1000


def test_a_cache_that_is_removed_while_it_is_filled_is_not_taken_for_a_missing_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")
    file = store.put_bytes(b"a" * 1000)

    def emptied(self: MemoryFileSystem, remote: str, local: str) -> None:
        """As s3fs does: without making the folder."""
        shutil.rmtree(store.cache.folder, ignore_errors=True)
        Path(local).write_bytes(self.cat_file(remote))

    monkeypatch.setattr(MemoryFileSystem, "get_file", emptied)
    assert store.path(file).read_bytes() == b"a" * 1000
    store.discard(file.sha256)
    with pytest.raises(UserError, match="missing"):
        Store(store.url, cache=tmp_path / "another").path(file)


# Manifests -----------------------------------------------------------------------------------------------------------


def test_a_published_manifest_is_found_and_equal(store: Store) -> None:
    made = manifest(files={"w": store.put_bytes(b"weights")})
    assert store.find(made.ref) is None
    store.publish(made)
    assert store.find(made.ref) == made
    assert store.find("pretrain/other") is None


def test_an_output_with_a_missing_object_is_not_there(store: Store) -> None:
    kept, lost = store.put_bytes(b"kept"), store.put_bytes(b"lost")
    store.publish(manifest(files={"a": kept, "b": lost}))
    damage(store, lost, lambda data: None)
    assert store.find("pretrain/d1") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "files": {}}'])
def test_an_unreadable_manifest_is_not_there_so_that_its_step_can_run(store: Store, text: str) -> None:
    store.write("steps/pretrain/d1.json", text.encode())
    assert store.find("pretrain/d1") is None
    store.publish(manifest())
    assert store.find("pretrain/d1") == manifest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_other_json_is_no_manifest(value: object) -> None:
    with pytest.raises(UserError, match=r"here\.json"):
        Manifest.from_json(json.dumps(value), source="here.json")


@given(
    summary=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    files=st.dictionaries(st.text(max_size=5), st.builds(File, sha256=st.text("0123456789abcdef"), size=st.integers())),
)
def test_a_manifest_survives_its_text(summary: dict[str, Any], files: dict[str, File]) -> None:
    made = manifest(summary=summary, files=files)
    assert Manifest.from_json(made.to_json()) == made


def test_content_is_the_files_and_neither_the_run_that_made_them_nor_its_log() -> None:
    weights, log = File(sha256="aa", size=1), File(sha256="bb", size=1)
    made = manifest(files={"weights": weights, "history.json": log})
    assert manifest(digest="d2", files={"history.json": weights, "weights": weights}).content == made.content
    assert manifest(files={"weights": log}).content != made.content != manifest(files={"other": weights}).content
    assert manifest(digest="d2").content == "pretrain/d2", "without files, what made it"


def test_an_accepted_output_says_so_and_others_are_as_version_0_1_reads_them() -> None:
    made = manifest(accepted={"ref": "pretrain/d0", "reason": "why"})
    assert Manifest.from_json(made.to_json()) == made
    assert "accepted" not in json.loads(manifest().to_json())


def test_a_record_has_a_date(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    store.write("steps/a/b.json", b"{}")
    found = store.modified("steps/a/b.json")
    assert before < (found if found.tzinfo else found.replace(tzinfo=UTC)) < before + timedelta(seconds=60)
    with pytest.raises(FileNotFoundError):
        store.modified("steps/a/c.json")


def test_a_pointer_of_another_kind_is_refused(tmp_path: Path) -> None:
    manifest().write(tmp_path / "pointer")
    assert Manifest.read(tmp_path / "pointer", kind="backbone") == manifest()
    with pytest.raises(UserError, match="kind 'backbone', expected 'footage'"):
        Manifest.read(tmp_path / "pointer", kind="footage")
    with pytest.raises(UserError, match="run the step"):
        Manifest.read(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the manifest"):
        Manifest.read(tmp_path / "binary")


# Records -------------------------------------------------------------------------------------------------------------


def test_records_are_written_read_listed_and_removed(store: Store) -> None:
    assert store.names("ledger/e") == []
    for name in ("b", "a", "c"):
        store.write(f"ledger/e/{name}", name.encode())
    store.write("ledger/e/a", b"new")
    assert store.names("ledger/e") == ["a", "b", "c"]
    assert store.read("ledger/e/a") == b"new"
    store.remove("ledger/e/a")
    store.remove("ledger/e/a")
    assert store.names("ledger/e") == ["b", "c"]
    assert store.read("ledger/e/a") is None
    assert store.names("ledger") == ["e"]


def test_create_never_replaces(store: Store) -> None:
    assert store.create("ledger/e/1", b"first")
    assert not store.create("ledger/e/1", b"second")
    assert store.read("ledger/e/1") == b"first"
    assert store.names("ledger/e") == ["1"]


RECORDS = 40


def _race(url: str, number: int, barrier: Barrier, won: Any) -> None:
    store = Store(url)
    for record in range(RECORDS):
        barrier.wait()
        if store.create(f"race/{record:03d}", f"{number}".encode() * 10_000):
            won.put((record, number))


def test_of_eight_processes_that_create_at_once_one_wins(tmp_path: Path) -> None:
    barrier = multiprocessing.Barrier(8)
    won: multiprocessing.Queue[tuple[int, int]] = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=_race, args=(str(tmp_path), n, barrier, won)) for n in range(8)]
    for process in processes:
        process.start()
    winners = [won.get(timeout=60) for _ in range(RECORDS)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert won.empty()
    assert sorted(record for record, _ in winners) == list(range(RECORDS))
    store = Store(str(tmp_path))
    for record, number in winners:
        assert store.read(f"race/{record:03d}") == f"{number}".encode() * 10_000
    assert store.names("race") == [f"{record:03d}" for record in range(RECORDS)]


def test_records_and_objects_are_readable_by_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create("a/created", b"x")
    store.write("a/written", b"x")
    object_ = store.path(store.put_bytes(b"y"))
    source = tmp_path / "z"
    source.write_bytes(b"z")
    copied = store.path(store.put(source))
    for path in (tmp_path / "a/created", tmp_path / "a/written", object_, copied):
        assert path.stat().st_mode & 0o777 == 0o644


class _ListingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Keeps listings as s3fs does."""

    protocol = "listing"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        known = self._ls_from_cache(path)
        if known is None:
            known = super().ls(path, detail=True, **options)
            self.dircache[path] = known
        return known if detail else [entry["name"] for entry in known]


def test_a_listing_shows_what_others_wrote_since(tmp_path: Path) -> None:
    fsspec.register_implementation("listing", _ListingFileSystem, clobber=True)
    url = f"listing://{uuid.uuid4().hex}"
    store = Store(url, cache=tmp_path)
    store.write("ledger/e/1", b"x")
    assert store.names("ledger/e") == ["1"]
    MemoryFileSystem().pipe_file(f"{fsspec.core.url_to_fs(url)[1]}/ledger/e/2", b"y")
    assert store.names("ledger/e") == ["1", "2"]


def test_an_url_that_cannot_be_opened_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"nonsense://x.*cannot be opened"):
        Store("nonsense://x")


# Kills ---------------------------------------------------------------------------------------------------------------

LARGE = 4_000_000


def _write_for_ever(folder: Path) -> None:
    store = Store(str(folder))
    while True:
        for letter in (b"a", b"b"):
            store.write("record", letter * LARGE)


def _put_for_ever(folder: Path, number: int) -> None:
    store = Store(str(folder))
    for turn in range(10**6):
        source = folder / f"source-{number}"
        source.write_bytes(f"{number:04d}{turn:06d}".encode() * (LARGE // 10))
        file = store.put(source)
        store.publish(manifest(digest=f"{number}-{turn}", files={"w": file}))


def _kill_after(seconds: float, target: Callable[..., None], *arguments: Any) -> None:
    process = multiprocessing.Process(target=target, args=arguments)
    process.start()
    assert process.pid is not None
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _check_write_survives_kills(folder: Path, kills: int) -> None:
    path = folder / "record"
    rng = random.Random(1)
    path.write_bytes(b"b" * LARGE)
    for _ in range(kills):
        _kill_after(rng.uniform(0.01, 0.06), _write_for_ever, folder)
        data = path.read_bytes()
        assert data in (b"a" * LARGE, b"b" * LARGE)


def _check_publish_survives_kills(folder: Path, kills: int) -> int:
    rng = random.Random(2)
    store = Store(str(folder))
    for number in range(kills):
        _kill_after(rng.uniform(0.02, 0.12), _put_for_ever, folder, number)
    # Whatever has its final name is whole, and what is published has its objects.
    for path in (folder / "objects").rglob("*"):
        if path.is_file() and not path.name.startswith(".part-"):
            assert sha256_file(path) == path.name
    published = [name.removesuffix(".json") for name in store.names("steps/pretrain")]
    assert all(store.find(f"pretrain/{digest}") is not None for digest in published)
    return len(published)


def test_a_kill_leaves_the_old_record_or_the_new(tmp_path: Path) -> None:
    _check_write_survives_kills(tmp_path, kills=20)


def test_a_kill_leaves_no_half_object_and_no_half_output(tmp_path: Path) -> None:
    assert _check_publish_survives_kills(tmp_path, kills=15) > 0


@pytest.mark.soak
def test_many_kills(tmp_path: Path) -> None:
    _check_write_survives_kills(tmp_path, kills=300)
    _check_publish_survives_kills(tmp_path, kills=300)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
