"""Tables of text from CSV, as people and spreadsheets write it, or from Parquet.

Comma, semicolon or tab; UTF-8 or UTF-16, with or without a byte order mark; empty lines and empty last columns do not
count. A line with more values than columns is refused: a comma in a value without quotes would move all that follows.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rushes.errors import UserError
from rushes.footage.index import read_columns

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_QUOTED = "put a value that holds a {delimiter} or a line break in quotes"


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table whose values are text."""

    path: Path
    columns: tuple[str, ...]
    """Names in their order, without spaces around them; a name can occur twice."""
    rows: Sequence[tuple[int, Mapping[str, str]]]
    """The number of each line, and its values by column: unchanged, "" where there is none."""


def read_text_table(path: Path, *, expected: Sequence[str]) -> TextTable:
    """Reads a table.

    Args:
        path: CSV, or Parquet where it ends in .parquet or .pq.
        expected: names of columns, which tell the delimiter of a CSV file.

    Raises:
        UserError: it cannot be read, or a line has more values than there are columns.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    text = read_text(path, field="labels", expected="a CSV file in UTF-8, or Parquet")
    return _read_csv(path, text, expected)


def read_text(path: Path, *, field: str, expected: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Args:
        path: of the file.
        field: what names it, for the beginning of an error.
        expected: for the end of an error.

    Raises:
        UserError: it cannot be read, or is no such text.
    """
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{field}: cannot read {path} ({error}): expected {expected}") from error
    if "\0" in text:
        raise UserError(f"{field}: cannot read {path} (it holds zero bytes): expected {expected}")
    return text


# CSV -----------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, text: str, expected: Sequence[str]) -> TextTable:
    lines, delimiter = _lines_and_delimiter(text, expected)
    records = _records(path, csv.reader(lines, delimiter=delimiter, strict=True), delimiter)
    columns = tuple(name.strip() for name in next(records, (0, []))[1])
    while columns and not columns[-1]:
        columns = columns[:-1]
    rows = [(line, _values(cells, columns, f"{path}: line {line}", delimiter)) for line, cells in records]
    return TextTable(path=path, columns=columns, rows=rows)


def _lines_and_delimiter(text: str, expected: Sequence[str]) -> tuple[Iterator[str], str]:
    """The lines, and the delimiter that splits the first of them into most of the expected columns.

    A first line `sep=;`, by which Excel says its delimiter, becomes empty, so that lines keep their numbers.
    """
    lines = list(io.StringIO(text, newline=""))
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return iter(()), ","
    head = lines[first].strip()
    if head[:4].lower() == "sep=" and head[4:] in (*_DELIMITERS, ""):
        lines[first] = "\n"
        return iter(lines), head[4:] or "\t"
    return iter(lines), max(_DELIMITERS, key=lambda delimiter: _recognised(lines[first], delimiter, expected))


def _recognised(head: str, delimiter: str, expected: Sequence[str]) -> tuple[int, int]:
    """How many columns of a first line are expected ones, and how many there are."""
    names = [name.strip().strip('"').lower() for name in head.split(delimiter)]
    return sum(name in expected for name in names), len(names)


def _records(path: Path, reader: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the line on which each record begins, and its values; empty records are left out."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = _QUOTED.format(delimiter=_DELIMITERS[delimiter])
            raise UserError(
                f"{path}: line {line}: {error}: is a quote missing? {remedy[0].upper()}{remedy[1:]}"
            ) from error
        if any(cell.strip() for cell in cells):
            yield line, cells


def _values(cells: Sequence[str], columns: Sequence[str], where: str, delimiter: str) -> dict[str, str]:
    """The values by column; a short record lacks its last values, as in what Excel writes."""
    if any(cell.strip() for cell in cells[len(columns) :]):
        remedy = _QUOTED.format(delimiter=_DELIMITERS[delimiter])
        raise UserError(f"{where}: {len(cells)} values for {len(columns)} columns ({', '.join(columns)}): {remedy}")
    filled = [*cells[: len(columns)], *[""] * (len(columns) - len(cells))]
    for number, (name, value) in enumerate(zip(columns, filled, strict=True), start=1):
        if not name and value.strip():
            raise UserError(f"{where}: {value.strip()!r} is in column {number}, which has no name: give it one")
    return dict(zip(columns, filled, strict=True))


# Parquet -------------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> TextTable:
    try:
        # Of a folder of Parquet files, `read_table` makes one table; it refuses a file with two columns of one name.
        table = pq.read_table(path) if path.is_dir() else read_columns(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"labels: cannot read {path} ({error}): expected a Parquet file, or CSV") from error
    once = {name: number for number, name in reversed(list(enumerate(table.column_names)))}
    rows = table.select(sorted(once.values())).to_pylist()
    texts = [
        (line, {name.strip(): _text(value, f"{path}: line {line}: {name}") for name, value in row.items()})
        for line, row in enumerate(rows, start=2)
    ]
    return TextTable(path=path, columns=tuple(name.strip() for name in table.column_names), rows=texts)


def _text(value: Any, where: str) -> str:
    """A value as text; none and not-a-number are empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: {value[:40]!r} is not UTF-8: write text") from error
    return str(value)
