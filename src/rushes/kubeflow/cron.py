"""Cron expressions as Kubeflow reads them: six fields, seconds first."""

import calendar
import re
from collections.abc import Mapping, Sequence

from rushes.errors import UserError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Mapping[str, tuple[int, int, Sequence[str]]] = {
    "second": (0, 59, ()),
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of the month": (1, 31, ()),
    "month": (1, 12, _MONTHS),
    "day of the week": (0, 6, _DAYS),
}
"""Each field's lowest and highest value, and the names of its values in order."""
_LEAP_YEAR = 2024


def check_cron(cron: str, where: str) -> None:
    """Checks an expression that Kubeflow would misread, or would refuse only when the first run is due.

    Raises:
        UserError: it is wrong; the message begins with `where`.
    """
    texts = cron.split()
    if len(texts) != len(_FIELDS):
        hint = f": write {f'0 {cron}'!r}" if len(texts) == 5 else ""
        raise UserError(f"{where}: {cron!r} has {len(texts)} fields; Kubeflow wants six, the seconds first{hint}")
    for text, (name, (low, high, names)) in zip(texts, _FIELDS.items(), strict=True):
        if not all(_numbers(part, low, high, names) for part in text.split(",")):
            spelled = f" or {names[0]} to {names[-1]}" if names else ""
            raise UserError(
                f"{where}: {cron!r}: {text!r} is no {name}; {low} to {high}{spelled}, ranges (a-b), steps (*/n), "
                "lists (a,b) or *"
            )
    _check_date(*texts[3:], where=f"{where}: {cron!r}")


def _check_date(day: str, month: str, weekday: str, *, where: str) -> None:
    """Refuses a date that no year has: Kubeflow's controller would search for it without end."""
    if not any(part.startswith(("*", "?")) for part in weekday.split(",")):
        return  # a day of the month or of the week: either is enough
    days, months = (
        [number for part in text.split(",") for number in _numbers(part, *_FIELDS[name])]
        for text, name in ((day, "day of the month"), (month, "month"))
    )
    longest = max(calendar.monthrange(_LEAP_YEAR, number)[1] for number in months)
    if min(days) > longest:
        raise UserError(f"{where} never comes: month {month} has no day {day}; one up to {longest}")


def _numbers(part: str, low: int, high: int, names: Sequence[str]) -> range:
    """The values that one part of a field stands for; none where it is wrong."""
    match = re.fullmatch(r"(?:[*?]|(\w{1,9})(?:-(\w{1,9}))?)(?:/0*([1-9]\d{0,8}))?", part, re.ASCII)
    if match is None:
        return range(0)
    first, last, step = match.groups()
    start = low if first is None else _value(first, low, names)
    open_end = first is None or (last is None and step is not None)  # a/n: from a to the end
    end = high if open_end else _value(last or first, low, names)
    return range(start, end + 1, int(step or 1)) if low <= start and end <= high else range(0)


def _value(text: str, low: int, names: Sequence[str]) -> int:
    """The number of a value or of its name; -1 for any other text."""
    if text.isdigit():
        return int(text)
    return low + names.index(text.upper()) if text.upper() in names else -1
