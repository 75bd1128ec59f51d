"""What `pin` remembers: it is in the store, so another machine, or whoever comes after a kill, reads no file twice."""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from rushes.commands.forget import _contents
from rushes.footage.files import content_digest
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.progress import read_events
from rushes.steps import pin as step
from rushes.store import Store, sha256_file
from tests.s3 import S3

SECONDS = 20.0
"""Of the clock that `slow` sets, for each file."""


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of six files; pinning reads their bytes and nothing else."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abcdef":
        (folder / f"{name}.mp4").write_bytes(f"a film {name}".encode())
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    return Store(str(tmp_path / "store"))


def digests(videos: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in videos.iterdir()}


def change_unseen(videos: Path) -> None:
    """Other bytes in files of the same size and time: a file that is read again has another digest."""
    for path in videos.iterdir():
        time = path.stat().st_mtime_ns
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(time, time))


def pinned(videos: Path | str, home: Path, **options: Any) -> dict[str, str]:
    """Pins in a home; returns the digest of each file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(home))
        manifest = step.pin(data=DataReference(videos=str(videos)), out=home / "pin.json", **options)
        listing = json.loads(open_store().path(manifest.files["listing.json"]).read_text())
    return {path: sha256 for path, sha256, _ in listing["files"]}


def slow(patch: pytest.MonkeyPatch, *, killed_at: int = 0) -> None:
    """Reading a file takes long by the clock; while it reads the one of that number, the process is killed."""
    now = [0.0]

    def read(root: str, path: str) -> str:
        now[0] += SECONDS
        if now[0] == killed_at * SECONDS:
            os.kill(os.getpid(), signal.SIGKILL)
        return content_digest(root, path)

    patch.setattr(step, "content_digest", read)
    patch.setattr(step, "time", SimpleNamespace(monotonic=lambda: now[0]))


def pin_until_killed(videos: Path, home: Path, killed_at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        slow(patch, killed_at=killed_at)
        pinned(videos, home)


def record_of(store: Store) -> str:
    (name,) = store.names("hashes")
    return f"hashes/{name}"


# Elsewhere, and after a kill -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "memory://pin/store"])
def test_a_new_home_reads_nothing_again(
    videos: Path, store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", url or store.url)
    first = pinned(videos, tmp_path / "one")
    assert first == digests(videos)
    change_unseen(videos)
    assert pinned(videos, tmp_path / "two") == first != digests(videos)
    assert not list(tmp_path.glob("*/cache/hashes*"))


def test_from_s3_a_new_home_fetches_no_video_again(
    videos: Path, s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3_server.environment, "RUSHES_STORE": "s3://store/here"}.items():
        monkeypatch.setenv(name, value)
    s3 = fsspec.filesystem("s3")
    s3.mkdir("store")
    s3.mkdir("archive")
    s3.put(str(videos), "archive/day", recursive=True)

    def fetched() -> list[str]:
        asked = [answer["path"] for answer in s3_server.served() if answer["method"] == "GET"]
        return [Path(path).name for path in asked if path.endswith(".mp4")]

    first = pinned("s3://archive/day", tmp_path / "one")
    assert sorted(fetched()) == sorted(first) and first == digests(videos)
    assert pinned("s3://archive/day", tmp_path / "two") == first
    assert len(fetched()) == len(first)
    s3.pipe_file("archive/day/c.mp4", b"another film")
    assert pinned("s3://archive/day", tmp_path / "three") != first
    assert fetched()[len(first) :] == ["c.mp4"]


def test_who_comes_after_a_kill_reads_what_was_not_saved(videos: Path, store: Store, tmp_path: Path) -> None:
    before = digests(videos)
    process = multiprocessing.get_context("spawn").Process(target=pin_until_killed, args=(videos, tmp_path / "one", 6))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    change_unseen(videos)
    found = pinned(videos, tmp_path / "two")
    # It saves every 40 s, so after two files, and after four.
    assert [name for name in sorted(found) if found[name] != before[name]] == ["e.mp4", "f.mp4"]


def test_it_saves_twice_a_minute_at_most(
    videos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    written: list[str] = []
    write = Store.write

    def noted(self: Store, name: str, data: bytes) -> None:
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(Store, "write", noted)
    for n in range(24):
        (videos / f"{n}.mp4").write_bytes(b"a film")
    pinned(videos, tmp_path / "home")
    assert written.count(record_of(store)) == 30 // 2 + 1, "every other file, and the end"
    written.clear()
    pinned(videos, tmp_path / "home")
    assert written == [], "nothing new"


# What is in the memory -----------------------------------------------------------------------------------------------


def entries(videos: Path, **changes: Any) -> dict[str, Any]:
    """A memory of all files that has them as they are, with a made-up digest, but for `changes`."""
    found = {}
    for path in videos.iterdir():
        entry = {"size": path.stat().st_size, "stamp": str(path.stat().st_mtime_ns), "sha256": "0" * 64} | changes
        found[path.name] = [entry["size"], entry["stamp"], entry["sha256"]]
    return found


def test_what_cannot_be_a_memory_is_none(videos: Path, store: Store, tmp_path: Path) -> None:
    pinned(videos, tmp_path / "home")
    record = record_of(store)
    store.write(record, json.dumps(entries(videos)).encode())
    assert set(pinned(videos, tmp_path / "home").values()) == {"0" * 64}, "it is this record that counts"
    known = entries(videos)
    words: list[Any] = ["0" * 63, "0" * 63 + "\n", "0" * 63 + "G", "0" * 65, "../../x", None, 0, []]
    values: list[Any] = [None, 7, "text", {}, []]
    records: list[Any] = [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[" * 200_000,
        b'{"a.mp4": ' + b"1" * 5000 + b"}",
        [],
        None,
        7,
        "text",
        *({name: value for name in known} for value in values),
        {name: entry[:2] for name, entry in known.items()},
        {name: [*entry, 1] for name, entry in known.items()},
        *(entries(videos, sha256=word) for word in words),
        *(entries(videos, size=value) for value in values),
        *(entries(videos, stamp=value) for value in values),
    ]
    for content in records:
        store.write(record, content if isinstance(content, bytes) else json.dumps(content).encode())
        assert pinned(videos, tmp_path / "home") == digests(videos), str(content)[:80]
        assert set(json.loads(store.read(record) or b"")) == set(digests(videos)), "and a good one takes its place"


def test_a_file_that_is_gone_is_not_remembered(videos: Path, store: Store, tmp_path: Path) -> None:
    pinned(videos, tmp_path / "home")
    (videos / "c.mp4").unlink()
    pinned(videos, tmp_path / "home")
    assert sorted(json.loads(store.read(record_of(store)) or b"")) == sorted(digests(videos))


def test_told_to_read_all_again_it_remembers_what_it_finds(videos: Path, store: Store, tmp_path: Path) -> None:
    pinned(videos, tmp_path / "one")
    change_unseen(videos)
    assert pinned(videos, tmp_path / "two", rehash=True) == digests(videos)
    assert pinned(videos, tmp_path / "three") == digests(videos)


# Two at once ---------------------------------------------------------------------------------------------------------


def test_what_another_pin_saved_meanwhile_is_kept(
    videos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(videos, tmp_path / "home")
    record, true = record_of(store), entries(videos)
    store.remove(record)

    def read(root: str, path: str) -> str:
        if path == "b.mp4":
            store.write(record, json.dumps({"f.mp4": true["f.mp4"]}).encode())
        if path == "d.mp4":
            raise KeyboardInterrupt
        return content_digest(root, path)

    monkeypatch.setattr(step, "_SAVE_SECONDS", -1.0)
    monkeypatch.setattr(step, "content_digest", read)
    with pytest.raises(KeyboardInterrupt):
        pinned(videos, tmp_path / "home")
    assert sorted(json.loads(store.read(record) or b"")) == ["a.mp4", "b.mp4", "c.mp4", "f.mp4"]


def test_two_that_save_all_the_time_leave_a_whole_memory(
    videos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        (videos / f"{n}.mp4").write_bytes(f"a film {n}".encode())
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(step, "_SAVE_SECONDS", -1.0)
    begin = threading.Barrier(2)
    refs = []

    def run(name: str) -> None:
        begin.wait()
        refs.append(step.pin(data=DataReference(videos=str(videos)), out=tmp_path / name).ref)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one.json", "two.json")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    first = digests(videos)
    change_unseen(videos)
    assert len(set(refs)) == 1 and len(refs) == 2
    assert pinned(videos, tmp_path / "another") == first


def test_columns_that_are_not_used_are_said_once(videos: Path, store: Store, tmp_path: Path) -> None:
    (videos / "labels.csv").write_text("path,label,note\na.mp4,run,x\nb.mp4,jump,y\n")
    events = tmp_path / "progress.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_PROGRESS", str(events))
        pinned(videos, tmp_path / "home")
    said = [event["message"] for event in read_events(events)[0] if event["event"] == "say"]
    assert said == [f"{videos / 'labels.csv'}: columns that are not used: note"]


def test_the_same_files_in_another_folder_are_found_in_both_by_forgetting(
    videos: Path, store: Store, tmp_path: Path
) -> None:
    """They are one pin; the second did not leave the first folder's name anywhere."""
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    for folder in (videos, copy, videos):
        pinned(folder, tmp_path / "home")
    (content,) = _contents("c.mp4", store)
    assert content.roots == (str(copy), str(videos))
