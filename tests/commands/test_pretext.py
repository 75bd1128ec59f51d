"""`rushes pretext show` and `control`: what a person sees of a task is what its network sees."""

import base64
import dataclasses
import io
import json
import tempfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageSequence

from rushes.cli import main
from rushes.commands.contact import WIDTH
from rushes.commands.pretext import PAGE, SHEET, _control, denormalised, runs
from rushes.comparing.members import parse_member
from rushes.footage.reference import DataReference
from rushes.store import Store
from rushes.training.networks import normalise
from tests.footage.conftest import sampler, write_video

Command = Callable[..., tuple[int, str, str]]


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
def command(scratch: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`rushes pretext`; whatever became of it, nothing temporary is left."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["pretext", *map(str, arguments)])
        # The workers' socket and torch's own folder stay until the process ends.
        left = [path.name for path in scratch.iterdir() if not path.name.startswith(("pymp-", "torchinductor"))]
        assert not left, "the temporary store is still there"
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def brightening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos whose frames grow brighter, so that a picture tells its time."""
    folder = tmp_path_factory.mktemp("brightening")
    for name in ("a", "<img src=x onerror=alert(1)>"):
        write_video(folder / f"{name}.mp4", frames=100)
    return folder


class Page(HTMLParser):
    """The tuples of a page: frames, [elements] of [T, S, S, 3] each, for how long, and what is folded."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[list[npt.NDArray[np.uint8]]] = []
        self.milliseconds: list[list[int]] = []
        self.folded: list[str] = []
        self.open_text = ""
        self._inside = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        if tag == "section":
            self.pictures.append([])
            self.milliseconds.append([])
        if tag == "img":
            kind, _, data = (given["src"] or "").partition(",")
            assert kind == "data:image/webp;base64"
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                frames, lasts = [], 0
                for frame in ImageSequence.Iterator(image):
                    frames.append(np.array(frame.convert("RGB")))
                    lasts += int(frame.info.get("duration", 0))
            self.pictures[-1].append(np.stack(frames))
            self.milliseconds[-1].append(lasts)
        if tag == "details":
            assert "open" not in given
            self._inside = True
            self.folded.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.folded[-1] += f"{data.strip()} " if data.strip() else ""
        else:
            self.open_text += data


def shown(command: Command, out: Path, *arguments: object) -> Page:
    status, printed, complaint = command("show", *arguments, "--out", out)
    assert status == 0, complaint
    assert str(out / PAGE) in printed
    return Page(out / PAGE)


def test_the_clips_of_a_tuple_are_in_the_order_that_its_answer_says(
    command: Command, brightening: Path, tmp_path: Path
) -> None:
    page = shown(command, tmp_path / "out", "vcop-r3d", "--videos", brightening, "--tuples", 6)
    assert len(page.pictures) == len(page.folded) == 6
    for clips, folded in zip(page.pictures, page.folded, strict=True):
        assert [clip.shape[1:] for clip in clips] == [(48, 48, 3)] * 3
        brightness = [[float(frame.mean()) for frame in clip] for clip in clips]
        assert all(clip[-1] > clip[0] + 3 for clip in brightness), "each clip runs forwards"
        order = np.argsort(np.argsort([clip[0] for clip in brightness])) + 1
        assert folded.startswith(f"Answer {' '.join(map(str, order))} ")
    assert page.milliseconds == [[7 * 125 + 700] * 3] * 6, "8 frames each; equal ones in a row are one, for longer"
    assert len({folded.split(" ")[1:4] == ["1", "2", "3"] for folded in page.folded}) == 2, "not always the same"


def test_the_page_is_one_file_without_scripts_and_tells_nothing_before_it_is_unfolded(
    command: Command, brightening: Path, tmp_path: Path
) -> None:
    page = shown(command, tmp_path / "out", "pace-r2plus1d", "--videos", brightening, "--questions", 4)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    assert page.tags.count("img") == 4, "a name is no tag"
    source = (tmp_path / "out" / PAGE).read_text()
    assert "url(" not in source and "@import" not in source and "http" not in source
    assert all("frames" in folded and ".mp4 0:00" in folded for folded in page.folded)
    assert ".mp4" not in page.open_text
    assert "every frame" in page.open_text and "every 4th frame" in page.open_text, "the possible answers"
    assert "25 %" in page.open_text
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        assert sheet.width == WIDTH


def test_frames_are_stills_and_show_the_channel_that_the_network_sees(
    command: Command, tmp_path: Path, brightening: Path
) -> None:
    page = shown(command, tmp_path / "out", "opn", "--videos", brightening, "--tuples", 3)
    for frames, folded in zip(page.pictures, page.folded, strict=True):
        assert [frame.shape for frame in frames] == [(1, 48, 48, 3)] * 4
        assert max(int(np.ptp(frame.astype(int), axis=3).max()) for frame in frames) <= 8, "grey"
        order = [str(place + 1) for place in np.argsort(np.argsort([frame.mean() for frame in frames]))]
        words = folded.split(" ")
        assert order in (words[1:5], words[6:10]), "the order or its reverse"


def test_a_pointer_shows_what_pretraining_would_see(
    command: Command, brightening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler(tmp_path)(brightening)
    manifest = Store(str(tmp_path / "store-a")).find("sample/0123")
    assert manifest is not None
    manifest.write(tmp_path / "footage.json")
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store-a"))
    given = ("pace-r2plus1d", "--videos", tmp_path / "footage.json", "--questions", 2, "--pretrain.crop", 32)
    page = shown(command, tmp_path / "out", *given)
    assert [clip.shape for clips in page.pictures for clip in clips] == [(8, 32, 32, 3)] * 2


@pytest.mark.parametrize("model", ["pace-r2plus1d", "vcop-r3d:pretrain.task=pace,pretrain.options.strides=3"])
def test_the_next_command_tests_the_task_that_was_shown(model: str) -> None:
    recipe = parse_member(model, size="full").recipe
    command = _control(dataclasses.replace(recipe, plugins=("/a/mine.py",)), DataReference(videos="my_videos"))
    again = parse_member(command[3], size="full").recipe.pretrain
    assert (again.task, again.options) == (recipe.pretrain.task, recipe.pretrain.options)
    assert command[:3] + command[4:] == [
        "rushes",
        "pretext",
        "control",
        "--videos",
        "my_videos",
        "--plugin",
        "/a/mine.py",
    ]


def test_mistakes_are_one_line_and_exit_code_2(command: Command, brightening: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, arguments in (
        ("'vcop' is not known", ("vcop", "--videos", brightening)),
        ("no shot of 401 frames", ("pace-r2plus1d", "--videos", brightening, "--pretrain.clip_frames", 101)),
        ("tuples: 0", ("pace-r2plus1d", "--videos", brightening, "--questions", 0)),
        ("is one video", ("pace-r2plus1d", "--videos", brightening / "a.mp4")),
        ("is a file", ("pace-r2plus1d", "--videos", brightening, "--out", tmp_path / "file")),
    ):
        status, _, complaint = command("show", *arguments)
        assert status == 2 and words in complaint and len(complaint.splitlines()) == 1, complaint


def test_pictures_are_normalised_and_back_without_loss() -> None:
    rgb = torch.randint(0, 256, (3, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    assert (denormalised(normalise(rgb / 255)) == rgb.permute(1, 2, 3, 0).numpy()).all()


def test_frame_numbers_are_short_where_they_follow_each_other() -> None:
    assert runs([3, 4, 5]) == "3 to 5"
    assert runs([5, 4, 3]) == "5 4 3"
    assert runs([3]) == "3"


def test_control_with_few_videos_says_so_and_writes_what_it_measured(
    command: Command, brightening: Path, tmp_path: Path
) -> None:
    out = tmp_path / "control.json"
    status, printed, _ = command(
        "control",
        "shuffle-and-learn:pretrain.workers=0",
        "wide=opn:pretrain.workers=0,pretrain.options.window=40",
        "--videos",
        brightening,
        "--steps",
        1,
        "--questions",
        2,
        "--out",
        out,
    )
    assert status == 0
    assert "too few videos" in printed and "no verdict" in printed
    record = json.loads(out.read_text())
    assert (record["methods"], record["steps"], record["tuples"]) == (2, 1, 2)
    assert [result["task"] for result in record["results"]] == ["shuffle_and_learn", "opn"]
    assert [result["model"] for result in record["results"]] == ["shuffle-and-learn:pretrain.workers=0", "wide"]
    assert record["results"][0]["judged"]["chance"] == 0.75
    assert record["results"][0]["judged"]["still"]["groups"] == 1


def test_control_refuses_what_it_cannot_do(command: Command, brightening: Path) -> None:
    for words, arguments in (
        ("'vcop' is not known", ("vcop", "--videos", brightening)),
        ("steps: 0", ("opn", "--videos", brightening, "--steps", 0)),
        ("models: none", ("--videos", brightening)),
    ):
        status, _, complaint = command("control", *arguments)
        assert status == 2 and words in complaint and len(complaint.splitlines()) == 1, complaint
