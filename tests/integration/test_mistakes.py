"""Users' mistakes and a machine's: one clear line, exit code 2, nothing half-done left behind."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rushes.serving.environment import can_run_triton
from tests.integration.conftest import QUICK, Cli, processes_of, write_videos

pytestmark = pytest.mark.servers
MODEL = ("run", "pace-r2plus1d", "--size", "cpu", *QUICK)


@pytest.fixture
def alone(tmp_path: Path, ports: dict[str, str]) -> Iterator[Cli]:
    """A home without servers, on ports that nothing of the session uses."""
    first = int(ports["RUSHES_MLFLOW_PORT"]) + 1
    command = Cli(tmp_path / "home", tmp_path, {"RUSHES_TRITON_PORT": str(first), "RUSHES_MLFLOW_PORT": str(first + 3)})
    yield command
    assert not processes_of(command), "a server was left behind"


@pytest.fixture
def served(tmp_path: Path, cli: Cli) -> Cli:
    """The session's servers, and a store of its own."""
    return Cli(cli.home, tmp_path, {**cli.extra, "RUSHES_STORE": str(tmp_path / "store")})


def refusal(cli: Cli, *arguments: object, code: int = 2) -> str:
    """The one line that a command ends with."""
    done = cli(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("rushes: ")
    return line


def class_folders(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_videos(root / name, files=2, seed=seed)
        shutil.copytree(root / name / "moving", root / "videos" / name)
    return root / "videos"


@pytest.mark.skipif(can_run_triton() is not None, reason="no Triton here")
def test_a_home_in_which_triton_cannot_work(alone: Cli, videos: Path) -> None:
    odd = Cli(alone.home.with_name("it's my home; $5 (ü)"), alone.folder, alone.extra)
    line = refusal(odd, *MODEL, "--videos", videos)
    assert "set RUSHES_HOME to a folder named with plain letters" in line
    assert not odd.home.exists()


def test_a_missing_folder(alone: Cli) -> None:
    assert "absent" in refusal(alone, *MODEL, "--videos", "absent")


def test_an_empty_folder(alone: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(alone, *MODEL, "--videos", "empty")


def test_no_decodable_file(alone: Cli, tmp_path: Path) -> None:
    (tmp_path / "junk").mkdir()
    for number in range(3):
        (tmp_path / "junk" / f"{number}.mp4").write_bytes(b"not a video" * 100)
    line = refusal(alone, *MODEL, "--videos", "junk")
    assert "sample" in line and "no decodable video" in line
    assert not list((alone.home / "store" / "steps").glob("sample/*"))


def test_an_unknown_model(alone: Cli) -> None:
    assert "did you mean 'vcop-r3d'" in refusal(alone, "run", "vcop-r3", "--videos", ".")


def test_an_unknown_size(alone: Cli) -> None:
    assert "'huge'" in refusal(alone, "run", "vcop-r3d", "--size", "huge", "--videos", ".")


def test_an_unknown_recipe_key(alone: Cli) -> None:
    done = alone("run", "vcop-r3d", "--videos", ".", "--pretrain.epoch", "3")
    assert done.returncode == 2
    assert "--pretrain.epochs" in done.stdout + done.stderr


def test_a_value_that_a_recipe_key_does_not_take(alone: Cli) -> None:
    assert "pretrain.crop" in refusal(alone, "run", "vcop-r3d", "--videos", ".", "--pretrain.crop", "33")


def test_an_unknown_task_option(alone: Cli) -> None:
    done = alone("run", "pace-r2plus1d", "--videos", ".", "--pretrain.options.stride", "3")
    assert done.returncode == 2
    assert "--pretrain.options.strides" in done.stdout + done.stderr


def test_a_task_option_that_does_not_fit(served: Cli, tmp_path: Path) -> None:
    videos = class_folders(tmp_path, "a", "b")
    line = refusal(served, *MODEL, "--videos", str(videos), "--pretrain.options.strides", "99")
    assert "strides" in line and "2 to 16" in line


def test_the_same_video_in_the_test_split_and_outside(served: Cli, tmp_path: Path) -> None:
    videos = class_folders(tmp_path, "a", "b")
    shutil.copy(videos / "a" / "v00.mp4", videos / "copy.mp4")
    (videos / "labels.csv").write_text("path,label,split\na/v00.mp4,a,test\na/v01.mp4,a,train\nb/v00.mp4,b,train\n")
    done = served(*MODEL, "--videos", str(videos))
    assert done.returncode == 2
    assert "'a/v00.mp4' from 0.0 s (test) = 'copy.mp4' from 0.0 s (unlabelled)" in done.stderr
    assert "--sample.duplicates drop" in done.stderr
    (summary,) = (tmp_path / "store" / "runs").glob("*/summary.json")  # written though the run failed
    record = json.loads(summary.read_text())
    assert record["state"] == "FAILED" and record["error"].startswith("sample: duplicates: the test split")
    assert [step["step"] for step in record["steps"]] == ["pin", "sample"]


def test_a_label_for_a_video_that_is_not_there(alone: Cli, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", files=2)
    (tmp_path / "labels.csv").write_text("path,label\nmoving/v00.mp4,a\nmoving/v99.mp4,b\n")
    line = refusal(alone, *MODEL, "--videos", "videos", "--labels", "labels.csv")
    assert "moving/v99.mp4" in line and "3" in line


def test_a_labels_file_that_is_not_there(alone: Cli, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", files=2)
    assert "nowhere.csv" in refusal(alone, *MODEL, "--videos", "videos", "--labels", "nowhere.csv")


def test_one_class_only(alone: Cli, tmp_path: Path) -> None:
    assert "two classes" in refusal(alone, *MODEL, "--videos", str(class_folders(tmp_path, "jump")))


@pytest.mark.parametrize("variable", ["RUSHES_TRITON_PORT", "RUSHES_MLFLOW_PORT"])
def test_a_port_in_use(alone: Cli, cli: Cli, videos: Path, variable: str) -> None:
    taken = Cli(alone.home, alone.folder, {**alone.extra, variable: cli.extra[variable]})
    line = refusal(taken, *MODEL, "--videos", videos)
    assert f"port {cli.extra[variable]}" in line and variable in line


def test_a_prediction_without_a_model(alone: Cli, videos: Path) -> None:
    assert "rushes run" in refusal(alone, "predict", videos / "moving" / "v00.mp4")


def test_a_full_disk(tmp_path: Path, videos: Path, cli: Cli, served: Cli) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.decode().strip()}")
    try:
        full = Cli(cli.home, tmp_path, {**cli.extra, "RUSHES_STORE": str(small / "store")})
        line = refusal(full, *MODEL, "--videos", videos)
        assert "No space left on device" in line and "RUSHES_STORE" in line
        complete = list((small / "store" / "steps").glob("*/*.json"))
        assert all(path.stat().st_size for path in complete)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    # The same command goes on once there is room.
    served.ok("pin", "--videos", videos, "--out", tmp_path / "pin.json")
    served.ok("sample", *MODEL[1:], "--pin", tmp_path / "pin.json", "--out", tmp_path / "footage.json")
