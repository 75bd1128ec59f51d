"""The built wheel, installed in an environment of its own and used in a folder that is no checkout."""

import subprocess
import sys
import venv
from pathlib import Path

from tests.integration.conftest import QUICK, Cli

ROOT = Path(__file__).parents[2]


def built_wheel(folder: Path) -> Path:
    """Builds the checkout's wheel into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("rushes-*.whl")
    return built


def environment(folder: Path) -> Path:
    """An empty environment; returns its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def borrowing_environment(folder: Path, wheel: Path) -> Path:
    """Python of an environment that holds the wheel, and borrows the packages that it needs from this one."""
    python = environment(folder / "venv")
    install(python, str(wheel))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (target,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    # A path file adds the folder, not the path files in it: this checkout's editable install stays out.
    (target / "borrowed.pth").write_text("\n".join(here) + "\n")
    return python


def run_workflow(python: Path, folder: Path, cli: Cli, videos: Path) -> str:
    """Runs the workflow with an installed wheel, on the servers and with the settings of `cli`; returns an answer."""
    settings = {name: value for name, value in cli.environment.items() if not name.startswith("PYTHON")}

    def rushes(*arguments: object) -> str:
        command = [str(python.parent / "rushes"), *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = "import rushes, sys; sys.stdout.write(rushes.__file__)"
    command = [str(python), "-c", where]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=settings).stdout
    assert Path(found).is_relative_to(python.parents[1])
    assert "vcop-r3d" in rushes("models")
    rushes("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, "--endpoint", "from_wheel", *QUICK)
    return rushes("predict", videos / "resting" / "v01.mp4", "--endpoint", "from_wheel", "--json")
