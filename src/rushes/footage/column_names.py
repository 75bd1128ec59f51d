"""The columns of a table of labels, by name: which are used, and which look as if they should have been."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from rushes.errors import UserError
from rushes.footage.text_table import TextTable

COLUMNS = ("path", "label", "start", "end", "group", "split")
REQUIRED = ("path", "label")
KINETICS = ("label", "youtube_id", "time_start", "time_end", "split")
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}
"""Names that people give to splits, in small letters."""

_SYNONYMS = {
    "path": ("file", "filename", "filepath", "relpath", "src", "video", "videos", "clip"),
    "label": ("class", "classname", "category", "action", "activity"),
    "start": ("begin", "beginning", "from", "onset"),
    "end": ("stop", "finish", "to", "until"),
    "group": ("groupid",),
    "split": (),
}
_ANSWERS = {word: name for name, words in _SYNONYMS.items() for word in (name, *words)}
_QUALIFIER = re.compile(
    "times?|timestamp|s|sec(ond)?s?|ms|millis(econds?)?|frames?|video|clip|segment|event|column|name|of|in|at|the"
)
"""Words that do not tell which column a name means."""


def check_columns(table: TextTable) -> None:
    """Checks that the columns of `COLUMNS` are there once, and under their names.

    Raises:
        UserError: one is missing or there twice, or another column looks as if it were one of them.
    """
    check_once(table, COLUMNS)
    faults = []
    if missing := [name for name in REQUIRED if name not in table.columns]:
        found = ", ".join(table.columns) or "nothing"
        faults.append(f"no column {' and no column '.join(missing)} (found: {found}).")
    if meant := near_misses(table):
        names, columns = (_enumerated([repr(name) for name in some]) for some in (meant, meant.values()))
        faults.append(f"{names} {'is not a column' if len(meant) == 1 else 'are not columns'}: did you mean {columns}?")
    if faults:
        raise UserError(
            f"{table.path}: {' '.join(faults)} The columns are path, label and optionally start, end (both in "
            "seconds), group, split; a column that means something else needs another name"
        )


def check_once(table: TextTable, names: Sequence[str]) -> None:
    """Raises UserError where one of these columns is there twice."""
    for name in names:
        if table.columns.count(name) > 1:
            raise UserError(f"{table.path}: the column {name!r} is there {table.columns.count(name)} times: keep one")


def unused(table: TextTable, names: Collection[str]) -> list[str]:
    """The columns with a name that is not among these, each once."""
    return [name for name in dict.fromkeys(table.columns) if name and name not in names]


def near_misses(table: TextTable) -> dict[str, str]:
    """Columns that are not known, and the one of `COLUMNS` that each seems to be.

    By its spelling (`Start`, `lable`), by its words (`start_time`, `class name`), as a `duration` beside `start`, or
    because all its values are names of splits. Unless that column is there itself: then only for its spelling.
    """
    found: dict[str, str] = {}
    for name in unused(table, COLUMNS):
        spelt = _word(name)
        column = _ANSWERS.get(spelt) or next((known for known in COLUMNS if _one_slip(spelt, known)), None)
        if column is None and "start" in table.columns and spelt in ("duration", "length"):
            column = "end"
        if column is None and _holds_splits(table, name):
            column = "split"
        if column is not None and (column not in table.columns or _plain(name) == column):
            found[name] = column
    return found


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _word(name: str) -> str:
    """The words of a name in small letters without those that say nothing of which column it is: `clipStart_sec`."""
    words = re.findall(r"[^\W\d_]+", _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))
    return "".join(word for word in words if not _QUALIFIER.fullmatch(word)) or "".join(words)


def _one_slip(word: str, known: str) -> bool:
    """Whether a word is a known one with one letter too many, or, of a longer one, missing, other or exchanged."""
    if word[:1] != known[:1]:
        return False
    if any(word[:n] + word[n + 1 :] == known for n in range(len(word))):
        return True
    exchanged = {word[:n] + word[n + 1 : n + 2] + word[n : n + 1] + word[n + 2 :] for n in range(len(word) - 1)}
    if known in exchanged or len(known) < 4:
        return known in exchanged
    return any(known[:n] + known[n + 1 :] in (word, word[:n] + word[n + 1 :]) for n in range(len(known)))


def _holds_splits(table: TextTable, name: str) -> bool:
    values = {_plain(row[name]) for _, row in table.rows} - {""}
    return bool(values) and values <= SPLIT_NAMES.keys()


def _enumerated(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
