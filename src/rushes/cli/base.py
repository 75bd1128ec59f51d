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
        """Does it; returns the exit status."""


@dataclass(frozen=True, kw_only=True)
class WithRecipe:
    """What commands that read a recipe share."""

    model: Positional[str]
    """A folder under models/: see `rushes models`."""
    size: str = "full"
    """The recipe's variant: full (as published) or cpu (minutes on a laptop)."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines further pretext tasks or backbones (see `rushes.plugins`); may be given several times."""
    recipe: Sections = field(default_factory=RecipeSections)

    @property
    def full_recipe(self) -> Recipe:
        """The recipe with the flags applied; its files are found from any folder, as steps run in others."""
        pretrain = self.recipe.pretrain
        if pretrain.init:
            pretrain = dataclasses.replace(pretrain, init=str(Path(pretrain.init).absolute()))
        files = tuple(str(file.absolute()) for file in self.plugin)
        return Recipe(name=self.model, plugins=files, **vars(self.recipe) | {"pretrain": pretrain})
