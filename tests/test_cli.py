"""The command line: help that teaches, flags that reach the recipe, mistakes that exit with 2."""

import inspect
import shlex
import subprocess
import sys

import pytest

from rushes.cli import COMMANDS, GROUPS, main, parse
from rushes.steps import STEPS

LIGHT = ("config", "digests", "errors", "extras", "plugins", "recipes", "resources", "strict")
"""Modules that `rushes --help` imports."""


def test_every_step_is_a_verb() -> None:
    assert tuple(GROUPS["Steps"]) == STEPS


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert (COMMANDS[name].__doc__ or "").split(":")[0].split(",")[0].split(".")[0][:30] in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_one_example_that_it_accepts(name: str) -> None:
    text = (inspect.getdoc(COMMANDS[name]) or "").replace("\\\n", " ")
    (example,) = [line.strip() for line in text.splitlines() if line.startswith(f"rushes {name}")]
    assert isinstance(parse(shlex.split(example)[1:]), COMMANDS[name])


def test_the_overview_imports_nothing_heavy() -> None:
    """So that `rushes --help` is there at once; its time depends on the machine, what it imports does not."""
    program = "import sys; from rushes.cli import main; main(['--help']); sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stderr.split()
    heavy = {"numpy", "pyarrow", "av", "torch", "jinja2", "PIL", "fsspec", "yaml", "kfp", "mlflow", "dvc", "onnx"}
    assert not heavy & {module.partition(".")[0] for module in modules}
    assert len(modules) < 500
    ours = {module for module in modules if module.startswith("rushes.") and not module.startswith("rushes.cli")}
    assert ours <= {f"rushes.{name}" for name in LIGHT}


def test_flags_override_the_chosen_size_of_the_chosen_model() -> None:
    command = parse(["run", "pace-r2plus1d", "--videos", "x", "--size", "cpu", "--finetune.epochs", "7", "--seed", "3"])
    recipe = command.full_recipe  # type: ignore[attr-defined]
    assert (recipe.name, recipe.seed, recipe.finetune.epochs) == ("pace-r2plus1d", 3, 7)
    assert recipe.pretrain.backbone == "tiny_r2plus1d"


def test_the_option_that_an_error_about_duplicates_names_is_one_of_every_command_that_samples() -> None:
    option = ["--videos", "x", "--sample.duplicates", "drop"]
    run = parse(["run", "vcop-r3d", "--also", "pace-r3d-18", *option])
    assert {recipe.sample.duplicates for recipe in run.models} == {"drop"}  # type: ignore[attr-defined]
    compared = parse(["compare", "vcop-r3d", "pace-r2plus1d", *option])
    assert {m.recipe.sample.duplicates for m in compared.members} == {"drop"}  # type: ignore[attr-defined]
    own = parse(["compare", "vcop-r3d:sample.duplicates=drop", "--videos", "x"])
    assert own.members[0].recipe.sample.duplicates == "drop"  # type: ignore[attr-defined]
    sampled = parse(["sample", "vcop-r3d", "--pin", "x", "--out", "y", *option[2:]])
    assert sampled.full_recipe.sample.duplicates == "drop"  # type: ignore[attr-defined]


def test_another_task_begins_with_its_own_options() -> None:
    command = parse(
        ["run", "vcop-r3d", "--videos", "x", "--pretrain.task", "pace", "--pretrain.options", "strides", "2"]
    )
    assert command.full_recipe.pretrain.options == {"strides": 2}  # type: ignore[attr-defined]
    command = parse(["run", "vcop-r3d", "--videos", "x", "--pretrain.task=pace"])
    assert command.full_recipe.pretrain.options == {}  # type: ignore[attr-defined]
    kept = parse(["run", "vcop-r3d", "--videos", "x", "--pretrain.task", "clip_order"])
    assert kept.full_recipe.pretrain.options == {"clips": 3, "gap": 8}  # type: ignore[attr-defined]


def test_the_demo_is_the_model_that_the_readme_says() -> None:
    recipe = parse(["demo"]).full_recipe  # type: ignore[attr-defined]
    assert (recipe.name, recipe.pretrain.backbone) == ("pace-r2plus1d", "tiny_r2plus1d")
    other = parse(["demo", "vcop-r3d"]).full_recipe  # type: ignore[attr-defined]
    assert (other.name, other.pretrain.backbone) == ("vcop-r3d", "tiny_r3d")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], "did you mean 'run'?"),
        (["run"], "model: missing"),
        (["run", "vcop"], "did you mean 'vcop-r3d'?"),
        (["run", "vcop-r3d", "--size", "gpu", "--videos", "x"], "size: 'gpu'"),
        (["run", "vcop-r3d", "--videos", "x", "--pretrain.crop", "200"], "sample.short_side"),
        (["run", "vcop-r3d", "--videos", "/nowhere/at/all"], "/nowhere/at/all"),
        (["predict", "/nowhere.mp4"], "/nowhere.mp4"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_importing_the_package_is_cheap() -> None:
    program = (
        "import sys, rushes, rushes.config, rushes.steps; sys.exit('torch' in sys.modules or 'kfp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
