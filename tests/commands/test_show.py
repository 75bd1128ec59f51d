"""`rushes footage show`: what a newcomer sees of an own folder, whatever its files are called, and of footage."""

import html
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from rushes.cli import main
from rushes.commands.contact import WIDTH, Cell, contact_sheet
from rushes.commands.show import PAGE, SHEET
from rushes.footage.annotation import Annotation
from rushes.store import Store
from tests.footage.conftest import sampler
from tests.integration.conftest import write_videos

Show = Callable[..., tuple[int, str, str]]
HOSTILE = (
    "<img src=x onerror=alert(1)>.mp4",
    "</style><script>alert(2)</script>.mp4".replace("/", "\N{FRACTION SLASH}"),
    "a&amp;b \"c\" 'd'.mp4",
    "[bold red]no markup[ ].mp4",
    "\x1b[31mred\nnext line.mp4",
    "\u202e4pm.backwards.mp4",
    "{{ 7 * 7 }}.mp4",
)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go, of this process and of its workers."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def show(tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    """The command, into `tmp_path / "out"`; whatever became of it, nothing temporary is left."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["footage", "show", *map(str, arguments), "--out", str(tmp_path / "out")])
        left = [path.name for path in scratch.iterdir() if not path.name.startswith("pymp-")]  # the workers' socket
        assert not left, "the temporary store is still there"
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `moving` and `resting`, two different videos each."""
    folder = tmp_path_factory.mktemp("drifting")
    write_videos(folder, files=2)
    return folder


class _Read(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_folder_where_everything_is_fine(show: Show, drifting: Path, tmp_path: Path) -> None:
    status, printed, _ = show(drifting)
    assert status == 0
    assert len(printed.splitlines()) <= 25
    assert "4 segments of up to 8 s from 4 files" in printed
    assert "2: moving (2), resting (2)" in printed
    assert f"rushes run pace-r2plus1d --size cpu --videos {drifting}" in printed
    page = _Read(tmp_path / "out" / PAGE)
    assert "Everything that was looked at decodes." in page.text
    with Image.open(tmp_path / "out" / SHEET) as picture:
        assert picture.width == WIDTH


def test_the_page_needs_nothing_but_its_picture(show: Show, drifting: Path, tmp_path: Path) -> None:
    show(drifting)
    page = _Read(tmp_path / "out" / PAGE)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    needed = {attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes}
    assert {place for place in needed if place and not place.startswith("#")} == {SHEET}
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {place[1:] for place in needed if place and place.startswith("#")} <= anchors
    source = (tmp_path / "out" / PAGE).read_text()
    assert "url(" not in source and "@import" not in source


def test_of_very_many_files_some_are_opened(
    show: Show, drifting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rushes.commands.show._FILES", 3)
    status, printed, _ = show(drifting)
    assert status == 0
    assert "of which a random 3 were opened" in printed and "from 3 files" in printed
    assert "2: moving (2), resting (2)" in printed, "the labels are those of all files"


def test_the_moving_come_before_the_resting(show: Show, drifting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(cells: Sequence[Cell], path: Path) -> tuple[int, int]:
        drawn.extend(cell.name for cell in cells)
        return contact_sheet(cells, path)

    monkeypatch.setattr("rushes.commands.show.contact_sheet", draw)
    show(drifting)
    assert [name.split("/")[0] for name in drawn] == ["moving", "moving", "resting", "resting"]


def test_hostile_names_are_text_and_nothing_else(show: Show, drifting: Path, tmp_path: Path) -> None:
    root = tmp_path / "<b>root<&"
    for number, name in enumerate(HOSTILE):
        folder = root / ("<i>one" if number % 2 else "[bold]two&quot;")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(drifting / "moving" / "v00.mp4", folder / name)
        (folder / f"broken {name}").write_bytes(b"not a video" * 50)
    status, printed, _ = show(root)
    assert status == 0
    assert "\x1b" not in printed and "\u202e" not in printed
    assert "<i>one (6)" in printed and "[bold]two&quot; (8)" in printed
    page = _Read(tmp_path / "out" / PAGE)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("img") == 1 and not {"script", "b", "i"} & set(tags)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert f"broken {name}".encode("unicode_escape").decode().replace("\\u2044", "\u2044") in page.text
    assert "<i>one" in page.text and "[bold]two&quot;" in page.text and "<b>root<&" in page.text
    assert "\x1b" not in page.text and "\u202e" not in page.text


def test_only_broken_files(show: Show, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "broken" / "b.mp4").write_bytes(b"")
    status, _, complaint = show(tmp_path / "broken")
    assert status == 2
    assert "no decodable video among 2 files: empty (1), not_a_video (1)" in complaint
    assert not (tmp_path / "out").exists()


def test_a_broken_file_among_others_is_listed_with_its_reason(show: Show, drifting: Path, tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    shutil.copytree(drifting, root)
    (root / "moving" / "v02.mp4").write_bytes(b"")
    status, printed, _ = show(root)
    assert status == 0 and "empty (1)" in printed
    page = _Read(tmp_path / "out" / PAGE)
    assert "moving/v02.mp4 0:00" in page.text and "the file is empty" in page.text


def test_copies_across_the_test_split_are_flagged(show: Show, drifting: Path, tmp_path: Path) -> None:
    root = tmp_path / "copies"
    root.mkdir()
    shutil.copy(drifting / "moving" / "v00.mp4", root / "a.mp4")
    shutil.copy(drifting / "moving" / "v00.mp4", root / "b.mp4")
    shutil.copy(drifting / "resting" / "v00.mp4", root / "c.mp4")
    (root / "labels.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,x,test\nc.mp4,y,train\n")
    status, printed, _ = show(root)
    assert status == 0
    assert "1 pair among 3 segments, 1 of different files, 1 across the test split" in printed
    assert "labels.csv" in printed and "make `rushes run` refuse" in printed
    page = _Read(tmp_path / "out" / PAGE)
    assert "a.mp4 0:00" in page.text and "test and not test" in page.text


def test_no_labels_are_needed_and_one_folder_is_none(show: Show, drifting: Path, tmp_path: Path) -> None:
    shutil.copytree(drifting / "moving", tmp_path / "videos" / "raw")
    status, printed, _ = show(tmp_path / "videos")
    assert status == 0
    assert "path,label" in printed and "--labels labels.csv" in printed


def test_labels_that_cannot_be_read_are_an_error(show: Show, drifting: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\nnowhere.mp4,x\n")
    status, _, complaint = show(drifting, "--labels", tmp_path / "labels.csv")
    assert status == 2 and "nowhere.mp4" in complaint


def test_a_pointer_shows_everything_of_the_footage(
    show: Show, drifting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = [
        Annotation(path=f"{label}/v0{number}.mp4", label=label, split=split)
        for label in ("moving", "resting")
        for number, split in enumerate(("train", "test"))
    ]
    sampler(tmp_path)(drifting, annotations)
    manifest = Store(str(tmp_path / "store-a")).find("sample/0123")
    assert manifest is not None
    manifest.write(tmp_path / "footage.json")
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store-a"))
    status, printed, _ = show(tmp_path / "footage.json")
    assert status == 0
    assert "Footage sample/0123" in printed and "4 segments" in printed and "moving (2), resting (2)" in printed
    assert f"rushes pretrain pace-r2plus1d --size cpu --footage {tmp_path / 'footage.json'}" in printed


def test_wrong_targets_are_one_line_and_exit_code_2(show: Show, drifting: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"kind": "pin"}))
    for target, words in (
        (tmp_path / "absent", "absent"),
        (drifting / "moving" / "v00.mp4", "give the folder"),
        (tmp_path / "other.json", "not a manifest"),
    ):
        status, _, complaint = show(target)
        assert status == 2 and words in complaint and len(complaint.splitlines()) == 1
    (tmp_path / "out").write_text("")
    status, _, complaint = show(drifting)
    assert status == 2 and "is a file" in complaint


def test_a_name_that_is_no_text_is_an_error_that_names_it(show: Show, drifting: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(drifting / "moving" / "v00.mp4", tmp_path / "old" / "caf\udce9.mp4")
    status, _, complaint = show(tmp_path / "old")
    assert status == 2 and r"caf\udce9.mp4" in complaint


@pytest.mark.real
def test_odd_videos(show: Show, shared_data: Path, tmp_path: Path) -> None:
    status, printed, _ = show(shared_data / "odd_videos" / "derived")
    assert status == 0 and "not_a_video (3)" in printed
    page = html.unescape((tmp_path / "out" / PAGE).read_text())
    for reason in ("no_video_stream", "lfs_pointer", "truncated", "empty"):
        assert f"<code>{reason}</code>" in page
    assert "hevc.mp4 0:00" in page, "the same film in another codec is a duplicate"
