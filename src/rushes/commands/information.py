"""`rushes models`."""

from rich.table import Table

from rushes.config import known_models, load_recipe, recipe_sizes
from rushes.console import console


def models() -> int:
    """Prints a row a model."""
    table = Table("model", "the question it learns from", "backbone", "sizes", box=None, header_style="bold")
    for name in known_models():
        recipe = load_recipe(name)
        table.add_row(name, recipe.about, recipe.pretrain.backbone, ", ".join(recipe_sizes(name)))
    console.print(table)
    console.print("\nNext: rushes run MODEL --size cpu --videos FOLDER")
    return 0
