"""Tables of labels as people and programs write them: what is read, and what is refused rather than misread."""

import csv
import io
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.labels import read_annotations

VIDEOS = ["high jump/h1.mp4", "high jump/h2.mp4", "run/r1.mp4", "run/r2.mp4"]
GOOD = "path,label\nrun/r1.mp4,run\nhigh jump/h1.mp4,jump\n"


def written(folder: Path, content: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path, videos: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_annotations(None, videos or VIDEOS, labels=path)
    return str(caught.value)


def labels(path: Path, videos: list[str] | None = None) -> dict[str, str | None]:
    return {a.path: a.label for a in read_annotations(None, videos or VIDEOS, labels=path)}


# Columns -------------------------------------------------------------------------------------------------------------


def test_columns_in_capitals_are_not_passed_over(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "path,label,Start,End,Split\nrun/r1.mp4,run,0,1,train\nrun/r2.mp4,run,0,1,test\n"
        "high jump/h1.mp4,jump,2,3,train\nhigh jump/h2.mp4,jump,2,3,test\n",
    )
    said = refusal(path)
    assert "'Start', 'End' and 'Split' are not columns: did you mean 'start', 'end' and 'split'?" in said


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("Path", "path"),
        ("file_name", "path"),
        ("filepath", "path"),
        ("Video", "path"),
        ("lable", "label"),
        ("class name", "label"),
        ("category", "label"),
        ("START", "start"),
        ("start_time", "start"),
        ("startTime", "start"),
        ("time_start", "start"),
        ("clip_start_sec", "start"),
        ("start_ms", "start"),
        ("start_frame", "start"),
        ("start (s)", "start"),
        ("strat", "start"),
        ("begin", "start"),
        ("End ", "end"),
        ("ends", "end"),
        ("edn", "end"),
        ("stop", "end"),
        ("to", "end"),
        ("Group", "group"),
        ("groups", "group"),
        ("group_id", "group"),
        ("spilt", "split"),
        ("splits", "split"),
    ],
)
def test_a_near_miss_of_a_column_is_refused(tmp_path: Path, column: str, meant: str) -> None:
    rows = {"path": "run/r1.mp4", "label": "run"}
    header = [name for name in rows if name != meant] + [column]
    path = written(tmp_path, f"{','.join(header)}\n{','.join(rows.get(name, '1') for name in header)}\n")
    said = refusal(path)
    assert f"{column.strip()!r} is not a column: did you mean {meant!r}?" in said
    assert "start, end (both in seconds)" in said and "needs another name" in said


@pytest.mark.parametrize("column", ["subset", "usage", "set", "fold"])
def test_a_column_of_splits_under_another_name_is_refused(tmp_path: Path, column: str) -> None:
    path = written(
        tmp_path, f"path,label,{column}\nrun/r1.mp4,run,Training\nhigh jump/h1.mp4,jump,\nrun/r2.mp4,run,test\n"
    )
    assert f"{column!r} is not a column: did you mean 'split'?" in refusal(path)


def test_a_duration_beside_a_start_without_an_end_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "path,label,start,duration\nrun/r1.mp4,run,1,2\nhigh jump/h1.mp4,jump,1,2\n")
    assert "'duration' is not a column: did you mean 'end'?" in refusal(path)


def test_columns_of_their_own_are_named_once_and_do_no_harm(tmp_path: Path) -> None:
    header = "path,label,start,end,split,note,start_frame,end_frame,duration,fold,state,eng,person,score"
    path = written(
        tmp_path,
        f"{header}\nrun/r1.mp4,run,0,1,train,x,0,30,2,1,old,en,me,0.5\n"
        "high jump/h1.mp4,jump,0,1,test,y,0,30,2,1,new,en,me,1\n",
    )
    said: list[str] = []
    found = read_annotations(None, VIDEOS, labels=path, say=said.append)
    assert [(a.start, a.end, a.split) for a in found] == [(0.0, 1.0, "train"), (0.0, 1.0, "test")]
    others = "note, start_frame, end_frame, duration, fold, state, eng, person, score"
    assert said == [f"{path}: columns that are not used: {others}"]


