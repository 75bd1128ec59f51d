"""Plain data (YAML, JSON) to frozen dataclasses and back, strictly: every mistake is an error that names the field."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from rushes.errors import UserError

Json = Any
"""Plain data: mappings, lists, text, numbers, truth values, none."""
T = TypeVar("T")


def parse_yaml(content: bytes, source: str) -> Json:
    """Plain data of a YAML file, strictly: the keys of a mapping are text, and unique.

    Raises:
        UserError: not YAML, or a wrong key; the message begins with `source`.
    """
    import yaml

    try:
        _check_keys(yaml.compose(content, Loader=yaml.SafeLoader), source)
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        raise UserError(f"{source} is not YAML: {' '.join(str(error).split())}") from error


def _check_keys(root: Any, source: str) -> None:
    """Refuses what the YAML reader accepts silently: a repeated key, and keys such as `on`, which become booleans."""
    for keys in _keys(root):
        seen = set()
        for key in keys:
            line = key.start_mark.line + 1
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise UserError(f"{source}: line {line}: the key {key.value!r} is not text: write it in quotes")
            if key.value in seen:
                raise UserError(f"{source}: line {line}: {key.value!r} is given twice: keep one")
            seen.add(key.value)


def _keys(root: Any) -> Iterator[list[Any]]:
    """The keys of each mapping in a tree of YAML nodes; anchors can make the tree contain itself."""
    waiting, seen = [root], {id(None)}
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id == "mapping":
            yield [key for key, _ in node.value if key.id == "scalar"]
            waiting += [value for _, value in node.value]
        elif node.id == "sequence":
            waiting += node.value


def build(cls: type[T], value: Json, where: str) -> T:
    """Builds a dataclass from plain data, strictly: unknown keys, wrong types and missing fields are errors.

    Integral floats become ints for int fields, since a KFP STRUCT parameter turns every int into a float.
    """
    result: T = _convert(cls, value, where)
    return result


def to_record(config: Any) -> dict[str, Json]:
    """Plain data of a config dataclass: what `build` reads back."""
    record: dict[str, Json] = _plain(dataclasses.asdict(config))
    return record


def digest_record(config: Any) -> dict[str, Json]:
    """`to_record` without the fields that never change results."""
    record = {}
    for f in dataclasses.fields(config):
        if f.metadata.get("digest", True):
            value = getattr(config, f.name)
            record[f.name] = digest_record(value) if dataclasses.is_dataclass(value) else _plain(value)
    return record


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _convert(kind: Any, value: Json, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(typing.cast(type, kind), value, where)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(kind):
            return None
        (inner,) = [arm for arm in typing.get_args(kind) if arm is not type(None)]
        return _convert(inner, value, where)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            raise UserError(f"{where}: {value!r} is not allowed; one of {', '.join(map(str, options))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: {value!r} is not a list")
        return tuple(_convert(typing.get_args(kind)[0], item, where) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: {value!r} is not a mapping")
        return {str(key): _integral(item) for key, item in value.items()}
    return _convert_scalar(kind, value, where)


def _convert_dataclass(cls: type, value: Json, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a mapping, found {value!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key in value:
        if key not in names:
            raise UserError(f"{where}: unknown key {key!r}{suggest(str(key), names)}")
    for f in dataclasses.fields(cls):
        if f.name not in value and f.default is f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: {f.name!r} is missing")
    try:
        return cls(**{key: _convert(hints[key], item, f"{where}: {key}") for key, item in value.items()})
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


def _convert_scalar(kind: type, value: Json, where: str) -> Any:
    if kind is int:
        value = _integral(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        hint = " (write 1.0e-3, not 1e-3: YAML reads the latter as text)" if kind is float else ""
        raise UserError(f"{where}: {value!r} is not {'an int' if kind is int else f'a {kind.__name__}'}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value!r} is not allowed; a finite number")
    return value


def _integral(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_integral(item) for item in value] if isinstance(value, list) else value


def suggest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the closest known one, and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (known: {', '.join(known)})"
