"""Brings a server's recurring runs in line with a file of schedules: first planned, then done. Repeating is harmless.

A recurring run is ours if its name and its description say so; the others are never touched, whatever their name. The
API can switch a recurring run on and off and nothing else, so a changed one is replaced: the new one is made first, so
that a refusal leaves the old one in place. A process that crashes in between leaves both; the next removes one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rushes.errors import ServiceError
from rushes.kubeflow.cluster import Cluster, Recurring
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.schedules import Schedule, Schedules
from rushes.strict import Json


@dataclass(frozen=True, kw_only=True)
class Action:
    """One change, or a schedule that stays as it is."""

    kind: Literal["keep", "create", "upload", "change", "enable", "disable", "remove"]
    what: str
    why: str = ""
    pipeline: Pipeline | None = None
    """To upload."""
    schedule: Schedule | None = None
    """To make."""
    recurring: tuple[Recurring, ...] = ()
    """To switch, or to delete."""


def mark(experiment: str, name: str) -> str:
    """The description that marks a recurring run as ours; with another wording, existing ones would no longer be."""
    return f"rushes schedules keeps {experiment}/{name}: change its file, not this"


def make_plan(cluster: Cluster, file: Schedules) -> list[Action]:
    """Compares the file with the server; changes nothing."""
    actions = []
    if cluster.experiment_id() is None:
        actions.append(Action(kind="create", what=f"experiment {file.experiment}"))
    versions: dict[str, str] = {}
    for pipeline in {schedule.pipeline.digest: schedule.pipeline for schedule in file.schedules}.values():
        versions[pipeline.digest] = cluster.version_id(pipeline) or ""
        if not versions[pipeline.digest]:
            actions.append(Action(kind="upload", what=f"pipeline {pipeline.version}", pipeline=pipeline))
    owned: dict[str, list[Recurring]] = {schedule.name: [] for schedule in file.schedules}
    for recurring in cluster.recurring():
        if recurring.description == mark(file.experiment, recurring.name):
            owned.setdefault(recurring.name, []).append(recurring)
    for schedule in file.schedules:
        actions += _actions(schedule, owned.pop(schedule.name), version_id=versions[schedule.pipeline.digest])
    for name, stale in owned.items():
        actions.append(Action(kind="remove", what=name, why="not in the file", recurring=tuple(stale)))
    return actions


def carry_out(cluster: Cluster, file: Schedules, actions: list[Action]) -> None:
    """Carries out a plan, in order.

    Raises:
        ServiceError: the server refused an action; earlier ones stay, and the next plan starts from there.
    """
    for action in actions:
        try:
            _do(cluster, file, action)
        except ServiceError as error:
            raise ServiceError(f"{action.kind} {action.what}: {error}") from error


def _do(cluster: Cluster, file: Schedules, action: Action) -> None:
    if action.kind == "upload" and action.pipeline:
        cluster.upload(action.pipeline)
    elif action.kind in ("create", "change") and action.schedule:
        cluster.create(action.schedule, description=mark(file.experiment, action.schedule.name))
    elif action.kind == "create":
        cluster.create_experiment()
    for recurring in action.recurring:
        if action.kind in ("enable", "disable"):
            cluster.switch(recurring, enabled=action.kind == "enable")
        else:
            cluster.delete(recurring)


def _actions(schedule: Schedule, owned: list[Recurring], *, version_id: str) -> list[Action]:
    name = schedule.name
    if not owned:
        when = f"cron {schedule.cron}{'' if schedule.enabled else ', disabled'}"
        return [Action(kind="create", what=name, why=when, schedule=schedule)]
    kept = next((recurring for recurring in owned if not _differences(schedule, recurring, version_id)), None)
    if kept is None:
        why = _differences(schedule, owned[0], version_id)
        if owned[0].enabled != schedule.enabled:
            why.append(f"enabled: {owned[0].enabled} -> {schedule.enabled}")
        return [Action(kind="change", what=name, why="; ".join(why), schedule=schedule, recurring=tuple(owned))]
    actions = [Action(kind="keep", what=name)]
    if kept.enabled != schedule.enabled:
        actions = [Action(kind="enable" if schedule.enabled else "disable", what=name, recurring=(kept,))]
    if stale := [recurring for recurring in owned if recurring is not kept]:
        actions.append(Action(kind="remove", what=name, why="there more than once", recurring=tuple(stale)))
    return actions


def _differences(schedule: Schedule, recurring: Recurring, version_id: str) -> list[str]:
    """Differences that need a new recurring run, in words; switching it on or off does not."""
    found = []
    if recurring.cron != schedule.cron:
        found.append(f"cron: {recurring.cron} -> {schedule.cron}")
    if recurring.version_id != version_id:
        found.append(f"pipeline: -> {schedule.pipeline.version}")
    if recurring.concurrency != schedule.concurrency:
        found.append(f"concurrency: {recurring.concurrency} -> {schedule.concurrency}")
    return found + _changed(recurring.arguments, schedule.arguments)


def _by_name(value: Json) -> Json:
    """A list of models as a mapping."""
    named = isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value)
    return {item["name"]: item for item in value} if named else value


def _changed(was: Mapping[str, Json], wanted: Mapping[str, Json], prefix: str = "") -> list[str]:
    """Values that differ, by their path: models.pace-r2plus1d.pretrain.epochs: 100 -> 200."""
    found = []
    for name in sorted({*was, *wanted}):
        before, after = _by_name(was.get(name)), _by_name(wanted.get(name))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _changed(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name}: {before!r} -> {after!r}")
    return found
