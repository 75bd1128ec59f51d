"""Archives as users have them: in DVC, on S3, growing; and one video that must go."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushes.footage.reader import Footage
from rushes.store import Manifest, Store, sha256_file
from rushes.video.encode import encode_h264
from tests.integration.conftest import Cli
from tests.s3 import S3

SMALL = ("--pretrain.crop", "32", "--sample.short_side", "48", "--sample.shard_segments", "4", "--sample.workers", "1")


def noise(path: Path, seed: int) -> None:
    """A video that no other shares a byte with, but for headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(16, 236, (30, 72, 64), dtype=np.uint8)
    path.write_bytes(encode_h264(pixels, fps=25.0, qp=8, gop=12))


LENGTH = 48


def marks(data: bytes) -> set[bytes]:
    """Stretches of 48 bytes from its middle, where no header is."""
    return {data[n : n + LENGTH] for n in range(2000, len(data) - 3000, 64)}


def holds(data: bytes, wanted: set[bytes]) -> bool:
    """Whether any of the stretches is in the data, at any offset; looked for by their first eight bytes."""
    if len(data) < LENGTH:
        return False
    firsts = np.frombuffer(b"".join(mark[:8] for mark in wanted), np.uint64)
    for shift in range(8):
        words = np.frombuffer(data, np.uint64, offset=shift, count=(len(data) - shift) // 8)
        found = shift + 8 * np.flatnonzero(np.isin(words, firsts))
        if any(data[n : n + LENGTH] in wanted for n in found.tolist()):
            return True
    return False


def found_in(folder: Path, wanted: set[bytes]) -> list[str]:
    """Files under a folder that hold any of the stretches, at any offset."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in files if holds(path.read_bytes(), wanted)]


def pinned(cli: Cli, videos: str, *flags: str) -> dict[str, Any]:
    cli.ok("pin", "--videos", videos, "--out", "pin.json", *flags)
    summary: dict[str, Any] = json.loads((cli.folder / "pin.json").read_text())["summary"]
    return summary


def sampled(cli: Cli, *flags: str) -> dict[str, Any]:
    cli.ok("sample", "pace-r2plus1d", "--pin", "pin.json", "--out", "footage.json", *SMALL, *flags)
    summary: dict[str, Any] = json.loads((cli.folder / "footage.json").read_text())["summary"]
    return summary


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "work").mkdir()
    return Cli(home=tmp_path / "work" / ".rushes", folder=tmp_path / "work")


# Growth --------------------------------------------------------------------------------------------------------------


def test_a_week_of_an_archive(cli: Cli) -> None:
    videos = cli.folder / "videos"
    for seed in range(5):
        noise(videos / f"{seed}.mp4", seed)
    pinned(cli, "videos")
    assert sampled(cli)["new_shards"] == 2

    # Nothing new: no byte of any video is read, so it does not matter that none can be.
    for path in videos.iterdir():
        stamp = path.stat().st_mtime_ns
        path.write_bytes(b"\0" * path.stat().st_size)
        os.utime(path, ns=(stamp, stamp))
    pinned(cli, "videos")
    assert "already done" in cli.ok("sample", "pace-r2plus1d", "--pin", "pin.json", "--out", "footage.json", *SMALL)
    noise(videos / "5.mp4", 5)
    pinned(cli, "videos")
    summary = sampled(cli)
    assert (summary["new_shards"], summary["segments"], summary["quarantined"]) == (1, 6, 0)

    # Told to look again, it finds what has become of them.
    pinned(cli, "videos", "--rehash")
    summary = sampled(cli)
    assert (summary["segments"], summary["quarantine_reasons"], summary["new_shards"]) == (1, {"not_a_video": 5}, 0)

    (videos / "5.mp4").unlink()
    noise(videos / "6.mp4", 6)
    pinned(cli, "videos")
    summary = sampled(cli)
    assert (summary["segments"], summary["removed"], summary["new_shards"]) == (1, 1, 1)


def test_parts_of_the_work_on_several_machines(cli: Cli) -> None:
    for seed in range(9):
        noise(cli.folder / "videos" / f"{seed}.mp4", seed)
    pinned(cli, "videos")
    base = ("sample", "pace-r2plus1d", "--pin", "pin.json", *SMALL)
    parts = [cli.start(*base, "--partition", f"{n}/3", "--out", f"part-{n}.json") for n in (1, 2, 3)]
    assert [part.wait(120) for part in parts] == [0, 0, 0]
    assert all(json.loads((cli.folder / f"part-{n}.json").read_text())["kind"] == "part" for n in (1, 2, 3))
    output = cli.ok(*base, "--out", "footage.json")
    assert "3 of 3 shards are complete" in output
    bad = cli(*base, "--partition", "4/3", "--out", "x.json")
    assert bad.returncode == 2 and "partition: '4/3' is not allowed" in bad.stderr
    wrong = cli("pretrain", "pace-r2plus1d", "--footage", "part-1.json", "--out", "x.json")
    assert wrong.returncode == 2 and "kind 'part'" in wrong.stderr


def test_the_same_work_twice_at_once(cli: Cli) -> None:
    for seed in range(12):
        noise(cli.folder / "videos" / f"{seed}.mp4", seed)
    pinned(cli, "videos")
    base = ("sample", "pace-r2plus1d", "--pin", "pin.json", *SMALL, "--sample.shard_segments", "1")
    runs = [cli.start(*base, "--out", f"{n}.json") for n in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    one, two = (json.loads((cli.folder / f"{n}.json").read_text()) for n in range(2))
    assert one["files"] == two["files"] and one["summary"]["segments"] == 12


# Forgetting ----------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    author = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    environment = os.environ | author | {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


def dvc(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, capture_output=True, env=environment
    )


def test_no_byte_of_a_forgotten_video_is_left(cli: Cli) -> None:
    videos = cli.folder / "videos"
    for seed in range(5):
        noise(videos / f"{seed}.mp4", seed)
    git(cli.folder, "init", "-q")
    dvc(cli.folder, "init", "-q")
    dvc(cli.folder, "remote", "add", "-d", "here", str(cli.folder / "remote"))
    dvc(cli.folder, "add", "videos")
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-qm", "data")
    dvc(cli.folder, "push")
    pinned(cli, "videos", "--revision", "HEAD")
    sampled(cli)
    pinned(cli, "videos")
    sampled(cli)
    store = Store(str(cli.home / "store"))
    footage = Footage(Manifest.read(cli.folder / "footage.json"), store)
    row = footage.texts("source").tolist().index("2.mp4")
    raw, encoded = marks((videos / "2.mp4").read_bytes()), marks(footage.mp4(row))
    places = {path.split("/")[0] for path in found_in(cli.folder, raw)}
    assert places == {"videos", ".dvc", "remote", ".rushes"}, (
        "the archive, DVC's cache and remote, the fetched revision"
    )
    sha256 = sha256_file(videos / "2.mp4")
    # A backbone that was trained on it, as its manifest tells.
    uri = json.loads((cli.folder / "footage.json").read_text())["uri"]
    inputs = {"footage": uri.removeprefix("steps/").removesuffix(".json")}
    trained = Manifest(kind="backbone", step="pretrain", digest="beef", inputs=inputs, config={}, code="", files={})
    store.publish(dataclasses.replace(trained, summary={"task": "pace"}))

    unasked = cli("footage", "forget", "2.mp4")
    assert unasked.returncode == 2 and "pass --yes" in unasked.stderr
    unknown = cli("footage", "forget", "nobody.mp4", "--yes")
    assert unknown.returncode == 2 and "'nobody.mp4' is neither a file" in unknown.stderr
    output = cli.ok("footage", "forget", "2.mp4", "--yes")
    assert "pretrain/beef" in output and "task pace" in output and "it will not be sampled again" in output

    (videos / "2.mp4").unlink()  # what is left to its owner
    assert found_in(cli.folder, raw | encoded) == []
    # It comes back under another name, and is refused; by its digest it can be named again.
    noise(videos / "visitor.mp4", 2)
    assert sha256_file(videos / "visitor.mp4") == sha256
    pinned(cli, "videos")
    summary = sampled(cli)
    assert (summary["segments"], summary["quarantine_reasons"]) == (4, {"forgotten": 1})
    (videos / "visitor.mp4").unlink()
    assert found_in(cli.folder, raw | encoded) == []
    assert "it will not be sampled again" in cli.ok("footage", "forget", sha256, "--yes")


# S3 ------------------------------------------------------------------------------------------------------------------


def test_an_archive_and_a_store_on_s3(cli: Cli, s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3 = fsspec.filesystem("s3")
    s3.mkdir("archive")
    s3.mkdir("store")
    for seed in range(5):
        noise(cli.folder / "local" / f"{seed}.mp4", seed)
        s3.put_file(str(cli.folder / "local" / f"{seed}.mp4"), f"archive/day/{seed}.mp4")
    (cli.folder / "labels.csv").write_text("path,label\n0.mp4,x\n1.mp4,y\n2.mp4,x\n3.mp4,y\n")
    remote = Cli(
        home=cli.home, folder=cli.folder, extra={**s3_server.environment, "RUSHES_STORE": "s3://store/footage"}
    )
    flags = ("--labels", "labels.csv")
    share = ("--sample.val_share", "0", "--sample.test_share", "0.5")
    pinned(remote, "s3://archive/day", *flags)
    there = sampled(remote, *share)
    pinned(cli, "local", *flags)
    here = sampled(cli, *share)
    assert there == here, "the same footage from a folder and from a bucket"
    s3.put_file(str(cli.folder / "local" / "4.mp4"), "archive/day/5.mp4")
    pinned(remote, "s3://archive/day", *flags)
    assert sampled(remote, *share)["new_shards"] == 0, "the same content once more"

    store = Store("s3://store/footage", cache=cli.folder / "cache")
    footage = Footage(Manifest.read(remote.folder / "footage.json"), store)
    assert footage.window(0, 3, 9).shape == (6, 72, 64)
    encoded = marks(footage.mp4(2))
    store.path(footage._shards[int(footage.segments.shard[2])].tar)
    assert len(found_in(cli.folder / "cache", encoded)) == 1, "the node's cache"
    again = Cli(home=cli.home, folder=cli.folder, extra={**remote.extra, "RUSHES_CACHE": str(cli.folder / "cache")})
    again.ok("footage", "forget", "2.mp4", "--yes")
    assert found_in(cli.folder / "cache", encoded) == []
    held = {name: s3.cat_file(name) for name in s3.find("store")}
    assert [name for name, data in held.items() if holds(data, encoded)] == []
    missing = cli("pin", "--videos", "s3://archive/nothing", "--out", "x.json")
    assert missing.returncode == 2 and "s3://archive/nothing" in missing.stderr
