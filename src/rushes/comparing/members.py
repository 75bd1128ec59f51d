"""A comparison as `rushes compare` sees it: who takes part, under which protocol, and the processes that do the work.

A *start* is what training on labels begins with: a member's pretraining, or the random weights of its network. Each
start goes through the same chain (`rushes.comparing.chains`) for each fold and seed.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rushes.comparing.chains import ORDER
from rushes.config import NO_TASK, PretrainConfig, Recipe, SampleConfig, load_recipe
from rushes.errors import RushesError, UserError
from rushes.footage.archive import is_url
from rushes.orchestration.run import end_group
from rushes.progress import first_error, read_events
from rushes.strict import Json, build, digest_record, to_record

Event = dict[str, Any]
_BETWEEN = re.compile(r",(?![^\[\]]*\])")
"""Between overrides: a comma outside of brackets."""


# Who takes part -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model as the user named it."""

    name: str
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """What training on labels begins with: a row of the table."""

    name: str
    init: str
    """random, supervised, pretext, or supervised + pretext."""
    recipe: Recipe
    baseline: str
    """Name of the random weights of the same network; its own where it is these."""


def parse_member(text: str, *, size: str, plugins: Sequence[str] = ()) -> Member:
    """A member from `MODEL`, `MODEL:section.field=value,...`, or either after `NAME=`, which is what it is called then.

    Raises:
        UserError: unknown model or size, or an override that is none.
    """
    head, _, overrides = text.partition(":")
    name, _, model = head.rpartition("=")
    record = to_record(load_recipe(model, size=size)) | ({"plugins": list(plugins)} if plugins else {})
    for override in filter(None, re.split(_BETWEEN, overrides)):
        field, equals, value = override.partition("=")
        if not equals or not field:
            raise UserError(f"member: {text!r}: {override!r} is not an override; write section.field=value")
        if field == "pretrain.task" and value != record["pretrain"]["task"]:
            record["pretrain"] = {**record["pretrain"], "options": {}}  # they are the model's own task's
        where = f"member {text!r}: {field}"
        if field == "pretrain.init" and value:
            value = _file(value, where=where)
        _set(record, field.split("."), _value(value, where=where), where=where)
    return Member(name=name or text, recipe=build(Recipe, record, f"member {text!r}"))


def _set(record: dict[str, Json], path: list[str], value: Json, *, where: str) -> None:
    for key in path[:-1]:
        if not isinstance(record.get(key), Mapping):
            raise UserError(f"{where}: {key!r} is no section")
        record[key] = dict(record[key])
        record = record[key]
    record[path[-1]] = value


def _file(text: str, *, where: str) -> str:
    if is_url(text):
        raise UserError(f"{where}: {text!r} is not allowed; a file, which every step finds under this path")
    return str(Path(text).absolute())


def _value(text: str, *, where: str) -> Json:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {text!r} is not allowed; a number, a text, true, false or [a,b]") from error
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", value):
        return float(value)  # 1e-3, which YAML reads as text
    return "" if value is None else value


def common_sample(members: Sequence[Member]) -> SampleConfig:
    """How footage is sampled for all of them: at the largest size that one needs.

    Raises:
        UserError: two of the same name, or they want footage that differs in something else.
    """
    names = [member.name for member in members]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"member: {twice!r} is there twice: leave one out, or give it overrides")
    largest = max(member.recipe.sample.short_side for member in members)
    first = members[0]
    wanted = digest_record(replace(first.recipe.sample, short_side=largest))
    for member in members[1:]:
        other = digest_record(replace(member.recipe.sample, short_side=largest))
        for name, value in wanted.items():
            if other[name] != value:
                raise UserError(
                    f"sample.{name}: {first.name!r} wants {value!r}, {member.name!r} wants {other[name]!r}, but all "
                    "members see the same footage: override one of them"
                )
    return replace(first.recipe.sample, short_side=largest)


