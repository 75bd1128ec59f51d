"""Cron expressions as Kubeflow's server parses them when a recurring run is made (robfig/cron 1.2)."""

import re
from collections.abc import Mapping

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES: Mapping[str, Mapping[str, int]] = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of the week": {name: number for number, name in enumerate(_DAYS)},
}
_BOUNDS = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day of the month": (1, 31),
    "month": (1, 12),
    "day of the week": (0, 6),
}
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def parse(expression: str) -> list[set[int]]:
    """The values of each of the six fields; of five, the first is the seconds, and the day of the week is any.

    Raises:
        ValueError: the server would refuse it.
    """
    if expression.startswith("@"):
        if expression in _DESCRIPTORS or re.fullmatch(r"@every \d+(\.\d+)?(ns|us|ms|s|m|h)", expression):
            return []
        raise ValueError(f"unrecognized descriptor: {expression}")
    fields = expression.split()
    if not 5 <= len(fields) <= 6:
        raise ValueError(f"expected 5 to 6 fields, found {len(fields)}: {expression}")
    fields += ["*"] * (6 - len(fields))
    return [_field(text, name) for text, name in zip(fields, _BOUNDS, strict=True)]


def _field(text: str, name: str) -> set[int]:
    return {value for part in text.split(",") if part for value in _range(part, name)}


def _range(part: str, name: str) -> range:
    low, high = _BOUNDS[name]
    ends, *steps = part.split("/")
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {part}")
    first, *rest = ends.split("-")
    if first in ("*", "?"):
        start, end = low, high
    elif len(rest) > 1:
        raise ValueError(f"too many hyphens: {part}")
    else:
        start = _number(first, name)
        end = _number(rest[0], name) if rest else start
    step = _digits(steps[0]) if steps else 1
    if steps and not rest:
        end = high
    if start < low or end > high or start > end or step == 0:
        raise ValueError(f"out of bounds: {part}")
    return range(start, end + 1, step)


def _number(text: str, name: str) -> int:
    known = _NAMES.get(name, {})
    return known[text.lower()] if text.lower() in known else _digits(text)


def _digits(text: str) -> int:
    if not re.fullmatch(r"\+?[0-9]+", text):
        raise ValueError(f"failed to parse int from {text}")
    return int(text)
