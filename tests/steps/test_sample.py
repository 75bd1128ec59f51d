"""`sample` through the real steps: an index is a function of its own archive, and of what its files hold."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes.config import PretrainConfig, Recipe
from rushes.errors import UserError
from rushes.footage.catalogue import INDEX
from rushes.footage.encoding import Encoded, encode_segments
from rushes.footage.files import content_digest
from rushes.footage.hashes import Hashes
from rushes.footage.probing import ProbeTask, probe_sources
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.footage.segment_plan import Failure
from rushes.footage.segments import plan_segments
from rushes.footage.sources import Source
from rushes.home import open_store
from rushes.steps import pin as pin_step
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.store import Manifest
from rushes.video.probe import probe
from tests.footage.conftest import SMALL, numbers, write_video
from tests.s3 import S3

RECIPE = Recipe(name="small", sample=SMALL, pretrain=PretrainConfig(crop=48))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return tmp_path


def pinned(videos: Path | str, name: str = "pin.json", **options: Any) -> Path:
    """Pins an archive; returns the pointer."""
    out = open_store().folder("tests") / name
    pin(data=DataReference(videos=str(videos)), out=out, **options)
    return out


def sampled(pointer: Path, *, recipe: Recipe = RECIPE, partition: str = "") -> Manifest:
    return sample(recipe=recipe, pin=pointer, out=pointer.with_name("footage.json"), partition=partition)


def rows(made: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(open_store().checked(made.files[INDEX])).to_pylist()
    return found


def statuses(made: Manifest) -> list[tuple[str, str]]:
    return [(row["source"], row["status"]) for row in rows(made)]


# Archives that share a home ------------------------------------------------------------------------------------------


def test_the_second_archive_of_a_home_lists_no_file_of_the_first(home: Path) -> None:
    for n, name in enumerate("abc"):
        write_video(home / "one" / f"{name}.mp4", frames=30, first=10 * n)
    write_video(home / "two" / "d.mp4", frames=30, first=50)
    first, second = sampled(pinned(home / "one")), sampled(pinned(home / "two"))
    assert (first.summary["removed"], second.summary["removed"]) == (0, 0)
    assert statuses(second) == [("d.mp4", "sampled")]
    (home / "one" / "a.mp4").unlink()
    again = sampled(pinned(home / "one"))
    assert statuses(again) == [("a.mp4", "removed"), ("b.mp4", "sampled"), ("c.mp4", "sampled")]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4), min_size=2, max_size=4))
def test_an_index_is_a_function_of_its_own_archive(
    tmp_path_factory: pytest.TempPathFactory, archives: list[set[str]]
) -> None:
    """Whatever archives were sampled in the same home before: their shards are used, their files are not listed."""
    folder = tmp_path_factory.mktemp("shared")
    place = ("shard", "offset", "frame_offset")

    def indexed(home: str, number: int) -> list[dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUSHES_HOME", str(folder / home))
            made = sampled(pinned(folder / f"archive-{number}"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUSHES_HOME", str(folder / home))
            return [{name: value for name, value in row.items() if name not in place} for row in rows(made)]

    for number, names in enumerate(archives):
        for name in sorted(names):
            write_video(folder / f"archive-{number}" / f"{name}.mp4", frames=10, first=20 * ord(name))
    for number in range(len(archives)):
        assert indexed("shared", number) == indexed(f"alone-{number}", number)


# Files that change between pin and sample ----------------------------------------------------------------------------


def film(path: Path, number: int, *, frames: int = 30) -> bytes:
    write_video(path, frames=frames, first=40 * number)
    return path.read_bytes()


def seen(made: Manifest) -> dict[str, int]:
    """The number that the first frame of each sampled file shows."""
    footage = Footage(made, open_store())
    return {source: numbers(footage.window(row, 0, 1))[0] for row, source in enumerate(footage.texts("source"))}


def padded(data: bytes, size: int) -> bytes:
    """The same film in a file of another size: a box that players skip."""
    rest = size - len(data)
    return data + rest.to_bytes(4, "big") + b"free" + bytes(rest - 8)


@pytest.mark.parametrize("how", ["other size", "other time", "same size and time", "no video", "gone", "empty"])
def test_a_file_that_changed_since_pin_is_named_and_never_stored_under_the_pinned_digest(home: Path, how: str) -> None:
    videos = home / "videos"
    one, two = film(videos / "a.mp4", 1), film(home / "other.mp4", 2)
    film(videos / "c.mp4", 3)
    size = max(len(one), len(two)) + 100
    (videos / "a.mp4").write_bytes(padded(one, size))
    pointer = pinned(videos)
    before = (videos / "a.mp4").stat().st_mtime_ns
    if how == "gone":
        (videos / "a.mp4").unlink()
    else:
        other = {"other size": two, "no video": b"nothing" * 40, "empty": b""}.get(how, padded(two, size))
        (videos / "a.mp4").write_bytes(other)
    if how == "same size and time":
        os.utime(videos / "a.mp4", ns=(before, before))
    made = sampled(pointer)
    assert [(row["source"], row["status"], row["reason"]) for row in rows(made)] == [
        ("a.mp4", "quarantined", "changed"),
        ("c.mp4", "sampled", ""),
    ]
    assert "a.mp4: is not the file that was pinned" in rows(made)[0]["message"]
    # An archive with the true file, under another name, gets its frames.
    (home / "true").mkdir()
    (home / "true" / "true.mp4").write_bytes(padded(one, size))
    assert seen(sampled(pinned(home / "true"))) == {"true.mp4": 40}
    # And the file that was changed is what it is now, also where its size and time said nothing.
    if how in ("other size", "other time", "same size and time"):
        again = sampled(pinned(videos))
        assert seen(again) == {"a.mp4": 80, "c.mp4": 120}


def test_a_file_that_is_back_is_sampled_by_the_same_pin(home: Path) -> None:
    videos = home / "videos"
    one = film(videos / "a.mp4", 1)
    film(videos / "b.mp4", 2)
    pointer = pinned(videos)
    film(videos / "a.mp4", 3)
    assert seen(sampled(pointer)) == {"b.mp4": 80}
    (videos / "a.mp4").write_bytes(one)
    again = sampled(pointer)
    assert seen(again) == {"a.mp4": 40, "b.mp4": 80}
    assert again.summary["new_shards"] == 1


def test_a_file_that_was_only_touched_is_what_was_pinned(home: Path) -> None:
    film(home / "videos" / "a.mp4", 1)
    pointer = pinned(home / "videos")
    os.utime(home / "videos" / "a.mp4", (1, 1))
    assert seen(sampled(pointer)) == {"a.mp4": 40}


@pytest.mark.parametrize("segment", [1, 2, 3])
def test_a_file_that_changes_while_it_is_decoded_counts_up_to_there(home: Path, segment: int) -> None:
    """Written over after a segment: those up to it show the pinned film, those after it are refused."""
    film(home / "videos" / "a.mp4", 1, frames=100)
    pointer = pinned(home / "videos")
    listing = json.loads(open_store().checked(Manifest.read(pointer).files["listing.json"]).read_text())
    ((path, sha256, size),) = listing["files"]
    config = dataclasses.replace(SMALL, segment_seconds=1.0)
    source = Source(path=path, sha256=sha256, size=size)
    probes = {sha256: probe(home / "videos" / path)}
    plan = list(plan_segments([source], [], probes, config))
    outcomes = []
    for _, outcome in encode_segments(plan, root=str(home / "videos"), config=config, stamps={}):
        outcomes.append(outcome)
        if len(outcomes) == segment:
            film(home / "videos" / "a.mp4", 2, frames=100)
    assert [isinstance(one, Encoded) for one in outcomes] == [True] * segment + [False] * (4 - segment)
    for one in outcomes[segment:]:
        assert isinstance(one, Failure) and one.reason == "changed" and "while it was read" in one.message


def test_a_file_that_changes_while_pin_reads_it_is_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = home / "videos"
    film(videos / "a.mp4", 1)
    reads = []

    def read(root: str, path: str) -> str:
        found = content_digest(root, path)
        reads.append(path)
        if len(reads) == 1:
            film(videos / "a.mp4", 2)
        return found

    monkeypatch.setattr(pin_step, "content_digest", read)
    assert seen(sampled(pinned(videos))) == {"a.mp4": 80}
    assert len(reads) == 2


@pytest.mark.parametrize("known", [True, False])
def test_an_object_is_checked_by_its_etag_or_its_bytes(
    home: Path, s3_server: S3, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3, root = fsspec.filesystem("s3"), f"s3://changed-{known}/v".lower()
    s3.mkdir(root.removesuffix("/v"))
    for number, name in enumerate("ab", start=1):
        s3.pipe_file(f"{root}/{name}.mp4", film(home / f"{name}.mp4", number))
    pin_of = pinned(root)
    listing = json.loads(open_store().checked(Manifest.read(pin_of).files["listing.json"]).read_text())
    held = Hashes(open_store(), root).read()
    sources = [
        Source(path=path, sha256=sha256, size=size, stamp=held[path][1] if known else "")
        for path, sha256, size in listing["files"]
    ]
    assert all(held[source.path][1] for source in sources), "the store stamps its objects"
    probes = {source.sha256: probe(home / source.path) for source in sources}
    plan = list(plan_segments(sources, [], probes, SMALL))

    def outcomes() -> list[str]:
        stamps = {source.path: source.stamp for source in sources}
        encoded = [one for _, one in encode_segments(plan, root=root, config=SMALL, stamps=stamps)]
        return [one.reason if isinstance(one, Failure) else "" for one in encoded]

    def probed() -> list[str]:
        found = probe_sources(ProbeTask(root=root, files=sources, config=SMALL)).values()
        return [one.reason if isinstance(one, Failure) else "" for one in found]

    assert outcomes() == probed() == ["", ""]
    s3.pipe_file(f"{root}/a.mp4", padded(film(home / "c.mp4", 3), sources[0].size + 50))
    assert outcomes() == probed() == ["changed", ""]
    s3.rm_file(f"{root}/a.mp4")
    assert outcomes() == probed() == ["changed", ""]


@settings(max_examples=8, deadline=None)
@given(changes=st.dictionaries(st.sampled_from("abcd"), st.integers(5, 8), min_size=1), keep=st.booleans())
def test_no_digest_stands_for_other_frames(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, int], keep: bool
) -> None:
    """Whatever files changed, with or without their times: each row shows the file of its digest."""
    folder = tmp_path_factory.mktemp("digests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        shows = {}
        for number, name in enumerate("abcd"):
            shows[hashlib.sha256(film(folder / "videos" / f"{name}.mp4", number)).hexdigest()] = 40 * number
        pointer = pinned(folder / "videos")
        for name, number in changes.items():
            path = folder / "videos" / f"{name}.mp4"
            before = path.stat().st_mtime_ns
            film(path, number)
            if keep:
                os.utime(path, ns=(before, before))
        for made in (sampled(pointer) if len(changes) < 4 else None, sampled(pinned(folder / "videos"))):
            if made is None:
                continue
            footage = Footage(made, open_store())
            for row, sha256 in enumerate(footage.texts("source_sha256")):
                path = folder / "videos" / footage.texts("source")[row]
                expected = shows.get(sha256, 40 * changes.get(path.stem, -1) % 200)
                assert numbers(footage.window(row, 0, 1)) == [expected]


# What was lost -------------------------------------------------------------------------------------------------------


def test_footage_whose_shard_is_damaged_is_sampled_again(home: Path) -> None:
    film(home / "videos" / "a.mp4", 1)
    pointer = pinned(home / "videos")
    made = sampled(pointer)
    shard = Footage(made, open_store())._shards[0].tar
    path = open_store().path(shard)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is not what was stored.*run the step"):
        seen(made)
    assert seen(sampled(pointer)) == {"a.mp4": 40}