def starts_of(members: Sequence[Member], sample: SampleConfig, *, budget: float = 0.0) -> list[Initialisation]:
    """Members in their order, and before the first of each network its random, and its supervised, weights.

    Args:
        members: as the user named them.
        sample: of the common footage; smaller members read it scaled.
        budget: backbone training FLOPs of every pretraining; 0 leaves each recipe's own length.
    """
    starts: dict[str, Initialisation] = {}
    known: dict[str, str] = {}
    for member in members:
        recipe = _on_common_footage(member.recipe, sample)
        _check(recipe)
        random = _untrained(recipe, init="")
        key = _identity(random)
        if key not in known:
            known[key] = _free_name(f"random {recipe.pretrain.backbone}", member, starts)
            starts[known[key]] = Initialisation(name=known[key], init="random", recipe=random, baseline=known[key])
        init = recipe.pretrain.init
        if init and (key := _identity(_untrained(recipe, init=init))) not in known:
            known[key] = _free_name(f"supervised {recipe.pretrain.backbone}", member, starts)
            starts[known[key]] = Initialisation(
                name=known[key],
                init="supervised",
                recipe=_untrained(recipe, init=init),
                baseline=known[_identity(random)],
            )
        if recipe.pretrain.task == NO_TASK:
            continue
        kind = "supervised + pretext" if init else "pretext"
        starts[member.name] = Initialisation(
            name=member.name, init=kind, recipe=_within(recipe, budget), baseline=known[_identity(random)]
        )
    return list(starts.values())


def models_of(members: Sequence[Member]) -> tuple[Recipe, ...]:
    """The models of a run: what `named` makes of several, and a single one as it is."""
    return named(members) if len(members) > 1 else (members[0].recipe,)


def named(members: Sequence[Member]) -> tuple[Recipe, ...]:
    """The members' recipes, each of the member's name and on the footage that all of them share."""
    sample = common_sample(members)
    return tuple(replace(_on_common_footage(member.recipe, sample), name=member.name) for member in members)


def _on_common_footage(recipe: Recipe, sample: SampleConfig) -> Recipe:
    own = recipe.pretrain.short_side or recipe.sample.short_side
    pretrain = replace(recipe.pretrain, short_side=own if own < sample.short_side else 0)
    return replace(recipe, sample=sample, pretrain=pretrain)


def _untrained(recipe: Recipe, *, init: str) -> Recipe:
    """The weights that pretraining begins with, in a form that does not depend on the pretext task."""
    own = recipe.pretrain
    bare = PretrainConfig(
        task=NO_TASK,
        backbone=own.backbone,
        clip_frames=own.clip_frames,
        crop=own.crop,
        short_side=own.short_side,
        init=init,
        device=own.device,
    )
    return replace(recipe, pretrain=bare)


def _identity(recipe: Recipe) -> str:
    sections = [digest_record(section) for section in (recipe.pretrain, recipe.finetune, recipe.evaluate)]
    return json.dumps(sections, sort_keys=True)


def _free_name(name: str, member: Member, taken: Mapping[str, object]) -> str:
    return f"{name} of {member.name}" if name in taken else name


def _check(recipe: Recipe) -> None:
    """Raises UserError where task, network and geometry do not go together, before anything is run."""
    import torch

    from rushes import plugins
    from rushes.backbones import make_backbone
    from rushes.pretext import make_task

    plugins.use(recipe.plugins)
    own = recipe.pretrain
    with torch.device("meta"):  # shapes only
        make_backbone(own.backbone).check(frames=own.clip_frames, height=own.crop, width=own.crop)
    if own.task != NO_TASK:
        make_task(own.task, own.options).check(clip_frames=own.clip_frames)


def _within(recipe: Recipe, budget: float) -> Recipe:
    from rushes.training.budget import elements_of, within_budget

    if not budget:
        return recipe
    return replace(recipe, pretrain=within_budget(recipe.pretrain, flops=budget, elements=elements_of(recipe)))


# The processes ------------------------------------------------------------------------------------------------------


