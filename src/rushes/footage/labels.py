"""Labels of the videos: from a table, class folders, or the official split files of UCF-101 and HMDB-51.

    videos = list_videos(Path("videos"))  # of rushes.footage.archive
    annotations = read_annotations(Path("videos"), videos, labels=Path("labels.csv"))

A file without an annotation is unlabelled. Paths are relative to the videos' folder, with forward slashes.
"""

import csv
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.rows import SPLITS

LABELS_FILE = "labels.csv"


def read_annotations(
    root: Path | None, videos: Sequence[str], *, labels: Path | None = None, splits: Path | None = None, fold: int = 1
) -> list[Annotation]:
    """Reads the labels of the videos.

    Args:
        root: the videos' folder, None where they are read from a URL; without `labels` and `splits`, its own
            `labels.csv` counts, then class folders.
        videos: relative paths of the videos.
        labels: CSV or Parquet with the columns path and label, and optionally start, end, group, split; or Kinetics'
            own columns.
        splits: folder of UCF-101's or HMDB-51's official split files.
        fold: number of the official split, from 1.

    Raises:
        UserError: they are contradictory, malformed, about absent videos, or of one class only.
    """
    if labels is not None and splits is not None:
        raise UserError(f"labels: {labels} and splits: {splits} exclude each other: give one of them")
    if labels is None and splits is None and root is not None and (root / LABELS_FILE).is_file():
        labels = root / LABELS_FILE
    if labels is not None:
        found, source = read_table(labels, videos), str(labels)
    elif splits is not None:
        found, source = read_split_files(splits, videos, fold=fold), str(splits)
    else:
        found, source = class_folders(videos), "<class>/"
    classes = {annotation.label for annotation in found if annotation.label is not None}
    if len(classes) == 1:
        raise UserError(
            f"labels: {source} names the class {classes.pop()!r} only: a classifier needs at least two classes"
        )
    return found


# Tables --------------------------------------------------------------------------------------------------------------

_KINETICS = ("label", "youtube_id", "time_start", "time_end", "split")


def read_table(path: Path, videos: Sequence[str]) -> list[Annotation]:
    """Reads a CSV or Parquet file of labels; other columns are ignored.

    Raises:
        UserError: names the line, the value, and what is allowed.
    """
    columns, rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    if set(_KINETICS) <= set(columns):
        return _read_kinetics(path, rows, videos)
    if missing := [name for name in ("path", "label") if name not in columns]:
        raise UserError(
            f"{path}: no column {' and no column '.join(missing)} (found: {', '.join(columns) or 'nothing'}): "
            "the columns are path, label and optionally start, end, group, split"
        )
    known = dict.fromkeys(videos)
    found: list[Annotation] = []
    lines: dict[tuple[str, float | None, float | None], int] = {}
    for line, row in rows:
        annotation = _annotation(row, known, f"{path}: line {line}")
        span = (annotation.path, annotation.start, annotation.end)
        if span in lines:
            raise UserError(
                f"{path}: line {line}: {annotation.path!r} is there already, in line {lines[span]}: keep one"
            )
        lines[span] = line
        found.append(annotation)
    _check_files(found, path)
    return found


Rows = list[tuple[int, Mapping[str, str]]]
"""The number of each line, from 2 since the first names the columns, and its values."""


def _read_csv(path: Path) -> tuple[list[str], Rows]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            return columns, [(reader.line_num, {c: (row[c] or "").strip() for c in columns}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"labels: cannot read {path} ({error}): expected a CSV file in UTF-8, or Parquet") from error


def _read_parquet(path: Path) -> tuple[list[str], Rows]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"labels: cannot read {path} ({error}): expected a Parquet file, or CSV") from error
    rows = table.to_pylist()
    texts = [{name: "" if value is None else str(value).strip() for name, value in row.items()} for row in rows]
    return table.column_names, list(enumerate(texts, start=2))


def _read_kinetics(path: Path, rows: Rows, videos: Sequence[str]) -> list[Annotation]:
    """Kinetics' lists: <youtube_id>_<start>_<end>.mp4 is a labelled clip, <youtube_id>.mp4 holds it at its times.

    Absent videos are skipped, since some have always been withdrawn.
    """
    by_name = _unique((PurePosixPath(video).stem, video) for video in videos)
    found = []
    for line, row in rows:
        where = f"{path}: line {line}"
        start, end = _seconds(row, "time_start", where), _seconds(row, "time_end", where)
        if start is None or end is None or end <= start:
            raise UserError(
                f"{where}: time_start {row['time_start']!r} and time_end {row['time_end']!r} are no interval"
            )
        split = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        if split not in SPLITS[1:]:
            raise UserError(f"{where}: split {row['split']!r} is not allowed; train, validate or test")
        label = row["label"] or None
        clip = by_name.get(f"{row['youtube_id']}_{int(start):06d}_{int(end):06d}")
        whole = by_name.get(row["youtube_id"])
        if clip is not None:
            found.append(Annotation(path=clip, label=label, group=row["youtube_id"], split=split))
        elif whole is not None:
            found.append(
                Annotation(path=whole, start=start, end=end, label=label, group=row["youtube_id"], split=split)
            )
    if not found:
        raise UserError(
            f"{path}: none of its {len(rows)} clips is among the videos: expected files named "
            "<youtube_id>_<start>_<end> (six digits each) or <youtube_id>"
        )
    return found


