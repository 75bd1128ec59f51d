"""Labels from a CSV, from folders and from official split files; every mistake names its line and the remedy."""

import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.archive import list_archive
from rushes.footage.label_table import read_table
from rushes.footage.labels import read_annotations

VIDEOS = ["a.mp4", "deep/b.avi", "deep/c d.mp4"]


def csv_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_a_csv_with_intervals_groups_splits_and_columns_of_its_own(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "\ufeffwho, label ,path,start,end,split,group\n"
        "me,run,a.mp4,0.5,2,train,g1\n"
        "me,,a.mp4,2,3.25,,g1\n"
        '"x, y",jump,deep/c d.mp4,,,test,\n'
        "me,jump,./deep/b.avi,1.5,,,\n",
    )
    assert read_table(path, VIDEOS) == [
        Annotation(path="a.mp4", start=0.5, end=2.0, label="run", group="g1", split="train"),
        Annotation(path="a.mp4", start=2.0, end=3.25, group="g1"),
        Annotation(path="deep/c d.mp4", label="jump", split="test"),
        Annotation(path="deep/b.avi", start=1.5, label="jump"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path,label\nb.avi,run\n", r"line 2: path 'b\.avi' is not among the videos; did you mean 'deep/b\.avi'\?"),
        ("path,label\nzzzzzz,run\n", "line 2: path 'zzzzzz' is not among the videos: correct the path"),
        ("path,label\n,run\n", "line 2: path '' is not among"),
        ("path,label,start\na.mp4,run,1:30\n", "line 2: start '1:30' is not a number of seconds"),
        ("path,label,start\na.mp4,run,-1\n", "start '-1' is not a number"),
        ("path,label,end\na.mp4,run,nan\n", "end 'nan' is not a number"),
        ("path,label,start,end\na.mp4,run,5,5\n", "end 5 is not after start 5"),
        ("path,label,split\na.mp4,run,dev\n", "split 'dev' is not allowed; one of unlabelled, train, val, test"),
        ("path,label,split\na.mp4,run,unlabelled\n", "split unlabelled with the label 'run'"),
        ("path,label\na.mp4,run\na.mp4,jump\n", "line 3: 'a.mp4' is there already, in line 2"),
        ("path,label,start,end\na.mp4,run,,\na.mp4,jump,1,2\n", "a row for the whole file and rows with start or end"),
        ("path,label,start,end,group\na.mp4,run,0,1,x\na.mp4,run,1,2,y\n", "in the groups 'x' and 'y'"),
        ("video,class\na.mp4,run\n", r"no column path and no column label \(found: video, class\)"),
        ("", r"no column path .*found: nothing"),
        ("path,label\na.mp4,run\ndeep/b.avi,run\n", "names the class 'run' only: .* at least two classes"),
    ],
)
def test_a_mistake_in_the_csv_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read_annotations(tmp_path, VIDEOS, labels=csv_file(tmp_path, text))


def test_a_csv_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    for path in (tmp_path / "absent.csv", tmp_path / "labels.csv"):
        with pytest.raises(UserError, match=f"cannot read {path}"):
            read_table(path, VIDEOS)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=8)


@given(rows=st.lists(st.tuples(words, st.integers(0, 9999), st.integers(1, 9999)), min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int]]) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    spans = {(start / 1000, (start + length) / 1000): label for label, start, length in rows}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "label"])
        writer.writerows(["a.mp4", start, end, label] for (start, end), label in spans.items())
    found = read_table(path, VIDEOS)
    assert {(a.start, a.end): a.label for a in found} == {
        span: unicodedata.normalize("NFC", label) for span, label in spans.items()
    }


def test_class_folders() -> None:
    videos = ["Run/a.mp4", "Jump/b.mp4", "unlabelled/c.mp4", "d.mp4", "Run/deep/e.mp4"]
    assert {a.path: a.label for a in read_annotations(None, videos)} == {"Run/a.mp4": "Run", "Jump/b.mp4": "Jump"}


def test_a_flat_folder_is_unlabelled_and_one_class_folder_is_a_mistake(tmp_path: Path) -> None:
    assert read_annotations(tmp_path, ["a.mp4", "b.mp4"]) == []
    with pytest.raises(UserError, match="the class 'Run' only"):
        read_annotations(tmp_path, ["Run/a.mp4", "Run/b.mp4"])


def test_a_labels_csv_beside_the_videos_is_found(tmp_path: Path) -> None:
    csv_file(tmp_path, "path,label\na.mp4,run\ndeep/b.avi,jump\n")
    assert [a.label for a in read_annotations(tmp_path, VIDEOS)] == ["run", "jump"]


# Official split files ------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_ut_interaction_folds_cover_the_videos_once(shared_data: Path, fold: int) -> None:
    videos = list_archive(str(shared_data / "ut_interaction")).paths
    found = read_annotations(
        shared_data / "ut_interaction", videos, splits=shared_data / "splits" / "ut_interaction", fold=fold
    )
    assert sorted(a.path for a in found) == videos
    assert all(a.path.startswith(f"{a.label}/") for a in found)
    assert {a.split for a in found} == {"train", "test"}


