"""The contracts on imports hold for every room: a violation planted anywhere is found."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken_contracts(checkout: Path) -> list[str]:
    """Names of the contracts that do not hold."""
    code = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", code, "--no-cache"]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    lines = re.findall(r"(?m)^(.+) BROKEN\b", ran.stdout)
    assert (ran.returncode == 0) == (not lines), ran.stdout + ran.stderr
    return lines


def imports(module: str, name: str) -> Callable[[Path], None]:
    """Lets a module, a new one if need be, import another inside a function."""

    def plant(package: Path) -> None:
        file = package / f"{module.replace('.', '/')}.py"
        before = file.read_text() if file.is_file() else ""
        file.write_text(f"{before}\n\ndef _planted() -> None:\n    import {name}\n")

    return plant


def test_all_contracts_hold_for_an_untouched_copy(checkout: Path) -> None:
    assert broken_contracts(checkout) == []


@pytest.mark.parametrize(
    ("plant", "broken"),
    [
        (imports("tracking.gate", "rushes.commands.step"), ["Layers"]),
        (imports("home", "rushes.console"), ["Layers"]),
        (imports("resources", "rushes.home"), ["Layers"]),
        (imports("brand_new", "json"), ["Layers"]),
        (imports("steps.sample", "kfp"), ["Only kubeflow and orchestration import kfp"]),
        (imports("video.geometry", "sklearn"), ["The core trains with a few libraries only"]),
    ],
)
def test_a_planted_violation_is_found(checkout: Path, plant: Callable[[Path], None], broken: list[str]) -> None:
    package = checkout / "src" / "rushes"
    shutil.rmtree(package)
    shutil.copytree(ROOT / "src" / "rushes", package, ignore=shutil.ignore_patterns("__pycache__"))
    plant(package)
    assert broken_contracts(checkout) == broken
