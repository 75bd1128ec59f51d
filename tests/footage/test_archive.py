"""What an archive lists: every video by its name, each once, and a word about all that is not among them."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.archive import list_archive
from rushes.footage.files import content_digest, look_up


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a film")
    return root


def test_videos_are_sorted_and_what_is_hidden_is_skipped(tmp_path: Path) -> None:
    fill(tmp_path, "b.MP4", "a/z.avi", "a/.hidden.mp4", ".dvc/x.mp4", "a.mkv", "labels.csv")
    listing = list_archive(str(tmp_path))
    assert (listing.paths, listing.notes(), listing.size) == (["a.mkv", "a/z.avi", "b.MP4"], [], 18)


def test_a_folder_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent' is not a folder"):
        list_archive(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no video file in"):
        list_archive(str(tmp_path))
    fill(tmp_path, "a.h264")
    with pytest.raises(UserError, match=r"no video file in .*; passed over .*: 1 \.h264 \(a\.h264\)"):
        list_archive(str(tmp_path))


# Passed over ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_files_of_other_endings_are_counted_and_named(tmp_path: Path, kind: str) -> None:
    names = ["a.mp4", "x/b.h264", "x/c.H264", "d.qt", *(f"none/{n}" for n in range(5)), "labels.csv"]
    fill(tmp_path, *names)
    root = {"folder": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory://passed-over"}[kind]
    if kind == "memory":
        for name in names:
            fsspec.filesystem("memory").pipe_file(f"/passed-over/{name}", b"a film")
    listing = list_archive(root)
    assert listing.paths == ["a.mp4"]
    assert listing.record()["passed_over"] == {"": 5, ".h264": 2, ".qt": 1}
    assert listing.notes() == [
        "passed over by the ending of the name: 5 without ending (none/0, none/1, none/2, ...), "
        "2 .h264 (x/b.h264, x/c.H264), 1 .qt (d.qt)"
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([".", "a", "b/c"]), st.sampled_from([".AVI", ".mp4", ".ts", ".h264", ".qt", ".TXT", ""])
        ),
        max_size=12,
    )
)
def test_every_file_is_listed_or_counted(drawn: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = fill(Path(folder), "a.mp4", *(f"{place}/{n}{ending}" for n, (place, ending) in enumerate(drawn)))
        listing = list_archive(str(root))
        assert len(listing.files) + sum(files.count for files in listing.passed_over.values()) == 1 + len(drawn)
        for files in listing.passed_over.values():
            assert all((root / path).is_file() for path in files.examples)


# Links ---------------------------------------------------------------------------------------------------------------


def test_a_class_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "walk/a.mp4", "walk/deep/b.mp4")
    root = fill(tmp_path / "videos", "run/c.mp4")
    (root / "walk").symlink_to(tmp_path / "elsewhere" / "walk")
    listing = list_archive(str(root))
    assert (listing.paths, listing.unlisted) == (["run/c.mp4", "walk/a.mp4", "walk/deep/b.mp4"], {})
    assert content_digest(str(root), "walk/a.mp4") == content_digest(str(root), "run/c.mp4")


def test_a_link_to_what_is_hidden_is_followed(tmp_path: Path) -> None:
    root = fill(tmp_path, ".pool/walk/a.mp4")
    (root / "walk").symlink_to(".pool/walk")
    assert list_archive(str(root)).paths == ["walk/a.mp4"]


def test_loops_and_second_ways_to_a_folder_are_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "videos", "a/x.mp4")
    for name, target in {"a/up": "..", "a/self": ".", "b": "a", "c": "/", "d": "e", "e": "d"}.items():
        (root / name).symlink_to(target)
    (root / "gone").symlink_to(tmp_path / "gone")
    (root / "gone.mp4").symlink_to(tmp_path / "gone.mp4")
    listing = list_archive(str(root))
    assert listing.paths == ["a/x.mp4"]
    assert listing.unlisted == {
        "a/self": "a link to a folder that holds it",
        "a/up": "a link to a folder that holds it",
        "b": "a folder that is listed as a",
        "c": "a link to a folder that holds it",
        "d": os.strerror(40),
        "e": os.strerror(40),
        "gone": "a link that leads nowhere",
        "gone.mp4": "a link that leads nowhere",
    }
    assert listing.notes()[0].startswith("not listed: a/self (a link to a folder that holds it), ")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_whatever_the_links_are_every_folder_is_listed_once(links: list[tuple[int, int]]) -> None:
    """Eight folders, half of them outside of the root, and links from any of them to any other."""
    with tempfile.TemporaryDirectory() as folder:
        at = [Path(folder) / ("videos" if n < 4 else "outside") / f"{n}" / "in" for n in range(8)]
        for n, path in enumerate(at):
            fill(path, f"film-{n}.mp4")
        for n, (source, target) in enumerate(links):
            (at[source] / f"link-{n}").symlink_to(at[target] if n % 2 else at[target].parent)
        listing = list_archive(str(Path(folder) / "videos"))
        names = [Path(path).name for path in listing.paths]
        assert len(names) == len(set(names)), "no file counts twice"
        reached, wider = {0, 1, 2, 3}, set[int]()
        while reached != wider:
            wider = set(reached)
            reached |= {target for source, target in links if source in reached}
        assert names == [f"film-{n}.mp4" for n in sorted(reached, key=lambda n: names.index(f"film-{n}.mp4"))]
        links_listed = sum(source in reached for source, _ in links)
        assert len(listing.unlisted) >= links_listed - (len(reached) - 4), "a link is followed or named"


# What cannot be read, and what is no file -----------------------------------------------------------------------------


@contextlib.contextmanager
def without_privileges() -> Iterator[Path]:
    """A folder that everybody may read, by a user to whom permissions apply."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_a_folder_without_permission_is_named(mode: int) -> None:
    with without_privileges() as root:
        fill(root, "run/a.mp4", "walk/b.mp4", "walk/c.mp4")
        (root / "walk").chmod(mode)
        try:
            listing = list_archive(str(root))
        finally:
            (root / "walk").chmod(0o755)
    assert (listing.paths, listing.unlisted) == (["run/a.mp4"], {"walk": "Permission denied"})
    assert listing.notes() == ["not listed: walk (Permission denied)"]
    assert listing.record() | {"passed_over": {}} == {
        "passed_over": {},
        "unlisted": 1,
        "unlisted_paths": [["walk", "Permission denied"]],
    }


