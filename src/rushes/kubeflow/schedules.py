"""schedules.yaml: which compiled pipeline runs when, on which data. Read and checked whole before a server is asked.

    experiment: rushes                   # where the runs appear; one file an experiment
    schedules:
      - name: nightly
        cron: 0 0 2 * * *                # six fields, seconds first; UTC
        pipeline: sha256:12ab...         # digest of the compiled pipeline: what was reviewed is what runs
        data: {videos: /data/footage/videos, revision: main}    # a reference, which each run pins for itself
        parameters: {endpoint: gestures, models: [pace-r2plus1d:pretrain.epochs=60]}
        concurrency: 1
        enabled: true

`models` are such as `rushes compare` takes, or whole recipes. Their files are named by whole paths, as the pods see
them.
"""

import calendar
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from rushes.comparing.members import Member, common_sample, models_of, parse_member
from rushes.config import Recipe, parse_recipe
from rushes.errors import UserError
from rushes.footage.reference import DataReference, check_absolute, check_remote
from rushes.kubeflow.policy import movable_images
from rushes.orchestration.image import PLACEHOLDER, with_tag
from rushes.serving.repository import check_endpoint
from rushes.strict import Json, build, parse_yaml, to_record

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_CRON: Mapping[str, tuple[int, int, Sequence[str]]] = {
    "second": (0, 59, ()),
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of the month": (1, 31, ()),
    "month": (1, 12, _MONTHS),
    "day of the week": (0, 6, _DAYS),
}
"""Each field's lowest and highest value, and the names that stand for its values in order."""
_LEAP_YEAR = 2024
_WEIGHTS = "a whole path, of weights or of an earlier run's pointer"
_KINDS: Mapping[str, type] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """A parameter that a pipeline takes."""

    kind: str
    """KFP's name of its type."""
    required: bool


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A compiled pipeline as a server gets it: the images' tags are filled in, so its digest covers the code too."""

    path: Path
    """File that it was read from."""
    text: str
    digest: str
    """sha256:<64 hex characters>, of `text`; the file's own where it has no placeholder for the tag."""
    name: str
    inputs: Mapping[str, Input]

    @property
    def version(self) -> str:
        """Name of its version on a server."""
        return f"{self.name}-{self.digest.removeprefix('sha256:')[:16]}"

    @classmethod
    def read(cls, path: Path) -> "Pipeline":
        """Reads a compilation.

        Raises:
            UserError: it cannot be read, is none, or names an image that can be moved.
        """
        try:
            text = with_tag(path.read_bytes().decode())
            spec = next(yaml.safe_load_all(text))
            found = spec["root"].get("inputDefinitions", {}).get("parameters", {})
            inputs = {
                name: Input(kind=entry["parameterType"], required=not entry.get("isOptional", False))
                for name, entry in found.items()
            }
            name, movable = str(spec["pipelineInfo"]["name"]), movable_images(spec)
        except OSError as error:
            raise UserError(
                f"pipeline: {str(path)!r} cannot be read ({error.strerror}): give a compiled one"
            ) from error
        except (UnicodeDecodeError, yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"pipeline: {str(path)!r} is no compiled pipeline: `make compile` writes one") from error
        if movable:
            raise UserError(f"pipeline: {str(path)!r}: image {movable[0]!r} can be moved: name it NAME@sha256:...")
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        return cls(path=path, text=text, digest=digest, name=name, inputs=inputs)


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry:
    """A schedule as it is written."""

    name: str
    cron: str
    pipeline: str
    data: dict[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 1
    enabled: bool = True


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule that was checked: what is to be on the server."""

    name: str
    cron: str
    pipeline: Pipeline
    data: DataReference
    arguments: Mapping[str, Json]
    """All that the pipeline is given: the data reference and the parameters."""
    concurrency: int
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """A file of schedules that was checked."""

    experiment: str
    schedules: tuple[Schedule, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    experiment: str
    schedules: tuple[dict[str, Any], ...]


def read_schedules(path: Path, pipelines: Sequence[Pipeline]) -> Schedules:
    """Reads and checks a file of schedules.

    Args:
        path: the file.
        pipelines: the compiled pipelines that a schedule may name.

    Raises:
        UserError: it cannot be read, or something in it is wrong; the message names schedule and field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"file: {str(path)!r} cannot be read ({error.strerror}): give a file of schedules") from error
    file = build(_File, parse_yaml(content, f"file: {str(path)!r}"), str(path))
    _check_name(file.experiment, f"{path}: experiment")
    names = [_name(item, f"{path}: schedules: number {number}") for number, item in enumerate(file.schedules, start=1)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path}: name: {twice!r} is there twice: give each schedule a name of its own")
    schedules = []
    for name, item in zip(names, file.schedules, strict=True):
        where = f"schedule {name!r}"
        schedules.append(_checked(build(ScheduleEntry, item, where), pipelines, where))
    return Schedules(experiment=file.experiment, schedules=tuple(schedules))