@pytest.mark.real
@pytest.mark.parametrize("flat", [False, True])
def test_ucf101_lists_with_the_handstand_trap(shared_data: Path, flat: bool) -> None:
    folder = shared_data / "splits" / "ucf101_splits"
    listed = [
        line.split()[0] for name in ("trainlist01.txt", "testlist01.txt") for line in (folder / name).open() if line
    ]
    # On disk the files are v_HandstandPushups_*, in the lists v_HandStandPushups_*.
    videos = sorted(path.replace("HandStand", "Handstand") for path in listed)
    if flat:
        videos = [path.split("/")[1].replace(".avi", ".mp4") for path in videos]
    found = read_annotations(folder, [*videos, "other/extra.mp4"], splits=folder)
    assert len(found) == 13320 == len({a.path for a in found})
    assert len({a.label for a in found}) == 101
    trap = [a for a in found if "HandstandPushups" in a.path]
    assert len(trap) == 128 and {a.label for a in trap} == {"HandstandPushups"}
    assert sum(a.split == "test" for a in found) == 3783


@pytest.mark.real
def test_hmdb51_lists_have_70_and_30_a_class_and_leave_the_rest_out(shared_data: Path) -> None:
    folder = shared_data / "splits" / "hmdb51_splits"
    videos = [
        f"{path.name.removesuffix('_test_split2.txt')}/{line.rsplit(' ', 2)[0] if line.endswith(' ') else line}"
        for path in sorted(folder.glob("*_test_split2.txt"))
        for line in (raw.rstrip("\n") for raw in path.open())
        if line.strip()
    ]
    found = read_annotations(folder, videos, splits=folder, fold=2)
    assert len({a.label for a in found}) == 51
    for label in {a.label for a in found}:
        splits = [a.split for a in found if a.label == label]
        assert (splits.count("train"), splits.count("test")) == (70, 30)
    assert len(found) < len(videos)


def test_split_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        read_annotations(tmp_path, ["A/a.mp4"], splits=tmp_path / "absent")
    with pytest.raises(UserError, match="neither classInd"):
        read_annotations(tmp_path, ["A/a.mp4"], splits=tmp_path)
    (tmp_path / "classInd.txt").write_text("1 A\n2 B\n")
    (tmp_path / "trainlist01.txt").write_text("A/a.mp4 1\nB/gone.mp4 2\n")
    (tmp_path / "testlist01.txt").write_text("A/c.mp4\n")
    with pytest.raises(UserError, match=r"fold 4 is not one of \[1\]"):
        read_annotations(tmp_path, ["A/a.mp4"], splits=tmp_path, fold=4)
    with pytest.raises(UserError, match=r"trainlist01\.txt: line 2: 'B/gone\.mp4' is not among the videos"):
        read_annotations(tmp_path, ["A/a.mp4", "A/c.mp4"], splits=tmp_path)
    (tmp_path / "trainlist01.txt").write_text("Z/a.mp4 1\n")
    with pytest.raises(UserError, match=r"line 1: 'Z/a\.mp4': expected <class>/<file>, with a class of classInd"):
        read_annotations(tmp_path, ["Z/a.mp4", "A/c.mp4"], splits=tmp_path)
    with pytest.raises(UserError, match="exclude each other"):
        read_annotations(tmp_path, [], splits=tmp_path, labels=tmp_path / "x.csv")


# Other tables --------------------------------------------------------------------------------------------------------


def test_parquet_says_what_csv_says(tmp_path: Path) -> None:
    rows = [
        {"path": VIDEOS[0], "label": "run", "start": 1.5, "end": 3.0, "group": None, "split": "train", "score": 0.3},
        {"path": VIDEOS[1], "label": None, "start": None, "end": None, "group": "kitchen", "split": None, "score": 1.0},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    assert read_table(tmp_path / "labels.parquet", VIDEOS) == [
        Annotation(path=VIDEOS[0], start=1.5, end=3.0, label="run", split="train"),
        Annotation(path=VIDEOS[1], group="kitchen"),
    ]
    pq.write_table(pa.table({"file": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="no column path and no column label"):
        read_table(tmp_path / "other.parquet", VIDEOS)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="expected a Parquet file, or CSV"):
        read_table(tmp_path / "broken.parquet", VIDEOS)


KINETICS = ["train/---QUuC4vJs_000084_000094.mp4", "whole/0wR5jVB-WPk.mkv", "test/3caPS4FHFF8_000036_000046.mp4"]


def test_kinetics_lists_with_their_gaps(tmp_path: Path) -> None:
    path = tmp_path / "kinetics.csv"
    path.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "testifying,---QUuC4vJs,84,94,train\n"
        "eating spaghetti,0wR5jVB-WPk,417,427,validate\n"
        "withdrawn by its owner,zzzzzzzzzzz,0,10,train\n"
        ",3caPS4FHFF8,36,46,test\n"
    )
    assert read_annotations(None, KINETICS, labels=path) == [
        Annotation(path=KINETICS[0], label="testifying", group="---QUuC4vJs", split="train"),
        Annotation(path=KINETICS[1], start=417, end=427, label="eating spaghetti", group="0wR5jVB-WPk", split="val"),
        Annotation(path=KINETICS[2], group="3caPS4FHFF8", split="test"),
    ]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("run,abc,9,3,train", "time_start '9' and time_end '3' are no interval"),
        ("run,abc,1,x,train", "time_end 'x' is not a number"),
        ("run,---QUuC4vJs,84,94,holdout", "split 'holdout' is not allowed; train, validate or test"),
        ("run,abc,1,2,train", "none of its 1 clips is among the videos"),
    ],
)
def test_kinetics_lists_that_cannot_be_used(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "kinetics.csv"
    path.write_text(f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(UserError, match=complaint):
        read_table(path, KINETICS)
