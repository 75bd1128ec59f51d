"""Labels from a table: one row per file, or per interval of a file; or the lists of Kinetics."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.column_names import COLUMNS, KINETICS, SPLIT_NAMES, check_columns, check_once, unused
from rushes.footage.file_names import VideoNames, by_stem, shown
from rushes.footage.rows import SPLITS
from rushes.footage.text_table import TextTable, read_text_table

Row = Mapping[str, str]
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_table(
    path: Path, videos: Sequence[str], *, say: Callable[[str], None] = lambda message: None
) -> list[Annotation]:
    """Reads a CSV or Parquet file of labels.

    Args:
        path: of the table.
        videos: relative paths of the videos.
        say: is given a line that names the columns that are not used.

    Raises:
        UserError: names the line, the value, and what is allowed.
    """
    table = read_text_table(path, expected=(*COLUMNS, *KINETICS))
    kinetics = set(KINETICS) <= set(table.columns)
    check_once(table, KINETICS) if kinetics else check_columns(table)
    if others := unused(table, KINETICS if kinetics else COLUMNS):
        say(f"{path}: columns that are not used: {', '.join(others)}")
    return _read_kinetics(table, videos) if kinetics else _read_rows(table, videos)


def class_name(text: str, where: str) -> str | None:
    """A label without spaces around it, in the normal form NFC; None where it is empty.

    Raises:
        UserError: it holds a line break, a tab or another control character.
    """
    label = unicodedata.normalize("NFC", text.strip())
    if any(unicodedata.category(character) == "Cc" for character in label):
        raise UserError(f"{where}: the label {label!r} holds a control character: is a quote missing before it?")
    return label or None


# One row per file or interval ----------------------------------------------------------------------------------------


def _read_rows(table: TextTable, videos: Sequence[str]) -> list[Annotation]:
    names = VideoNames(videos)
    found: list[Annotation] = []
    lines: dict[tuple[str, float | None, float | None], int] = {}
    for line, row in table.rows:
        annotation = _annotation(row, names, f"{table.path}: line {line}")
        span = (annotation.path, annotation.start, annotation.end)
        if span in lines:
            raise UserError(
                f"{table.path}: line {line}: {annotation.path!r} is there already, in line {lines[span]}: keep one"
            )
        lines[span] = line
        found.append(annotation)
    _check_files(found, table.path)
    return found


def _annotation(row: Row, names: VideoNames, where: str) -> Annotation:
    path = names.find(row["path"], where)
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: end {end:g} is not after start {start or 0.0:g}")
    label, split = class_name(row["label"], where), row.get("split", "").strip() or None
    if split is not None and split not in SPLITS:
        meant = SPLIT_NAMES.get(split.casefold())
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise UserError(f"{where}: split {split!r} is not allowed{hint}; one of {', '.join(SPLITS)}, or empty")
    if label is not None and split == "unlabelled":
        raise UserError(f"{where}: split unlabelled with the label {label!r}: empty one of them")
    return Annotation(path=path, start=start, end=end, label=label, group=_group(row), split=split)


def _group(row: Row) -> str | None:
    return unicodedata.normalize("NFC", row.get("group", "").strip()) or None


def _seconds(row: Row, name: str, where: str) -> float | None:
    text = row.get(name, "").strip()
    if not text:
        return None
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where}: {name} {text!r} is not a number of seconds, 0 or more, such as 12.5")
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


# Kinetics ------------------------------------------------------------------------------------------------------------


def _read_kinetics(table: TextTable, videos: Sequence[str]) -> list[Annotation]:
    """Kinetics' lists: <youtube_id>_<start>_<end>.mp4 is a labelled clip, <youtube_id>.mp4 holds it at its times.

    Absent videos are skipped, since some have always been withdrawn.
    """
    names = by_stem(videos)
    rows = [_kinetics_row(row, names, f"{table.path}: line {line}") for line, row in table.rows]
    found = [annotation for annotation in rows if annotation is not None]
    if not found:
        raise UserError(
            f"{table.path}: none of its {len(rows)} clips is among the videos: expected files named "
            "<youtube_id>_<start>_<end> (six digits each) or <youtube_id>"
        )
    return found


def _kinetics_row(row: Row, names: Mapping[str, Sequence[str]], where: str) -> Annotation | None:
    start, end = _seconds(row, "time_start", where), _seconds(row, "time_end", where)
    if start is None or end is None or end <= start:
        raise UserError(f"{where}: time_start {row['time_start']!r} and time_end {row['time_end']!r} are no interval")
    split = {"validate": "val", "validation": "val"}.get(row["split"].strip(), row["split"].strip())
    if split not in SPLITS[1:]:
        raise UserError(f"{where}: split {row['split']!r} is not allowed; train, validate or test")
    label, identifier = class_name(row["label"], where), row["youtube_id"].strip()
    clips = names.get(f"{identifier}_{int(start):06d}_{int(end):06d}", ())
    videos = clips or names.get(identifier, ())
    if len(videos) > 1:
        raise UserError(f"{where}: {identifier!r} can be {shown(videos[0])} and {shown(videos[1])}: keep one file")
    if not videos:
        return None
    times = {} if clips else {"start": start, "end": end}
    return Annotation(path=videos[0], label=label, group=identifier, split=split, **times)