def test_an_archive_without_permission_is_refused() -> None:
    with without_privileges() as root:
        fill(root / "videos", "a.mp4")
        (root / "videos").chmod(0)
        try:
            with pytest.raises(UserError, match="videos' cannot be listed"):
                list_archive(str(root / "videos"))
        finally:
            (root / "videos").chmod(0o755)


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    root = fill(tmp_path, "a.mp4")
    os.mkfifo(root / "b.mp4")
    (root / "c.mp4").symlink_to("/dev/zero")
    (root / "d.mp4").symlink_to("b.mp4")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)  # the path of a socket is short
        try:
            listener.bind("e.mp4")
        finally:
            os.chdir(here)
        for name in (str(root), f"file://{root}"):
            listing = list_archive(name)
            assert listing.paths == ["a.mp4"]
            assert listing.unlisted == {
                "b.mp4": "a FIFO, not a file",
                "c.mp4": "a device, not a file",
                "d.mp4": "a FIFO, not a file",
                "e.mp4": "a socket, not a file",
            }
    with pytest.raises(UserError, match=r"cannot read .*b\.mp4 \(not a file\)"):
        content_digest(str(root), "b.mp4")  # it took a file's name after the listing
    with pytest.raises(OSError, match="not a file"):
        look_up(str(root), "b.mp4")


class Guarded(MemoryFileSystem):  # type: ignore[misc]
    """A remote file system with a folder that may not be listed, and a link."""

    protocol = "guarded"
    find = AbstractFileSystem.find  # folder by folder, as those of file servers do

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path.rstrip("/").endswith("walk"):
            raise PermissionError(13, "Permission denied")
        entries = super().ls(path, detail=True, **options)
        return [entry | ({"type": "link"} if entry["name"].endswith("link.mp4") else {}) for entry in entries]


def test_a_remote_folder_without_permission_is_named() -> None:
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    filesystem, base = fsspec.core.url_to_fs("guarded://archive")
    for name in ("run/a.mp4", "run/link.mp4", "walk/b.mp4"):
        filesystem.pipe_file(f"{base}/{name}", b"a film")
    listing = list_archive("guarded://archive")
    assert listing.paths == ["run/a.mp4"]
    assert listing.unlisted == {"run/link.mp4": "link, not a file", "walk": "Permission denied"}
