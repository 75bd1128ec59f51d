"""`rushes models`, and the names that the help of other commands lists."""

from rich.table import Table

from rushes import plugins
from rushes.console import console
from rushes.recipes import known_models, load_recipe, recipe_sizes


def names() -> str:
    """The values of `--pretrain.task` and `--pretrain.backbone`, with those of plugins."""
    tasks, backbones = ", ".join(plugins.known("task")), ", ".join(plugins.known("backbone"))
    return f"Pretext tasks: {tasks}.\nBackbones: {backbones}."


def models() -> int:
    """Prints one row per model, and the tasks and backbones that a recipe may name."""
    table = Table("model", "pretext task", "backbone", "sizes", box=None, header_style="bold")
    for name in known_models():
        recipe = load_recipe(name)
        table.add_row(name, recipe.about, recipe.pretrain.backbone, ", ".join(recipe_sizes(name)))
    console.print(table)
    console.print(f"\n{names()}", markup=False)
    console.print("\nNext: rushes run MODEL --size cpu --videos FOLDER")
    return 0
