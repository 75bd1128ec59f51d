"""`pip install rushes` in an empty environment, outside a checkout: a page with pictures, and no torch."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.conftest import write_videos

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installed:
    """The command of an environment that holds the wheel and what it depends on, without extras."""

    python: Path
    folder: Path

    def rushes(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RUSHES"))}
        return subprocess.run(
            [str(self.python.parent / "rushes"), *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=settings | {"TMPDIR": str(self.folder)},
            timeout=300,
        )

    def packages(self) -> set[str]:
        command = [*pip(self.python), "list", "--format=freeze"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {line.split("==")[0].lower() for line in listed.splitlines()}


def pip(python: Path) -> list[str]:
    """The pip of this environment, for another one: to install pip there would take as long as what is tested."""
    return [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("light")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("rushes-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    reached = subprocess.run(
        [*pip(python), "download", "--quiet", "--no-deps", "--dest", str(folder), "tyro"], capture_output=True
    )
    if reached.returncode:
        pytest.skip("pip reaches no package index from here")
    subprocess.run([*pip(python), "install", "--quiet", "--no-compile", str(wheel)], check=True)
    (folder / "elsewhere").mkdir()
    return Installed(python=python, folder=folder / "elsewhere")


def test_footage_show_writes_a_page_with_pictures(light: Installed, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", files=2)
    shown = light.rushes("footage", "show", tmp_path / "videos", "--out", tmp_path / "page")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "4 segments" in shown.stdout and "moving (2), resting (2)" in shown.stdout
    assert "pip install 'rushes[train,workflow,serve]'" in shown.stdout, "what the next command needs is named"
    with Image.open(tmp_path / "page" / "contact-sheet.png") as picture:
        assert picture.height > 200 and len(picture.convert("RGB").resize((64, 64)).getcolors(4096) or ()) > 50
    assert "contact-sheet.png" in (tmp_path / "page" / "index.html").read_text()


def test_no_torch_is_there(light: Installed) -> None:
    packages = light.packages()
    assert {"rushes", "av", "pyarrow"} <= packages
    assert not packages & {"torch", "torchvision", "matplotlib", "scipy", "mlflow", "kfp", "onnx", "tritonclient"}


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        ("run pace-r2plus1d --size cpu --videos videos", "train,workflow,serve"),
        ("pretext show vcop-r3d --videos videos", "train"),
        ("compare vcop-r3d --videos videos", "train"),
    ],
)
def test_a_command_that_needs_more_says_what(light: Installed, arguments: str, extras: str) -> None:
    refused = light.rushes(*arguments.split())
    assert refused.returncode == 2
    assert refused.stderr == f"rushes: torch is not installed: pip install 'rushes[{extras}]'\n"


def test_the_overview_and_the_models_need_nothing_more(light: Installed) -> None:
    assert "footage show" in light.rushes("--help").stdout