def test_a_second_column_of_one_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "path,label,label\nrun/r1.mp4,run,x\nhigh jump/h1.mp4,jump,y\n")
    assert "the column 'label' is there 2 times: keep one" in refusal(path)
    path = written(tmp_path, "path,label,Label\nrun/r1.mp4,run,x\nhigh jump/h1.mp4,jump,y\n")
    assert "'Label' is not a column: did you mean 'label'?" in refusal(path)
    path = written(tmp_path, "path,label,note,note\nrun/r1.mp4,run,x,x\nhigh jump/h1.mp4,jump,y,y\n")
    assert len(labels(path)) == 2, "a column that is not used may be there twice"
    columns = [pa.array(["run/r1.mp4", "high jump/h1.mp4"]), pa.array(["run", "jump"]), pa.array(["x", "y"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["path", "label", "label"]), tmp_path / "twice.parquet")
    assert "the column 'label' is there 2 times" in refusal(tmp_path / "twice.parquet")
    pq.write_table(
        pa.Table.from_arrays([*columns, columns[2]], names=["path", "label", "n", "n"]), tmp_path / "n.parquet"
    )
    assert len(labels(tmp_path / "n.parquet")) == 2


def test_a_kinetics_list_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "label,youtube_id,time_start,time_end,split,label\nrun,abc,0,1,train,x\n")
    assert "the column 'label' is there 2 times" in refusal(path)


def test_a_kinetics_clip_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "label,youtube_id,time_start,time_end,split\nrun,abc,0,1,train\n")
    assert "line 2: 'abc' can be 'a/abc.mp4' and 'b/abc.mp4': keep one file" in refusal(
        path, ["a/abc.mp4", "b/abc.mp4"]
    )


# Values --------------------------------------------------------------------------------------------------------------


def test_a_comma_in_a_label_without_quotes_is_refused(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "path,label\nrun/r1.mp4,Lifting something up completely, then letting it drop\n"
        "run/r2.mp4,Lifting something up completely, without dropping\nhigh jump/h1.mp4,jump\n",
    )
    assert "line 2: 3 values for 2 columns (path, label): put a value that holds a comma" in refusal(path)


def test_a_value_under_no_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "path,,label\nrun/r1.mp4,,run\nhigh jump/h1.mp4,x,jump\n")
    assert "line 3: 'x' is in column 2, which has no name" in refusal(path)


@pytest.mark.parametrize(
    "text", ['path,label\n"run/r1.mp4,run\n', 'path,label\nrun/r1.mp4,"run\nhigh jump/h1.mp4,jump\n']
)
def test_a_quote_that_is_not_closed_is_refused_where_it_opens(tmp_path: Path, text: str) -> None:
    assert "line 2: " in (said := refusal(written(tmp_path, text))) and "is a quote missing?" in said


def test_quotes_that_swallow_lines_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, 'path,label\nrun/r1.mp4,"run\nrun/r2.mp4,run"\nhigh jump/h1.mp4,jump\n')
    assert "line 2: the label 'run\\nrun/r2.mp4,run' holds a control character" in refusal(path)


@pytest.mark.parametrize(("given_split", "meant"), [("Train", "train"), ("validation", "val"), ("TESTING", "test")])
def test_a_near_miss_of_a_split_is_refused(tmp_path: Path, given_split: str, meant: str) -> None:
    path = written(tmp_path, f"path,label,split\nrun/r1.mp4,run,{given_split}\n")
    assert f"line 2: split {given_split!r} is not allowed; did you mean {meant!r}?" in refusal(path)


@pytest.mark.parametrize("time", ["0,5", "1:30", "1s", "1_000", "\uff11"])
def test_times_in_other_forms_are_refused(tmp_path: Path, time: str) -> None:
    path = written(tmp_path, f"path;label;start\nrun/r1.mp4;run;{time}\nhigh jump/h1.mp4;jump;0.5\n")
    assert f"line 2: start {time!r} is not a number of seconds" in refusal(path)


