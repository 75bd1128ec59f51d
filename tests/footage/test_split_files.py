"""Official split files, also those of people's own sets in the same form."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.labels import read_annotations


def ucf(folder: Path, classes: str | bytes, train: str, test: str) -> Path:
    for name, content in (("classInd.txt", classes), ("trainlist01.txt", train), ("testlist01.txt", test)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_a_class_with_a_space_is_found(tmp_path: Path) -> None:
    folder = ucf(
        tmp_path,
        "1 High Jump\n2 Run\n",
        "High Jump/v_HighJump_g01_c01.avi 1\nRun/v_Run_g01_c01.avi 2\n",
        "High Jump/v_HighJump_g02_c01.avi\nRun/v_Run_g02_c01.avi\n",
    )
    videos = [f"{c}/v_{c.replace(' ', '')}_g0{n}_c01.avi" for c in ("High Jump", "Run") for n in (1, 2)]
    found = read_annotations(None, videos, splits=folder)
    assert {(a.path, a.label, a.split) for a in found} == {
        (path, path.split("/")[0], "train" if "_g01" in path else "test") for path in videos
    }


@pytest.mark.parametrize(
    "classes",
    [
        "1 High Jump\r\n2 Run\r\n\r\n",
        "\ufeff1 High Jump\n2 Run",
        "\ufeff1 High Jump\n2 Run\n".encode("utf-16-le"),
        "1\tHigh Jump\n2\tRun\n",
        "1, High Jump\n2, Run\n",
        "01: High Jump\n02: Run\n",
        "High Jump\nRun\n",
        "\n\n 1  High Jump \n 2  Run \n\n",
    ],
)
def test_class_lists_as_programs_write_them(tmp_path: Path, classes: str | bytes) -> None:
    folder = ucf(tmp_path, classes, "High Jump/a 1.avi 1\r\nRun/b.avi 2\r\n", "High Jump\\c.avi\r\nRun\\d.avi\r\n")
    found = read_annotations(None, ["High Jump/a 1.avi", "Run/b.avi", "High Jump/c.avi", "Run/d.avi"], splits=folder)
    assert [a.label for a in found] == ["High Jump", "Run", "High Jump", "Run"]


def test_a_class_whose_name_begins_with_a_number_keeps_it(tmp_path: Path) -> None:
    folder = ucf(tmp_path, "1 100 m\n2 4 x 100 m\n", "100 m/a.avi 1\n4 x 100 m/b.avi 2\n", "100 m/c.avi\n")
    found = read_annotations(None, ["100 m/a.avi", "4 x 100 m/b.avi", "100 m/c.avi"], splits=folder)
    assert [a.label for a in found] == ["100 m", "4 x 100 m", "100 m"]
    ucf(tmp_path, "100 m\nRun\n", "100 m/a.avi\nRun/b.avi\n", "100 m/c.avi\n")
    found = read_annotations(None, ["100 m/a.avi", "Run/b.avi", "100 m/c.avi"], splits=folder)
    assert [a.label for a in found] == ["100 m", "Run", "100 m"]


def test_a_class_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    folder = ucf(tmp_path, "1 Run\n2 run\n", "Run/a.avi 1\n", "run/b.avi\n")
    with pytest.raises(UserError, match=r"classInd\.txt: line 2: the class 'run' is there already, as 'Run'"):
        read_annotations(None, ["Run/a.avi", "run/b.avi"], splits=folder)


def test_normal_forms_are_compared(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Café")
    folder = ucf(tmp_path, "1 Café\n2 Run\n", f"{apart}/a.avi 1\nRun/b.avi 2\n", "Café/c.avi\n")
    found = read_annotations(None, ["Café/a.avi", "Run/b.avi", f"{apart}/c.avi"], splits=folder)
    assert [(a.path, a.label) for a in found] == [
        ("Café/a.avi", "Café"),
        ("Run/b.avi", "Run"),
        (f"{apart}/c.avi", "Café"),
    ]
    with pytest.raises(UserError, match=r"line 1: .* can be .*\\xc9.* and .*e\\u0301"):
        read_annotations(None, ["CAFÉ/a.avi", f"{apart}/A.avi", "Run/b.avi", "Café/c.avi"], splits=folder)


def test_a_name_that_several_files_have_is_refused(tmp_path: Path) -> None:
    folder = ucf(tmp_path, "1 Run\n2 Walk\n", "Run/a.avi 1\nWalk/b.avi 2\n", "Run/c.avi\n")
    with pytest.raises(UserError, match=r"'Run/a\.avi' can be 'x/a\.mp4' and 'y/a\.mp4': write one of them exactly"):
        read_annotations(None, ["x/a.mp4", "y/a.mp4", "Walk/b.avi", "Run/c.avi"], splits=folder)


def test_dots_in_a_name_are_no_extension(tmp_path: Path) -> None:
    folder = ucf(tmp_path, "1 Run\n2 Walk\n", "Run/v1.5 1\nRun/v1.6 1\n", "Walk/w\n")
    found = read_annotations(None, ["Run/v1.5.mp4", "Run/v1.6.mp4", "Walk/w.mkv"], splits=folder)
    assert [a.path for a in found] == ["Run/v1.5.mp4", "Run/v1.6.mp4", "Walk/w.mkv"]


@pytest.mark.parametrize("line", ["..", ".", "/", "1", "a", "A/ 1", "A/.. 1"])
def test_odd_lines_are_refused_with_their_number(tmp_path: Path, line: str) -> None:
    folder = ucf(tmp_path, "1 A\n2 B\n", f"A/a.avi 1\n{line}\n", "B/b.avi\n")
    with pytest.raises(UserError, match=r"trainlist01\.txt: line 2: "):
        read_annotations(None, ["A/a.avi", "B/b.avi"], splits=folder)


@pytest.mark.parametrize("between", [" ", "  ", "\t"])
def test_hmdb_lists_with_spaces_and_odd_classes(tmp_path: Path, between: str) -> None:
    for label, name in (("High Jump", "a b.avi"), ("it's; $5 (é)", "c.avi")):
        (tmp_path / f"{label}_test_split1.txt").write_text(f"{name}{between}1 \r\nt_{name}{between}2\r\n\r\n")
    videos = ["High Jump/a b.avi", "High Jump/t_a b.avi", "it's; $5 (é)/c.avi", "it's; $5 (é)/t_c.avi"]
    found = read_annotations(None, videos, splits=tmp_path)
    assert found == [
        Annotation(path=path, label=path.split("/")[0], split="test" if "/t_" in path else "train") for path in videos
    ]
    (tmp_path / "High Jump_test_split1.txt").write_text("a b.avi 3\n")
    with pytest.raises(UserError, match=r"line 1: 'a b\.avi 3': expected a file name and 0"):
        read_annotations(None, videos, splits=tmp_path)


letters = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\")
names = st.text(letters, min_size=1, max_size=10).map(lambda text: unicodedata.normalize("NFC", text.strip()))


@given(classes=st.lists(names.filter(lambda name: name.strip(". ")), min_size=2, max_size=5, unique_by=str.casefold))
def test_any_classes_that_are_listed_are_found(tmp_path_factory: pytest.TempPathFactory, classes: list[str]) -> None:
    train, test = [f"{name}/t.avi" for name in classes], [f"{name}/v.avi" for name in classes]
    folder = ucf(
        tmp_path_factory.getbasetemp(),
        "".join(f"{number} {name}\n" for number, name in enumerate(classes, start=1)),
        "".join(f"{path} {number}\n" for number, path in enumerate(train, start=1)),
        "".join(f"{path}\n" for path in test),
    )
    found = read_annotations(None, train + test, splits=folder)
    assert [(a.path, a.label) for a in found] == list(zip(train + test, classes * 2, strict=True))
