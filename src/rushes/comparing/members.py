"""The models that a comparison or a run trains, as the user names them: `MODEL:section.field=value,...`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from rushes.config import Recipe, SampleConfig
from rushes.errors import UserError
from rushes.footage.files import is_url
from rushes.recipes import load_recipe, parse_recipe
from rushes.strict import Json, build, digest_record, to_record

_BETWEEN = re.compile(r",(?![^\[\]]*\])")
"""Between overrides: a comma outside of brackets."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model as the user named it."""

    name: str
    recipe: Recipe


# One member ----------------------------------------------------------------------------------------------------------


def parse_member(text: str, *, size: str, plugins: Sequence[str] = ()) -> Member:
    """Reads `MODEL` or `MODEL:section.field=value,...`; with `NAME=` before it, the member has that name.

    Raises:
        UserError: unknown model or size, or a malformed override.
    """
    head, _, overrides = text.partition(":")
    name, _, model = head.rpartition("=")
    record = to_record(load_recipe(model, size=size)) | ({"plugins": list(plugins)} if plugins else {})
    for override in filter(None, re.split(_BETWEEN, overrides)):
        field, equals, value = override.partition("=")
        if not equals or not field:
            raise UserError(f"member: {text!r}: {override!r} is not an override; write section.field=value")
        if field == "pretrain.task" and value != record["pretrain"]["task"]:
            record["pretrain"] = {**record["pretrain"], "options": {}}  # the model's options are for its own task
        where = f"member {text!r}: {field}"
        if field == "pretrain.init" and value:
            value = _absolute(value, where=where)
        _set(record, field.split("."), _value(value, where=where), where=where)
    return Member(name=name or text, recipe=build(Recipe, record, f"member {text!r}"))


def _set(record: dict[str, Json], path: list[str], value: Json, *, where: str) -> None:
    for key in path[:-1]:
        if not isinstance(record.get(key), Mapping):
            raise UserError(f"{where}: {key!r} is not a section")
        record[key] = dict(record[key])
        record = record[key]
    record[path[-1]] = value


def _absolute(file: str, *, where: str) -> str:
    if is_url(file):
        raise UserError(f"{where}: {file!r} is not allowed; a file that every step finds under this path")
    return str(Path(file).absolute())


def _value(text: str, *, where: str) -> Json:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {text!r} is not allowed; a number, a text, true, false or [a,b]") from error
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", value):
        return float(value)  # 1e-3, which YAML reads as text
    return "" if value is None else value


# Several, on the same footage ----------------------------------------------------------------------------------------


def common_sample(members: Sequence[Member]) -> SampleConfig:
    """How footage is sampled for all members: at the largest size that one of them needs.

    Raises:
        UserError: two members of the same name, or footage that differs in anything but its size.
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


def with_duplicates(members: Sequence[Member], duplicates: Literal["error", "drop"]) -> list[Member]:
    """The members with this value of `sample.duplicates`, which is about the footage that they share."""
    return [
        replace(
            member,
            recipe=replace(member.recipe, sample=replace(member.recipe.sample, duplicates=duplicates)),
        )
        for member in members
    ]


def on_footage(recipe: Recipe, sample: SampleConfig) -> Recipe:
    """The recipe on footage sampled as `sample`: a smaller model reads it scaled down."""
    own = recipe.pretrain.short_side or recipe.sample.short_side
    pretrain = replace(recipe.pretrain, short_side=own if own < sample.short_side else 0)
    return replace(recipe, sample=sample, pretrain=pretrain)


def named_recipes(members: Sequence[Member]) -> tuple[Recipe, ...]:
    """The members' recipes, each with the member's name, on the footage that all of them share."""
    sample = common_sample(members)
    return tuple(replace(on_footage(member.recipe, sample), name=member.name) for member in members)


def models_of(members: Sequence[Member]) -> tuple[Recipe, ...]:
    """The models of a run: as `named_recipes` if there are several, else the one recipe unchanged."""
    return named_recipes(members) if len(members) > 1 else (members[0].recipe,)


# As plain data -------------------------------------------------------------------------------------------------------


def parse_models(records: Sequence[Mapping[str, Json]]) -> tuple[Recipe, ...]:
    """The recipes that a compiled pipeline got as plain data.

    Raises:
        UserError: none, two of the same name, or recipes that need different footage.
    """
    if not records:
        raise UserError("models: none given: name one at least")
    recipes = tuple(parse_recipe(record, source=f"models: {record.get('name')}") for record in records)
    names = [recipe.name for recipe in recipes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"models: {twice!r} is there twice: give each a name of its own")
    wanted = digest_record(recipes[0].sample)
    for recipe in recipes[1:]:
        for name, value in digest_record(recipe.sample).items():
            if value != wanted[name]:
                raise UserError(
                    f"models: sample.{name}: {recipes[0].name!r} wants {wanted[name]!r}, {recipe.name!r} wants "
                    f"{value!r}, but all see the same footage: make them alike"
                )
    return recipes


def sampling_recipe(records: Sequence[Mapping[str, Json]]) -> Recipe:
    """The recipe whose section `sample` is that of all models."""
    return parse_models(records)[0]