def _checked(entry: ScheduleEntry, pipelines: Sequence[Pipeline], where: str) -> Schedule:
    _check_name(entry.name, f"{where}: name")
    _check_cron(entry.cron, f"{where}: cron")
    if not 1 <= entry.concurrency <= 10:
        raise UserError(f"{where}: concurrency: {entry.concurrency!r} is not allowed; runs at a time, 1 to 10")
    pipeline = _pipeline(entry, pipelines, where)
    data = _reference(entry.data, where)
    return Schedule(
        name=entry.name,
        cron=entry.cron,
        pipeline=pipeline,
        data=data,
        arguments=_arguments(entry, data, pipeline, where),
        concurrency=entry.concurrency,
        enabled=entry.enabled,
    )


def _pipeline(entry: ScheduleEntry, pipelines: Sequence[Pipeline], where: str) -> Pipeline:
    """The pipeline that an entry names: by its digest; as long as it is off, also the first one by the placeholder."""
    if entry.pipeline == PLACEHOLDER and not entry.enabled:
        return pipelines[0]
    named = next((known for known in pipelines if known.digest == entry.pipeline), None)
    if named is None:
        problem = "names nothing that was reviewed" if entry.pipeline == PLACEHOLDER else "is not known"
        known = ", ".join(f"{known.digest} ({known.path.name})" for known in pipelines)
        raise UserError(
            f"{where}: pipeline: {entry.pipeline!r} {problem}; known: {known}: review what was compiled and write "
            "its digest, or give --pipeline FILE"
        )
    return named


def _name(item: Mapping[str, Json], where: str) -> str:
    if item.get("name") is None:
        raise UserError(f"{where}: name is missing: give each schedule a name of its own")
    return str(item["name"])


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: {name!r} is not allowed; lower-case letters, digits and -, up to 63")


