"""Reads recipes: the models' own, and those that a pipeline passes as plain data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes.config import Recipe
from rushes.errors import UserError
from rushes.resources import bundled
from rushes.strict import Json, build, suggest


def models_folder() -> Path:
    """Folder of the known models."""
    return bundled("models")


def known_models() -> list[str]:
    """Names under models/."""
    return sorted(path.parent.name for path in models_folder().glob("*/recipe.yaml"))


def recipe_sizes(model: str) -> list[str]:
    """The variants that a model's recipe has, `full` first."""
    record = _yaml(models_folder() / model / "recipe.yaml")
    return ["full", *(record.get("sizes") or {})]


def load_recipe(model: str, *, size: str = "full") -> Recipe:
    """Returns the recipe of `models/<model>`, with the variant `size` applied.

    Raises:
        UserError: unknown model or size, or a recipe with an unknown key or a bad value.
    """
    path = models_folder() / model / "recipe.yaml"
    if model not in known_models():
        raise UserError(f"model: {model!r} is not known{suggest(model, known_models())}")
    return parse_recipe(_yaml(path), size=size, source=str(path))


def _yaml(path: Path) -> Any:
    import yaml  # not at the top: processes that decode read no recipe

    return yaml.safe_load(path.read_text())


def parse_recipe(record: Mapping[str, Json], *, size: str = "full", source: str = "recipe") -> Recipe:
    """Builds a recipe from plain data (YAML, or a pipeline's JSON parameter).

    `sizes: {cpu: {...}}` holds partial sections, which override the others for that size.

    Raises:
        UserError: an unknown key or size, or a bad value.
    """
    if not isinstance(record, Mapping):
        raise UserError(f"{source}: expected a mapping of sections, found {type(record).__name__}")
    record = dict(record)
    sizes = record.pop("sizes", {}) or {}
    if not isinstance(sizes, Mapping):
        raise UserError(f"{source}: sizes: expected a mapping of variants, found {type(sizes).__name__}")
    if size != "full":
        if size not in sizes:
            raise UserError(f"size: {size!r} is not a size of {record.get('name')}{suggest(size, ['full', *sizes])}")
        variant = sizes[size] or {}
        if not isinstance(variant, Mapping):
            raise UserError(f"{source}: sizes: {size}: expected a mapping of sections, found {variant!r}")
        record = _merge(record, variant)
    return build(Recipe, record, source)


def _merge(base: Mapping[str, Json], override: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        # Options belong to the task that they are named with: they are replaced, not merged.
        merged[key] = _merge(merged[key], value) if both and key != "options" else value
    return merged
