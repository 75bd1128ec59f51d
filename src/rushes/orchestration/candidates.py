"""The models of a run, as plain data and as artifacts: several may be trained side by side, one goes on."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rushes.config import Recipe, parse_recipe
from rushes.errors import UserError
from rushes.strict import Json, digest_record


def parse_models(records: Sequence[Mapping[str, Json]]) -> tuple[Recipe, ...]:
    """The recipes of a run.

    Raises:
        UserError: none, two of the same name, or such as want different footage.
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
    """The recipe whose section `sample` holds for all."""
    return parse_models(records)[0]


def recipe_of(name: str, records: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The recipe of a model, as plain data."""
    return dict(next(record for record in records if record["name"] == name))


def pass_on(name: str, made: Sequence[Any], to: Any) -> None:
    """Copies the pointer of a model's artifact to another artifact; `made` may be in any order."""
    (own,) = [artifact for artifact in made if artifact.metadata["model"] == name]
    shutil.copyfile(own.path, to.path)
    to.metadata.update(own.metadata)
