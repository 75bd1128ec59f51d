"""After forgetting, no byte of the video is left, and the rest is as it was."""

import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rushes.footage.catalogue import forgotten_contents
from rushes.footage.forget import forget, purge_copies
from rushes.footage.reader import Footage
from rushes.progress import NullProgress
from rushes.store import Store, sha256_file
from rushes.video.encode import encode_h264
from tests.footage.conftest import Sampler, numbers, write_video


def archive(root: Path, names: str = "abcdefg") -> Path:
    """Videos of grey, and c.mp4, whose noise is in no other file."""
    for name in names:
        write_video(root / f"{name}.mp4", frames=40, first=9 * ord(name))
    noise = np.random.default_rng(0).integers(16, 236, (40, 72, 64), dtype=np.uint8)
    (root / "c.mp4").write_bytes(encode_h264(noise, fps=25.0, qp=4, gop=12))
    return root


def pieces(data: bytes) -> set[bytes]:
    """Runs of 48 bytes that no other file has: not the headers, nor the encoder's name."""
    return {data[n : n + 48] for n in range(2000, len(data) - 3000, 64)}


def found_in(folder: Path, marks: set[bytes]) -> list[str]:
    """Files that hold any of these runs, at any offset."""
    hits = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            hits += [path.name] if any(mark in data for mark in marks) else []
    return hits


def test_no_byte_is_left_in_any_footage_and_the_rest_is_untouched(tmp_path: Path, sample: Sampler) -> None:
    root, store = archive(tmp_path / "videos"), Store(str(tmp_path / "store"))
    first, _, _ = sample(root, store=store, digest="aa")
    write_video(root / "new.mp4", frames=40, first=3)
    before, _, _ = sample(root, store=store, digest="bb", last="sample/aa")
    sha256 = sha256_file(root / "c.mp4")
    row = before.texts("source").tolist().index("c.mp4")
    others = {name: before.mp4(n) for n, name in enumerate(before.texts("source")) if n != row}
    moved = {name: before.motion(n)[0] for n, name in enumerate(before.texts("source")) if n != row}
    marks = pieces(before.mp4(row))
    assert store.local is not None and len(found_in(store.local, marks)) == 1

    done = forget(store, sha256, progress=NullProgress())
    assert (done.footage, done.shards) == (("sample/aa", "sample/bb"), 1)
    assert found_in(store.local, marks) == []
    assert found_in(store.local, {b"c.mp4", sha256.encode(), sha256[:16].encode()}) == []
    assert [path.name for path in store.local.rglob(f"{sha256}*")] == [f"{sha256}.json"], "the record that refuses it"
    for ref, count in (("sample/aa", 6), ("sample/bb", 7)):
        manifest = store.find(ref)
        assert manifest is not None and manifest.summary["segments"] == count
        footage = Footage(manifest, store)
        for n, name in enumerate(footage.texts("source")):
            assert footage.mp4(n) == others[name]
            assert np.array_equal(footage.motion(n)[0], moved[name])
    assert first.fps == footage.fps


def test_it_is_refused_by_its_content_from_then_on(tmp_path: Path, sample: Sampler) -> None:
    root, store = archive(tmp_path / "videos"), Store(str(tmp_path / "store"))
    sample(root, store=store, digest="aa")
    forget(store, sha256_file(root / "c.mp4"), progress=NullProgress())
    (root / "c.mp4").rename(root / "renamed.mp4")
    refused = forgotten_contents(store)
    footage, summary, _ = sample(root, store=store, digest="bb", last="sample/aa", forgotten=refused)
    assert "renamed.mp4" not in footage.texts("source").tolist() and summary["new_shards"] == 0
    assert [(bad["source"], bad["reason"]) for bad in summary["quarantine"]] == [("renamed.mp4", "forgotten")]