# Other programs' files -----------------------------------------------------------------------------------------------

EXPECTED = {"run/r1.mp4": "run", "high jump/h1.mp4": "jump"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_delimiters_and_line_ends(tmp_path: Path, encoding: str, delimiter: str, newline: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    text = mark + GOOD.replace(",", delimiter).replace("\n", newline)
    assert labels(written(tmp_path, text.encode(encoding))) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "\n\n  \n",
        "\n\n" + GOOD,
        GOOD + ",\n,,,\n",
        GOOD.replace("\n", ",,\n"),
        "sep=;\n" + GOOD.replace(",", ";"),
        "sep=,\r\n" + GOOD.replace("\n", "\r\n"),
        '"path","label"\n"run/r1.mp4","run"\n"high jump/h1.mp4","jump"\n',
        '"path";"label"\n"run/r1.mp4";"run"\n"high jump/h1.mp4";"jump"\n',
        " path , label \n run/r1.mp4 , run \n high jump/h1.mp4 , jump \n",
        "path,label,group,split\nrun/r1.mp4,run\nhigh jump/h1.mp4,jump,,\n",  # Excel leaves out last empty values
        "path,label\n./run/r1.mp4,run\nhigh jump//h1.mp4,jump\n",
        "path,label\nrun\\r1.mp4,run\nhigh jump\\h1.mp4,jump\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str) -> None:
    assert labels(written(tmp_path, text)) == EXPECTED


def test_lines_are_numbered_as_in_an_editor(tmp_path: Path) -> None:
    text = 'sep=;\n\npath;label;note\nrun/r1.mp4;run;"two\nlines"\n\nabsent.mp4;run;\n'
    assert "line 7: path 'absent.mp4'" in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    "content", ["path,label\nr,Fu\u00dfball\n".encode("cp1252"), GOOD.encode("utf-16-le"), b"PK\x03\x04\0"]
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "expected a CSV file in UTF-8, or Parquet" in refusal(written(tmp_path, content))


def test_parquet_with_bytes_and_gaps_as_other_programs_write_it(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": pa.array([b"run/r1.mp4", b"high jump/h1.mp4"]),
            "label": pa.array(["run", "jump"]).dictionary_encode(),
            "start": pa.array([float("nan"), 1.5]),
            "end": pa.array([None, 2], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "labels.parquet")
    found = read_annotations(None, VIDEOS, labels=tmp_path / "labels.parquet")
    assert [(a.path, a.label, a.start, a.end) for a in found] == [
        ("run/r1.mp4", "run", None, None),
        ("high jump/h1.mp4", "jump", 1.5, 2.0),
    ]
    pq.write_table(pa.table({"path": [b"\xff"], "label": ["x"]}), tmp_path / "labels.parquet")
    assert "line 2: path: b'\\xff' is not UTF-8" in refusal(tmp_path / "labels.parquet")


@pytest.mark.parametrize("name", ["Labels.csv", "label.csv", "LABELS.CSV", "labels.tsv", "labels.parquet"])
def test_a_table_of_almost_the_name_beside_the_videos_is_not_passed_over(tmp_path: Path, name: str) -> None:
    written(tmp_path, GOOD, name)
    with pytest.raises(UserError, match=r"is not read by itself: rename it to labels\.csv"):
        read_annotations(tmp_path, VIDEOS)
    assert len(read_annotations(tmp_path, VIDEOS, labels=written(tmp_path, GOOD, "mine.csv"))) == 2
    written(tmp_path, GOOD)
    assert len(read_annotations(tmp_path, VIDEOS)) == 2


# Names ---------------------------------------------------------------------------------------------------------------

COMPOSED, TAKEN_APART = "sub/naïve café, 100%#1.mp4", unicodedata.normalize("NFD", "sub/naïve café, 100%#1.mp4")


@pytest.mark.parametrize(("listed", "named"), [(COMPOSED, TAKEN_APART), (TAKEN_APART, COMPOSED)])
def test_a_name_in_another_normal_form_is_found(tmp_path: Path, listed: str, named: str) -> None:
    path = written(tmp_path, f'path,label\n"{named}",run\nhigh jump/h1.mp4,jump\n')
    assert labels(path, [listed, *VIDEOS]) == {listed: "run", "high jump/h1.mp4": "jump"}


def test_a_name_that_two_normal_forms_share_must_be_exact(tmp_path: Path) -> None:
    both = [COMPOSED, TAKEN_APART, *VIDEOS]
    for exact in (COMPOSED, TAKEN_APART):
        path = written(tmp_path, f'path,label\n"{exact}",run\nhigh jump/h1.mp4,jump\n')
        assert exact in labels(path, both)
    mixed = COMPOSED.replace("ï", "i\u0308")
    said = refusal(written(tmp_path, f'path,label\n"{mixed}",run\nhigh jump/h1.mp4,jump\n'), both)
    assert "line 2: " in said and "can be" in said and "\\xef" in said and "i\\u0308" in said


def test_names_that_look_alike_are_told_apart_in_a_message(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, "path,label\nrun/\u0440\u0435.mp4,run\n"), ["run/pe.mp4", *VIDEOS])
    assert "(run/\\u0440\\u0435.mp4)" in said


def test_a_class_in_two_normal_forms_is_one_class_and_so_is_a_group(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "café")
    path = written(
        tmp_path, f"path,label,group\nrun/r1.mp4,café,{apart}\nrun/r2.mp4,{apart},café\nhigh jump/h1.mp4,jump,\n"
    )
    found = read_annotations(None, VIDEOS, labels=path)
    assert [a.label for a in found] == ["café", "café", "jump"]
    assert [a.group for a in found] == ["café", "café", None]


@pytest.mark.parametrize("other", ["Run", "run\u200b", "r u n", "ru-n"])
def test_classes_that_look_alike_are_named(tmp_path: Path, other: str) -> None:
    path = written(tmp_path, f"path,label\nrun/r1.mp4,run\nrun/r2.mp4,{other}\nhigh jump/h1.mp4,jump\n")
    said: list[str] = []
    read_annotations(None, VIDEOS, labels=path, say=said.append)
    assert len(said) == 1 and "are two classes: if they are one, spell it in one way" in said[0]


# Any rows ------------------------------------------------------------------------------------------------------------

letters = st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="/\0\r")  # csv does not quote \r
file_names = st.text(letters, min_size=1, max_size=12)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
rows = st.tuples(file_names, texts, texts, st.sampled_from(["", "train", "val", "test"]))


@given(
    table=st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: unicodedata.normalize("NFC", row[0]).strip()),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    apart=st.booleans(),
)
@example(table=[("\ufeff", "a,b", '"', "")], delimiter=",", encoding="utf-8", newline="\n", apart=False)
def test_any_rows_that_a_program_writes_are_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[str, str, str, str]],
    delimiter: str,
    encoding: str,
    newline: str,
    apart: bool,
) -> None:
    videos = [f"v/{name}.mp4" for name, *_ in table]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["path", "label", "group", "split"])
    for video, (_, label, group, split) in zip(videos, table, strict=True):
        writer.writerow([unicodedata.normalize("NFD", video) if apart else video, label, group, split])
    path = written(tmp_path_factory.getbasetemp(), out.getvalue().encode(encoding))
    plain = [unicodedata.normalize("NFC", label.strip()) or None for _, label, _, _ in table]
    if len({label for label in plain if label}) == 1:
        return
    found = read_annotations(None, videos, labels=path)
    assert [a.path for a in found] == videos
    assert [a.label for a in found] == plain
    assert [a.group for a in found] == [unicodedata.normalize("NFC", row[2].strip()) or None for row in table]
    assert [a.split for a in found] == [row[3] or None for row in table]


@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"path,label,{text}".encode()))
)
def test_any_bytes_are_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content)
    try:
        read_annotations(None, VIDEOS, labels=path)
    except UserError as error:
        assert str(path) in str(error)
