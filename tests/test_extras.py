"""`pip install rushes` alone: what needs an extra says which one, in one line; no import is forgotten."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rushes.errors import UserError
from rushes.extras import EXTRAS, remedy, require

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Packages whose module has another name."""
TRANSITIVE = {"google", "kfp_server_api", "kubernetes", "starlette", "urllib3"}
"""Brought by packages of the extra."""
GIVEN = {"pipelines", "triton_python_backend_utils"}
"""Of a checkout, and of Triton's own Python."""
BLOCKED = """
import sys
from importlib.machinery import PathFinder

class Installed:  # but for these modules
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in {modules!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
from rushes.cli import main
status = main({arguments!r})
assert "torch" not in sys.modules
sys.exit(status)
"""


def package(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0].lower()


def modules_of(requirements: list[str]) -> set[str]:
    return {MODULES.get(package(text), package(text)) for text in requirements}


def imported() -> Iterator[tuple[str, str]]:
    """(top-level module, file) of every import statement in src that is not of Python or of this package."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"rushes"}:
                yield top, path.name


def test_every_import_is_of_the_core_or_of_an_extra() -> None:
    known = modules_of(PROJECT["dependencies"]) | {module for modules in EXTRAS.values() for module in modules} | GIVEN
    assert [(module, file) for module, file in imported() if module not in known] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_extras_are_those_of_the_package(extra: str) -> None:
    assert set(EXTRAS[extra]) - TRANSITIVE == modules_of(PROJECT["optional-dependencies"][extra])


@pytest.mark.parametrize("name", ["dependencies", *PROJECT["optional-dependencies"]])
def test_every_requirement_is_locked(name: str) -> None:
    wanted = PROJECT["dependencies"] if name == "dependencies" else PROJECT["optional-dependencies"][name]
    texts = [(ROOT / "requirements" / f"{lock}.lock").read_text().lower() for lock in ("rushes", "torch")]
    locked = {match for text in texts for match in re.findall(r"(?m)^([a-z0-9._-]+)==", text)}
    assert {package(text) for text in wanted} <= locked


def test_the_core_brings_no_torch() -> None:
    assert not modules_of(PROJECT["dependencies"]) & {"torch", "torchvision", "matplotlib", "scipy", "mlflow", "kfp"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("run pace-r2plus1d --videos x", "torch is not installed: pip install 'rushes[train,workflow,serve]'"),
        ("demo", "torch is not installed: pip install 'rushes[train,workflow,serve]'"),
        ("compare vcop-r3d --videos x", "torch is not installed: pip install 'rushes[train]'"),
        ("plan vcop-r3d --videos x", "scipy is not installed: pip install 'rushes[train]'"),
        ("pretext show vcop-r3d --videos x", "torch is not installed: pip install 'rushes[train]'"),
        ("pretext control vcop-r3d --videos x", "torch is not installed: pip install 'rushes[train]'"),
        ("pretext maps --backbone x --footage x", "torch is not installed: pip install 'rushes[train]'"),
        (
            "pipeline submit vcop-r3d --videos s3://bucket/archive",
            "kfp_server_api is not installed: pip install 'rushes[workflow]'",
        ),
        ("footage show s3://bucket/archive", "s3fs is not installed: pip install 'rushes[s3]'"),
    ],
)
def test_a_missing_extra_is_named(arguments: str, line: str, tmp_path: Path) -> None:
    modules = [module for extra in EXTRAS.values() for module in extra]
    program = BLOCKED.format(modules=modules, arguments=arguments.split())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (2, [f"rushes: {line}"])


def test_a_video_of_a_dvc_repository_is_not_half_forgotten(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    shutil.copytree(ROOT / "tests" / "data" / "store_0.1" / "store", tmp_path / ".rushes" / "store")
    before = {path: path.read_bytes() for path in (tmp_path / ".rushes").rglob("*") if path.is_file()}
    program = BLOCKED.format(modules=["dvc"], arguments=["footage", "forget", "train/v_g057_c01.mp4", "--yes"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    line = "rushes: dvc is not installed: pip install 'rushes[workflow]'"
    assert (done.returncode, done.stderr.splitlines()) == (2, [line])
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / ".dvc").rmdir()  # no copies of DVC's to look for
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_what_an_extra_brings_has_a_remedy() -> None:
    assert remedy(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert remedy(ImportError("cannot import name 'x' from 'torch'", name="torch")) is None
    wrapped = UserError("videos cannot be listed")
    wrapped.__cause__ = ModuleNotFoundError("No module named 's3fs'", name="s3fs")
    assert remedy(wrapped) == "s3fs is not installed: pip install 'rushes[s3]'"


def test_what_is_installed_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    require("train", "workflow", "serve")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"scipy is not installed: pip install 'rushes\[train,serve\]'"):
        require("train", "serve")