def test_footage_whose_index_lists_it_no_longer_is_cleaned_too(tmp_path: Path, sample: Sampler) -> None:
    """The file was removed from the archive: a tombstone is left of it, but the shard still holds it."""
    root, store = archive(tmp_path / "videos"), Store(str(tmp_path / "store"))
    before, _, _ = sample(root, store=store, digest="aa")
    marks = pieces(before.mp4(before.texts("source").tolist().index("c.mp4")))
    sha256 = sha256_file(root / "c.mp4")
    (root / "c.mp4").unlink()
    sample(root, store=store, digest="bb", last="sample/aa")
    store.remove("steps/sample/aa.json")
    forget(store, sha256, progress=NullProgress())
    assert store.local is not None and found_in(store.local, marks) == []
    manifest = store.find("sample/bb")
    assert manifest is not None
    footage = Footage(manifest, store)
    assert numbers(footage.window(0, 0, 1)) == [9 * ord("a") % 200]
    rows = pq.read_table(store.path(manifest.files["index.parquet"]))["source"].to_pylist()
    assert "c.mp4" not in rows, "nor its name"


def test_shards_of_a_run_that_did_not_end_are_cleaned(tmp_path: Path, sample: Sampler) -> None:
    root, store = archive(tmp_path / "videos"), Store(str(tmp_path / "store"))
    before, _, _ = sample(root, store=store, digest="aa")
    marks = pieces(before.mp4(before.texts("source").tolist().index("c.mp4")))
    store.remove("steps/sample/aa.json")  # as if it had been killed before it published
    done = forget(store, sha256_file(root / "c.mp4"), progress=NullProgress())
    assert (done.footage, done.objects) == ((), 2)
    assert store.local is not None and found_in(store.local, marks) == []
    again, summary, _ = sample(root, store=store, digest="aa", forgotten=forgotten_contents(store))
    assert summary["segments"] == 6 and len(again.segments) == 6


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_forgetting_that_was_killed_is_completed_by_repeating_it(
    tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    root, store = archive(tmp_path / "videos"), Store(str(tmp_path / "store"))
    before, _, _ = sample(root, store=store, digest="aa")
    write_video(root / "new.mp4", frames=40, first=3)
    sample(root, store=store, digest="bb", last="sample/aa")
    shutil.move(root / "c.mp4", tmp_path)
    sample(root, store=store, digest="cc", last="sample/bb")  # holds it, but as a tombstone
    marks = pieces(before.mp4(before.texts("source").tolist().index("c.mp4")))
    sha256 = sha256_file(tmp_path / "c.mp4")
    calls = itertools.count(1)

    class KilledError(Exception):
        pass

    def killing(method: str) -> None:
        real = getattr(Store, method)

        def wrapped(self: Store, *args: object) -> object:
            if next(calls) == stop:
                raise KilledError
            return real(self, *args)

        monkeypatch.setattr(Store, method, wrapped)

    with monkeypatch.context() as patched:
        monkeypatch = patched
        for method in ("publish", "discard", "write"):
            killing(method)
        with pytest.raises(KilledError):
            forget(store, sha256, progress=NullProgress())
    forget(store, sha256, progress=NullProgress())
    assert store.local is not None and found_in(store.local, marks) == []
    for ref, count in (("sample/aa", 6), ("sample/bb", 7), ("sample/cc", 7)):
        manifest = store.find(ref)
        assert manifest is not None
        footage = Footage(manifest, store)
        assert len(footage.segments) == count
        for row in range(count):
            footage.window(row, 0, 1)


def test_copies_in_caches_are_found_by_content(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "files" / "md5" / "ab").mkdir(parents=True)
    data, other = b"x" * 1000, b"y" * 1000
    for name, content in (("one", data), ("two", other), ("files/md5/ab/cdef", data)):
        (cache / name).write_bytes(content)
    removed = purge_copies([cache], sha256=hashlib.sha256(data).hexdigest(), size=1000)
    assert sorted(path.name for path in removed) == ["cdef", "one"]
    assert (cache / "two").read_bytes() == other
