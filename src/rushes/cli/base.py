"""What commands share. A command is a frozen dataclass: its docstring is the help, its fields are the flags."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from tyro.conf import Positional, UseAppendAction, arg

from rushes.config import Recipe, RecipeSections

Sections = Annotated[RecipeSections, arg(name="")]


class Command(Protocol):
    """A parsed command."""

    def execute(self) -> int:
        """Runs the command; returns the exit status."""


@dataclass(frozen=True, kw_only=True)
class WithRecipe:
    """The flags of all commands that read a recipe."""

    model: Positional[str]
    """A folder under models/: see `rushes models`."""
    size: str = "full"
    """The recipe's variant: full (as published) or cpu (minutes on a laptop)."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """File that defines further pretext tasks or backbones (see `rushes.plugins`); may be repeated."""
    recipe: Sections = field(default_factory=RecipeSections)

    @property
    def full_recipe(self) -> Recipe:
        """The recipe with the flags applied, with absolute paths, since steps run in other folders."""
        pretrain = self.recipe.pretrain
        if pretrain.init:
            pretrain = dataclasses.replace(pretrain, init=str(Path(pretrain.init).absolute()))
        files = tuple(str(file.absolute()) for file in self.plugin)
        return Recipe(name=self.model, plugins=files, **vars(self.recipe) | {"pretrain": pretrain})
