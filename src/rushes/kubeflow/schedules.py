"""schedules.yaml: which compiled pipeline runs when, on which data. All of it is checked before a server is contacted.

    experiment: rushes                   # where the runs appear; one file per experiment
    schedules:
      - name: nightly
        cron: 0 0 2 * * *                # six fields, seconds first; UTC
        pipeline: sha256:12ab...         # digest of the compiled pipeline: what was reviewed is what runs
        data: {videos: /data/footage/videos, revision: main}    # a reference, which each run pins for itself
        parameters: {endpoint: gestures, models: [pace-r2plus1d:pretrain.epochs=60]}
        concurrency: 1
        enabled: true

`models` are named as for `rushes compare`, or are whole recipes. Their files have absolute paths, as the pods see them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.reference import DataReference, check_remote
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.cron import check_cron
from rushes.kubeflow.parameters import arguments_of
from rushes.orchestration.image import PLACEHOLDER
from rushes.strict import Json, build, parse_yaml

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry:
    """A schedule as the file has it."""

    name: str
    cron: str
    pipeline: str
    data: dict[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 1
    enabled: bool = True


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A checked schedule, as it should be on the server."""

    name: str
    cron: str
    pipeline: Pipeline
    data: DataReference
    arguments: Mapping[str, Json]
    """Of each run: the data reference and the parameters."""
    concurrency: int
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """A checked file of schedules."""

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
    check_cron(entry.cron, f"{where}: cron")
    if not 1 <= entry.concurrency <= 10:
        raise UserError(f"{where}: concurrency: {entry.concurrency!r} is not allowed; runs at a time, 1 to 10")
    pipeline = _pipeline(entry, pipelines, where)
    data = _reference(entry.data, where)
    return Schedule(
        name=entry.name,
        cron=entry.cron,
        pipeline=pipeline,
        data=data,
        arguments=arguments_of(entry.parameters, data, pipeline, where),
        concurrency=entry.concurrency,
        enabled=entry.enabled,
    )


def _pipeline(entry: ScheduleEntry, pipelines: Sequence[Pipeline], where: str) -> Pipeline:
    """The pipeline whose digest an entry names; for the placeholder in an entry that is off, the first one."""
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
