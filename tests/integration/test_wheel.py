"""The built wheel in an environment of its own, outside the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from rushes.orchestration.image import tag
from rushes.serving.environment import can_run_triton
from tests.integration.conftest import QUICK, Cli

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("rushes-*.whl")
    return built


def test_it_carries_models_pipeline_and_lock(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    models = ("models/vcop-r3d/recipe.yaml", "models/pace-r2plus1d/recipe.yaml")
    for needed in (*models, "pipelines/pipeline.yaml", "pipelines/comparison.yaml", "requirements/triton.lock"):
        assert f"rushes/_bundled/{needed}" in names
    assert "rushes/evaluation/templates/report.html" in names
    assert "rushes/serving/golden.mp4" in names
    assert "rushes/py.typed" in names
    assert not [name for name in names if "__pycache__" in name]
    assert not [name for name in names if name.startswith(("tests/", "components/", "pipelines/"))]


def environment(folder: Path) -> Path:
    """An empty environment; returns its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def use(python: Path, folder: Path, cli: Cli, videos: Path) -> None:
    """Runs the workflow with an installed wheel from a folder that is no checkout, on the session's servers."""

    def rushes(*arguments: object) -> str:
        settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RUSHES"))}
        done = subprocess.run(
            [str(python.parent / "rushes"), *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            text=True,
            env=settings | {"RUSHES_HOME": str(cli.home), "RUSHES_STORE": str(folder / "store"), **cli.extra},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = "import rushes, sys; sys.stdout.write(rushes.__file__)"
    found = subprocess.run([str(python), "-c", where], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(python.parents[1])
    assert "vcop-r3d" in rushes("models")
    rushes("run", "pace-r2plus1d", "--size", "cpu", "--videos", videos, "--endpoint", "from_wheel", *QUICK)
    answer = rushes("predict", videos / "resting" / "v01.mp4", "--endpoint", "from_wheel")
    assert "resting" in answer
    assert can_run_triton() is not None or "triton" in answer


@pytest.fixture(scope="module")
def borrowing(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel, and borrows the packages that it needs from this one."""
    folder = tmp_path_factory.mktemp("borrowing")
    python = environment(folder / "venv")
    install(python, str(wheel))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (target,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    # A path file adds the folder, not the path files in it: this checkout's editable install stays out.
    (target / "borrowed.pth").write_text("\n".join(here) + "\n")
    return python


def test_it_runs_outside_the_checkout(borrowing: Path, cli: Cli, videos: Path, tmp_path: Path) -> None:
    """The dependencies are borrowed; the soak test installs them from the lock."""
    (tmp_path / "elsewhere").mkdir()
    use(borrowing, tmp_path / "elsewhere", cli, videos)


@pytest.mark.parametrize("flags", [(), ("--comparison",)])
def test_it_compiles_for_a_profile_what_the_checkout_compiles(
    borrowing: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "components").mkdir()  # of the user's own
    (elsewhere / "mine.yaml").write_text("partitions: 8\ngpu: {count: 2}\n")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RUSHES"))}
    compiled: dict[Path, bytes] = {}
    for python in (Path(sys.executable), borrowing):
        out = tmp_path / f"{len(compiled)}.yaml"
        command = [str(python), "-m", "rushes.cli", "pipeline", "compile", *flags]
        command += ["--profile", "mine.yaml", "--out", str(out)]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, env=settings)
        assert done.returncode == 0, done.stdout + done.stderr
        compiled[python] = out.read_bytes()
    assert compiled[borrowing] == compiled[Path(sys.executable)]
    assert tag().encode() in compiled[borrowing]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_it_runs_in_an_empty_environment(wheel: Path, cli: Cli, videos: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    locks = [ROOT / "requirements" / name for name in ("torch.lock", "rushes.lock")]
    install(python, "--require-hashes", *(word for lock in locks for word in ("-r", str(lock))))
    install(python, str(wheel))
    (tmp_path / "elsewhere").mkdir()
    use(python, tmp_path / "elsewhere", cli, videos)