def footage_in(work: Path, *, fold: int) -> Path:
    """Where the pointer to a fold's footage lies."""
    return work / f"footage-{fold}.json"


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A start on one fold with one seed."""

    start: Initialisation
    fold: int
    seed: int
    labels: tuple[int, ...]
    """Numbers of labels a class, 0 for all."""

    @property
    def name(self) -> str:
        """What people see."""
        return f"{self.start.name}, fold {self.fold}, seed {self.seed}"

    def folder(self, work: Path) -> Path:
        """Where its pointers and its log go; of its own, also where names differ in little that folders can bear."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.start.name)[:50]
        own = hashlib.sha256(self.start.name.encode()).hexdigest()[:8]
        return work / f"fold{self.fold}-seed{self.seed}-{plain}-{own}"

    def write_order(self, work: Path) -> Path:
        """Writes down what is to be done, with the fold's footage in the folder `work`; returns the chain's folder."""
        folder = self.folder(work)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = replace(self.start.recipe, seed=self.seed)
        footage = footage_in(work, fold=self.fold).absolute()
        order = {"recipe": to_record(recipe), "footage": str(footage), "labels": self.labels}
        (folder / ORDER).write_text(json.dumps(order, indent=1))
        return folder


class Chains:
    """Runs chains in processes, so many at a time. Use as a context manager: leaving it ends them, whatever happened.

    Args:
        chains: in the order in which they begin.
        work: folder of their pointers, logs and events.
        parallel: processes at a time; each has its share of the cores.
    """

    def __init__(self, chains: Sequence[Chain], *, work: Path, parallel: int) -> None:
        self.chains, self.work, self.parallel = chains, work, parallel
        self._running: list[_Running] = []

    def __enter__(self) -> "Chains":
        return self

    def __exit__(self, *exception: object) -> None:
        for running in self._running:
            end_group(running.process)

    def follow(self) -> Iterator[Event | None]:
        """Yields events of all processes as they come, None when there is nothing new, until all chains have ended.

        Raises:
            UserError: the input of a chain is at fault.
            RushesError: a chain failed; the message names its log.
        """
        waiting, ended = list(self.chains), 0
        yield self._count(ended)
        while waiting or self._running:
            while waiting and len(self._running) < self.parallel:
                self._running.append(_Running(waiting.pop(0), work=self.work, threads=self._threads()))
            for running in list(self._running):
                over = running.process.poll() is not None
                yield from running.events()
                if over:
                    running.check()
                    self._running.remove(running)
                    ended += 1
                    yield self._count(ended)
            yield None
            time.sleep(0.1)

    def _threads(self) -> int:
        return max(len(os.sched_getaffinity(0)) // self.parallel, 1)

    def _count(self, ended: int) -> Event:
        return {
            "event": "bar",
            "step": "compare",
            "label": "compare",
            "done": ended,
            "total": len(self.chains),
            "unit": "chains",
            "stats": {},
        }


class _Running:
    """A process that works on a chain."""

    def __init__(self, chain: Chain, *, work: Path, threads: int) -> None:
        self.chain, self.folder = chain, chain.write_order(work)
        self.log, self._events, self._offset = self.folder / "chain.log", self.folder / "progress.jsonl", 0
        self._events.unlink(missing_ok=True)
        environment = os.environ | {
            "RUSHES_PROGRESS": str(self._events),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rushes.comparing.chains", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def events(self) -> Iterator[Event]:
        """What is new, under the chain's name."""
        events, self._offset = read_events(self._events, offset=self._offset)
        for event in events:
            named = {key: f"{self.chain.name}: {event[key]}" for key in ("step", "label") if key in event}
            yield event | named

    def check(self) -> None:
        """Raises what the chain failed of."""
        if self.process.returncode == 0:
            return
        failure = first_error(self._events)
        if failure is None:
            raise RushesError(f"{self.chain.name}: ended with status {self.process.returncode} (log: {self.log})")
        if failure["exit_code"] == UserError.exit_code:
            raise UserError(f"{self.chain.name}: {failure['step']}: {failure['message']}")
        raise RushesError(f"{self.chain.name}: {failure['step']}: {failure['message']} (log: {self.log})")
