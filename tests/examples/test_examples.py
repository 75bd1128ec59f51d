"""The example plugins trained by the commands of their README, and the notebook executed."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
import torch

from rushes import plugins
from rushes.cli import parse
from rushes.config import Recipe
from rushes.footage.reference import DataReference
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from tests.integration.conftest import write_videos

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SMALL = {
    "sample.short_side": 32,
    "sample.val_share": 0,
    "sample.workers": 2,
    "pretrain.crop": 32,
    "pretrain.workers": 0,
    "pretrain.batch": 4,
    "pretrain.samples_per_epoch": 16,
    "pretrain.epochs": 2,
    "pretrain.backbone": "tiny_r3d",
}


def commands() -> list[list[str]]:
    """The `rushes run` commands of the README."""
    text = (EXAMPLES / "README.md").read_text()
    lines = re.findall(r"^rushes (.*)$", text.replace("\\\n", ""), flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def small_recipe(command: list[str]) -> Recipe:
    """The command's recipe, made small."""
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    recipe: Recipe = parse([*command, *flags]).full_recipe  # type: ignore[attr-defined]
    return recipe


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    plugins.use([])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_videos(home / "videos", files=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(home))
        pin(data=DataReference(videos=str(home / "videos")), out=home / "pin.json")
        recipe = small_recipe(["run", "pace-r2plus1d", "--size", "cpu", "--videos", "x"])
        sample(recipe=recipe, pin=home / "pin.json", out=home / "footage.json")
    return home


def test_the_readme_has_a_command_for_every_plugin() -> None:
    plugged = {path.name for path in EXAMPLES.glob("*.py")}
    assert {Path(word).name for words in commands() for word in words if word.endswith(".py")} == plugged
    assert [words[:2] for words in commands()] == [
        ["pretext", "show"],
        ["run", "pace-r2plus1d"],
        ["run", "pace-r2plus1d"],
    ]


@pytest.mark.parametrize("command", commands()[1:], ids=lambda words: words[words.index("--pretrain.task") + 1])
def test_a_plugin_trains_as_the_readme_says(command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(home))
    recipe = small_recipe(command)
    made = pretrain(recipe=recipe, footage=home / "footage.json", out=home / "out.json")
    assert made.summary["task"] == recipe.pretrain.task == command[command.index("--pretrain.task") + 1]
    assert made.summary["step"] == 8
    assert dict(recipe.pretrain.options)
    assert made.config["definitions"]["task"]["name"] == recipe.pretrain.task


@pytest.mark.parametrize("tuples", [16, pytest.param(160, marks=pytest.mark.soak)])
def test_the_notebook_runs_and_is_stored_without_outputs(
    tuples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so many tuples per epoch of `rushes pretrain`; it is stored with the larger number."""
    for name in ("RUSHES_STORE", "RUSHES_CACHE", "RUSHES_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TMPDIR", str(tmp_path)), ("OMP_NUM_THREADS", "1"), ("MPLBACKEND", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    text, option = (EXAMPLES / "features.ipynb").read_text(), "--pretrain.samples_per_epoch"
    assert f"{option} 160 " in text
    text = text.replace(f"{option} 160 ", f"{option} {tuples} ")
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    # The kernel of this interpreter, whatever kernels the user has installed.
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    spec = client.create_kernel_manager().kernel_spec
    assert spec is not None
    spec.argv[0] = sys.executable
    client.execute()
    shown = "".join(output.text for cell in code for output in cell.outputs if output.output_type == "stream")
    found = re.search(r"loss: ([\d.]+) at first, ([\d.]+) at last", shown)
    assert found, shown
    assert float(found[2]) < float(found[1])
    assert "same action: " in shown and "(128,)" in shown
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
