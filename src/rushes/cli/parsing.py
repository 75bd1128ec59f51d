"""Arguments to a command, with the chosen model's values as defaults of the recipe's flags."""

import dataclasses
import difflib
import inspect
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from rushes import plugins
from rushes.cli.base import Command, WithRecipe
from rushes.cli.groups import COMMANDS
from rushes.config import RecipeSections
from rushes.errors import UserError
from rushes.recipes import known_models, load_recipe


def parse(arguments: Sequence[str]) -> Command:
    """Builds the command that the arguments name.

    Raises:
        UserError: unknown command, model or size, or a bad value.
        SystemExit: tyro printed the help, or a wrong flag (status 2).
    """
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), list(arguments[words:])
    if name not in COMMANDS:
        if verbs := [command.removeprefix(f"{name} ") for command in COMMANDS if command.startswith(f"{name} ")]:
            raise UserError(f"command: `rushes {name}` needs a verb: {' or '.join(verbs)}")
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"command: {name!r} is not known; {hint}`rushes --help` lists them")
    command = COMMANDS[name]
    defaults = _recipe_defaults(command, rest) if issubclass(command, WithRecipe) else {}
    plugins.use([*defaults.get("plugin", ()), *_values("--plugin", rest)])
    missing = {f.name: _default(f) for f in dataclasses.fields(command)}
    wants_names = issubclass(command, WithRecipe) and ("-h" in rest or "--help" in rest)
    parsed: Command = tyro.cli(
        command,
        prog=f"rushes {name}",
        args=rest,
        default=command(**missing | defaults),
        use_underscores=True,
        description=f"{inspect.getdoc(command)}\n\n{_names()}" if wants_names else None,
    )
    return parsed


def _names() -> str:
    """Tasks and backbones, plugins among them."""
    from rushes.commands.information import names

    return names()


def _default(f: "dataclasses.Field[Any]") -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else tyro.MISSING


def _recipe_defaults(command: type, rest: list[str]) -> dict[str, Any]:
    """Reads model and size before the other flags, whose defaults depend on them."""
    fixed: Mapping[str, Any] = getattr(command, "COMMAND_DEFAULTS", {})
    size = [fixed.get("size", "full"), *_values("--size", rest)][-1]
    model = rest[0] if rest and not rest[0].startswith("-") else fixed.get("model")
    if model is None:
        if "-h" in rest or "--help" in rest:
            return {"recipe": RecipeSections()}
        raise UserError(f"model: missing; the first argument is one of {', '.join(known_models())}")
    recipe = load_recipe(model, size=size)
    if _values("--pretrain.task", rest)[-1:] not in ([], [recipe.pretrain.task]):
        # The options of the recipe belong to the task of the recipe.
        recipe = dataclasses.replace(recipe, pretrain=dataclasses.replace(recipe.pretrain, options={}))
    sections = RecipeSections(**{f.name: getattr(recipe, f.name) for f in dataclasses.fields(RecipeSections)})
    return {**fixed, "recipe": sections, "plugin": tuple(Path(file) for file in recipe.plugins)}


def _values(flag: str, rest: list[str]) -> list[str]:
    """The values of a flag, one per time that it is given."""
    found = []
    for word, following in itertools.zip_longest(rest, rest[1:]):
        if word == flag and following is not None:
            found.append(following)
        elif word.startswith(f"{flag}="):
            found.append(word.removeprefix(f"{flag}="))
    return found