def _reference(record: Mapping[str, Json], where: str) -> DataReference:
    try:
        data = build(DataReference, record, "data")
        check_remote(data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return data


def _arguments(entry: ScheduleEntry, data: DataReference, pipeline: Pipeline, where: str) -> dict[str, Json]:
    """What the pipeline is given, checked against what it takes."""
    arguments: dict[str, Json] = {}
    for f in fields(DataReference):
        value = getattr(data, f.name)
        if f.name in pipeline.inputs:
            arguments[f.name] = value
        elif value != f.default:
            raise UserError(f"{where}: data.{f.name}: {value!r}, but the pipeline takes no such thing: leave it out")
    own = [name for name in pipeline.inputs if name not in arguments]
    for name, value in entry.parameters.items():
        if name not in own:
            hint = "belongs under data" if name in arguments else f"is unknown; known: {', '.join(own)}"
            raise UserError(f"{where}: parameters: {name!r} {hint}")
        arguments[name] = _argument(name, value, pipeline.inputs[name].kind, f"{where}: parameters")
    if missing := [name for name in own if pipeline.inputs[name].required and name not in arguments]:
        raise UserError(f"{where}: parameters: {missing[0]!r} is missing: the pipeline needs it")
    return arguments


def _argument(name: str, value: Json, kind: str, where: str) -> Json:
    if name == "models":
        return _models(value, f"{where}: models")
    argument: Json = build(_KINDS[kind], value, f"{where}: {name}")
    if name == "partitions" and argument < 1:
        raise UserError(f"{where}: partitions: {argument!r} is not allowed; 1 or more")
    if name == "endpoint":
        try:
            check_endpoint(argument)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return argument


def _models(value: Json, where: str) -> Json:
    from rushes.comparing.initialisations import initialisations_of

    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {value!r} is not a list of models; such as [pace-r2plus1d]")
    try:
        members = [_member(item) for item in value]
        models = models_of(members)
        # What a file of plugins defines is known where that file is.
        if plain := [member for member in members if not member.recipe.plugins]:
            initialisations_of(plain, common_sample(members))  # task, network and geometry go together
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return [to_record(recipe) for recipe in models]


def _member(item: Json) -> Member:
    if not isinstance(item, str):
        recipe = parse_recipe(item)
        _check_files(recipe)
        return Member(name=recipe.name, recipe=recipe)
    # As it is written: `parse_member` takes a relative path for one of the folder that it runs in.
    overrides = dict(override.partition("=")[::2] for override in item.partition(":")[2].split(","))
    check_absolute(overrides.get("pretrain.init", ""), "pretrain.init", allowed=_WEIGHTS)
    member = parse_member(item, size="full")
    _check_files(member.recipe)
    return member


def _check_files(recipe: Recipe) -> None:
    check_absolute(recipe.pretrain.init, "pretrain.init", allowed=_WEIGHTS)
    for file in recipe.plugins:
        check_absolute(file, "plugins")


def _check_cron(cron: str, where: str) -> None:
    """Refuses what Kubeflow would take for something else, or would find out when the first run is due."""
    texts = cron.split()
    if len(texts) != len(_CRON):
        hint = f": write {f'0 {cron}'!r}" if len(texts) == 5 else ""
        raise UserError(f"{where}: {cron!r} has {len(texts)} fields; Kubeflow wants six, the seconds first{hint}")
    for text, (name, (low, high, names)) in zip(texts, _CRON.items(), strict=True):
        if not all(_numbers(part, low, high, names) for part in text.split(",")):
            spelled = f" or {names[0]} to {names[-1]}" if names else ""
            raise UserError(
                f"{where}: {cron!r}: {text!r} is no {name}; {low} to {high}{spelled}, ranges (a-b), steps (*/n), "
                "lists (a,b) or *"
            )
    _check_date(*texts[3:], where=f"{where}: {cron!r}")


def _check_date(day: str, month: str, weekday: str, *, where: str) -> None:
    """Refuses a date that no year has: Kubeflow's controller would look for it for ever."""
    if not any(part.startswith(("*", "?")) for part in weekday.split(",")):
        return  # of a day of the month and one of the week, either is enough
    days, months = (
        [number for part in text.split(",") for number in _numbers(part, *_CRON[name])]
        for text, name in ((day, "day of the month"), (month, "month"))
    )
    longest = max(calendar.monthrange(_LEAP_YEAR, number)[1] for number in months)
    if min(days) > longest:
        raise UserError(f"{where} never comes: month {month} has no day {day}; one up to {longest}")


def _numbers(part: str, low: int, high: int, names: Sequence[str]) -> range:
    """What a part of a field stands for; nothing where it is wrong."""
    match = re.fullmatch(r"(?:[*?]|(\w{1,9})(?:-(\w{1,9}))?)(?:/0*([1-9]\d{0,8}))?", part, re.ASCII)
    if match is None:
        return range(0)
    first, last, step = match.groups()
    start = low if first is None else _value(first, low, names)
    open_end = first is None or (last is None and step is not None)  # a/n: from a on
    end = high if open_end else _value(last or first, low, names)
    return range(start, end + 1, int(step or 1)) if low <= start and end <= high else range(0)


def _value(text: str, low: int, names: Sequence[str]) -> int:
    """The number that a text stands for; -1 where it stands for none."""
    if text.isdigit():
        return int(text)
    return low + names.index(text.upper()) if text.upper() in names else -1
