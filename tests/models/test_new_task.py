"""A new task is three files: a module, a model folder, its own test. Tried in a scratch copy of the repository."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("src", "models", "tests", "README.md")
TASK = '''"""Is the clip from the first or the second half of its window?"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from rushes.pretext.task import ClipTuple, OneClipHead, PretextTask, Shot, random_crops


@dataclass(frozen=True, kw_only=True)
class Half(PretextTask):
    """A window of two clips, of which one is shown; the label is which."""

    @property
    def elements(self) -> int:
        """One clip."""
        return 1

    @property
    def classes(self) -> int:
        """First and second."""
        return 2

    def span(self, *, clip_frames: int) -> int:
        """Both clips."""
        return 2 * clip_frames

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        """Draws a window, a half and a crop."""
        start, label = rng.integers(shot.frames - 2 * clip_frames + 1), int(rng.integers(2))
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        return ClipTuple(frames=(start + label * clip_frames + np.arange(clip_frames))[None], crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        """A linear layer."""
        return OneClipHead(features, classes=2)


TASKS = {"half": Half}
'''
CARD = """# half-r3d

| | published | here |
|---|---|---|
| task | not published | see the module |

**Published:** nothing. **Measured here:** [RESULTS.md](../RESULTS.md). **Limits:** a test of the repository.
Small: **`--size cpu`**.

rushes compare half-r3d --videos UCF-101 --splits ucfTrainTestlist --folds 3
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the new task's module and model folder, and nothing else changed."""
    folder = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (folder / "src/rushes/pretext/half.py").write_text(TASK)
    recipe = (ROOT / "models/arrow-of-time-r3d/recipe.yaml").read_text()
    recipe = recipe.replace("arrow_of_time", "half").replace("arrow-of-time-r3d", "half-r3d")
    recipe = recipe.replace("is this clip played backwards?", "is this the first half?")
    (folder / "models/half-r3d").mkdir()
    (folder / "models/half-r3d/recipe.yaml").write_text(recipe.replace("options: {stride: 1}", "options: {}"))
    (folder / "models/half-r3d/README.md").write_text(CARD)
    return folder


def python(folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{folder / 'src'}:{folder}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )


def run_tests(folder: Path, *arguments: str, select: str) -> subprocess.CompletedProcess[str]:
    plain = ("-q", "-p", "no:cacheprovider", "-k", select)
    return python(folder, ["-m", "pytest", *plain, *arguments])


def test_the_task_is_listed_and_its_recipe_loads(copy: Path) -> None:
    shown = python(copy, ["-m", "rushes.cli", "models"])
    assert shown.returncode == 0, shown.stderr
    assert "half-r3d" in shown.stdout and "is this the first half?" in shown.stdout
    assert " half," in shown.stdout
    helped = python(copy, ["-m", "rushes.cli", "pretrain", "half-r3d", "--size", "cpu", "--help"])
    assert helped.returncode == 0 and "(default: half)" in helped.stdout


def test_every_property_is_tested_on_it_and_holds(copy: Path) -> None:
    files = ("tests/pretext/test_tasks.py", "tests/models/test_recipes.py", "tests/training/test_overfit.py")
    select = "(half and not any_other_pair) or every_task_and_every_network or readme or lists"
    done = run_tests(copy, "-rp", *files, select=select)
    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    for property_of_tasks in ("at_chance", "one_crop", "function_of_seed", "card", "fit_each_other", "falls_tenfold"):
        assert any(property_of_tasks in line and "half" in line for line in passed), property_of_tasks


MISTAKES = {
    "wrong_crops": (
        "crops=crops,",
        "crops=crops // 2 // (1 + label) * 2,",
        "nothing_that_is_shown_depends_on_the_label",
    ),
    "wrong_labels": ("int(rng.integers(2))", "int(rng.random() < 0.7)", "labels_are_at_chance"),
    "wrong_generator": ("count=1, rng=rng)", "count=1, rng=np.random.default_rng())", "function_of_its_generator"),
}
"""Tasks with one mistake each: what is replaced, by what, and the test that finds it."""


def test_a_task_with_a_mistake_is_found_out(copy: Path) -> None:
    modules = {name: copy / f"src/rushes/pretext/{name}.py" for name in MISTAKES}
    for name, (good, broken, _) in MISTAKES.items():
        assert good in TASK
        # A class of another name: a task that looks like another is tested once.
        modules[name].write_text(TASK.replace(good, broken).replace("half", name).replace("Half", f"Half_{name}"))
    select = " or ".join(f"({name} and {found_by})" for name, (_, _, found_by) in MISTAKES.items())
    done = run_tests(copy, "tests/pretext/test_tasks.py", select=select)
    for module in modules.values():
        module.unlink()
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    for name, (_, _, found_by) in MISTAKES.items():
        assert any(name in line and found_by in line for line in failed), done.stdout