def _annotation(row: Mapping[str, str], known: Mapping[str, None], where: str) -> Annotation:
    path = PurePosixPath(row["path"]).as_posix() if row["path"] else ""
    if path not in known:
        raise UserError(f"{where}: path {row['path']!r} is not among the videos{_closest(path, known)}")
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: end {end:g} is not after start {start or 0.0:g}")
    label, split = row["label"] or None, row.get("split") or None
    if split is not None and split not in SPLITS:
        raise UserError(f"{where}: split {split!r} is not allowed; one of {', '.join(SPLITS)}, or empty")
    if label is not None and split == "unlabelled":
        raise UserError(f"{where}: split unlabelled with the label {label!r}: empty one of them")
    return Annotation(path=path, start=start, end=end, label=label, group=row.get("group") or None, split=split)


def _seconds(row: Mapping[str, str], name: str, where: str) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where}: {name} {text!r} is not a number of seconds, 0 or more")
    return value


def _check_files(annotations: Sequence[Annotation], path: Path) -> None:
    """Checks that a file is labelled as a whole or by intervals, and belongs to one group."""
    whole = {a.path for a in annotations if a.start is None and a.end is None}
    groups: dict[str, str] = {}
    for a in annotations:
        if a.path in whole and not (a.start is None and a.end is None):
            raise UserError(
                f"{path}: {a.path!r} has a row for the whole file and rows with start or end: keep one kind"
            )
        if a.group is not None and groups.setdefault(a.path, a.group) != a.group:
            raise UserError(f"{path}: {a.path!r} is in the groups {groups[a.path]!r} and {a.group!r}: a file is in one")


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ": correct the path, relative to the videos' folder"


# Folders -------------------------------------------------------------------------------------------------------------


def class_folders(videos: Iterable[str]) -> list[Annotation]:
    """One class per folder directly under the root; the folder `unlabelled`, and files elsewhere, have none."""
    parts = [(path, PurePosixPath(path).parts) for path in videos]
    return [Annotation(path=path, label=p[0]) for path, p in parts if len(p) == 2 and p[0] != "unlabelled"]


# Official split files ------------------------------------------------------------------------------------------------


def read_split_files(folder: Path, videos: Sequence[str], *, fold: int) -> list[Annotation]:
    """Reads UCF-101's (`trainlist01.txt`, ...) or HMDB-51's (`<class>_test_split1.txt`) files; the rest is unlabelled.

    Raises:
        UserError: there is no such folder or fold, or it lists an absent video.
    """
    if not folder.is_dir():
        raise UserError(f"splits: {str(folder)!r} is not a folder: give the one with the official split files")
    if (folder / "classInd.txt").is_file():
        return _read_ucf(folder, videos, fold)
    if any(folder.glob("*_test_split*.txt")):
        return _read_hmdb(folder, videos, fold)
    raise UserError(
        f"splits: {str(folder)!r} holds neither classInd.txt (UCF-101's format) "
        "nor <class>_test_split<N>.txt (HMDB-51's)"
    )


def _read_ucf(folder: Path, videos: Sequence[str], fold: int) -> list[Annotation]:
    # "37 HandstandPushups", yet the lists spell some of its files v_HandStandPushups: names are matched without case.
    classes = {line.split()[-1].lower(): line.split()[-1] for line in _lines(folder / "classInd.txt")}
    find = _Finder(videos)
    found = []
    for split in ("train", "test"):
        path = folder / f"{split}list{fold:02d}.txt"
        if not path.is_file():
            folds = sorted(int(p.stem[-2:]) for p in folder.glob("trainlist*.txt"))
            raise UserError(f"splits: no {path.name} in {str(folder)!r}: fold {fold} is not one of {folds}")
        for line in _lines(path):
            name = re.sub(r"\s+\d+$", "", line)
            label = classes.get(name.split("/")[0].lower())
            if label is None:
                raise UserError(f"{path}: the class of {name!r} is not in classInd.txt")
            found.append(Annotation(path=find(name, path), label=label, split=split))
    return found


def _read_hmdb(folder: Path, videos: Sequence[str], fold: int) -> list[Annotation]:
    lists = sorted(folder.glob(f"*_test_split{fold}.txt"))
    if not lists:
        raise UserError(
            f"splits: no <class>_test_split{fold}.txt in {str(folder)!r}: the official folds are 1, 2 and 3"
        )
    find = _Finder(videos)
    found = []
    for path in lists:
        label = path.name.removesuffix(f"_test_split{fold}.txt")
        for line in _lines(path):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2"):
                raise UserError(f"{path}: {line!r}: expected a file name and 0 (unused), 1 (train) or 2 (test)")
            if use != "0":
                split = "train" if use == "1" else "test"
                found.append(Annotation(path=find(f"{label}/{name.strip()}", path), label=label, split=split))
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"splits: cannot read {path} ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


class _Finder:
    """Finds the video that a split file names: by path, else by name, ignoring case and extension."""

    def __init__(self, videos: Sequence[str]) -> None:
        self.videos = videos
        self.exact = set(videos)
        self.by_path = _unique((_plain(path), path) for path in videos)
        self.by_name = _unique((_plain(path).rsplit("/", 1)[-1], path) for path in videos)

    def __call__(self, name: str, source: Path) -> str:
        if name in self.exact:
            return name
        plain = _plain(name)
        path = self.by_path.get(plain) or self.by_name.get(plain.rsplit("/", 1)[-1])
        if path is None:
            raise UserError(f"{source}: {name!r} is not among the videos{_closest(name, self.videos)}")
        return path


def _plain(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix().lower()


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, path in pairs:
        found[key] = None if key in found else path  # ambiguous: none
    return found
