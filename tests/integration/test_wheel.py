"""The built wheel outside the checkout; `test_run.py` runs the workflow with it."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rushes.orchestration.image import tag
from tests.integration.conftest import Cli
from tests.integration.wheel import ROOT, borrowing_environment, built_wheel, environment, install, run_workflow

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def borrowing(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return borrowing_environment(tmp_path_factory.mktemp("borrowing"), wheel)


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
    mine = dataclasses.replace(cli, extra={**cli.extra, "RUSHES_STORE": str(tmp_path / "store")})
    assert "resting" in json.loads(run_workflow(python, tmp_path / "elsewhere", mine, videos))["labels"]
