"""A folder in which the commands of the documents can be typed: small videos, labels, an S3 and a Kubeflow server."""

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rushes.cli import parsing
from rushes.commands import compare, maps, no_motion, pipeline, run
from rushes.comparing import members
from rushes.config import Recipe
from rushes.orchestration.run import Arguments
from rushes.recipes import load_recipe
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from tests.integration.conftest import write_videos
from tests.kubeflow.server import Kubeflow, serving
from tests.s3 import running

ROOT = Path(__file__).parents[2]
CLASSES = {"moving": "Moving", "resting": "Resting"}
IMAGE = "registry.example.com/rushes@sha256:" + "1" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the commands are typed; whatever they read lies there under the name that the documents use."""
    here = tmp_path_factory.mktemp("typed")
    _write_data(here)
    for name in ("examples", "deploy"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, here / name)
    (here / "mine.yaml").write_text(f"image: {IMAGE}\n")
    with running(here) as s3, serving() as kubeflow, pytest.MonkeyPatch.context() as patch:
        for variable in ("RUSHES_STORE", "RUSHES_CACHE", "MLFLOW_TRACKING_URI"):
            patch.delenv(variable, raising=False)
        for variable, value in {**s3.environment, "KF_PIPELINES_ENDPOINT": kubeflow.url}.items():
            patch.setenv(variable, value)
        patch.setenv("RUSHES_HOME", str(here / "home"))
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # an earlier test's has that one's settings
        patch.chdir(here)
        _upload(here / "my_videos", "bucket/archive", "archive/videos")
        _shorten(patch, kubeflow)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a second one that has to wait for a core costs more than it brings
        yield here
        torch.set_num_threads(threads)


def _write_data(here: Path) -> None:
    write_videos(here / "my_videos", files=10)
    shutil.copy(here / "my_videos" / "moving" / "v00.mp4", here / "clip.mp4")
    files = [(label, file.name) for label in CLASSES for file in sorted((here / "my_videos" / label).iterdir())]
    paths, labels = [f"{label}/{name}" for label, name in files], [label for label, _ in files]
    write_videos(here / "other", files=1, seed=1)
    shutil.move(here / "other" / "moving" / "v00.mp4", here / "my_videos" / "visitor.mp4")
    with (here / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *zip(paths, labels, strict=True)])
    pq.write_table(pa.table({"path": paths, "label": labels}), here / "labels.parquet")
    _write_ucf101(here)


def _write_ucf101(here: Path) -> None:
    """The videos again, named as UCF-101's are, with its lists: groups 1 to 3 are test."""
    lists = here / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(CLASSES.values(), 1)))
    test: list[str] = []
    train: list[str] = []
    for number, (label, name) in enumerate(CLASSES.items(), 1):
        (here / "UCF-101" / name).mkdir(parents=True)
        for group, file in enumerate(sorted((here / "my_videos" / label).iterdir()), 1):
            path = f"{name}/v_{name}_g{group:02d}_c01.mp4"
            shutil.copy(file, here / "UCF-101" / path)
            (test if group <= 3 else train).append(path if group <= 3 else f"{path} {number}")
    (lists / "testlist01.txt").write_text("\n".join(test) + "\n")
    (lists / "trainlist01.txt").write_text("\n".join(train) + "\n")


def _upload(videos: Path, *targets: str) -> None:
    files = fsspec.filesystem("s3")
    for target in targets:
        files.mkdir(target.partition("/")[0])
        files.put(f"{videos}/", f"{target}/", recursive=True)


def _shorten(patch: pytest.MonkeyPatch, kubeflow: Kubeflow) -> None:
    """Trainings take seconds, servers answer at once; which videos, labels, tasks and files: as they were typed."""

    def short(model: str, *, size: str = "full") -> Recipe:
        load_recipe(model, size=size)  # there must be one
        recipe = load_recipe(model, size="cpu")
        return dataclasses.replace(
            recipe,
            sample=dataclasses.replace(recipe.sample, short_side=32, workers=1),
            pretrain=dataclasses.replace(
                recipe.pretrain, crop=32, epochs=1, samples_per_epoch=16, batch=8, workers=0, device="cpu"
            ),
            finetune=dataclasses.replace(recipe.finetune, epochs=1, batch=8, workers=0, device="cpu"),
            evaluate=dataclasses.replace(recipe.evaluate, clips=2, resamples=200, device="cpu"),
            export=dataclasses.replace(recipe.export, clips=2),
        )

    for module in (parsing, members):
        patch.setattr(module, "load_recipe", short)
    control = no_motion.control
    options = no_motion.NoMotionOptions(steps=2, tuples=1, segments=24)
    patch.setattr(no_motion, "control", lambda *args, **kwargs: control(*args, **kwargs | {"options": options}))
    few = maps.MapOptions(units=2, images=2, segments=4, clips=2, device="cpu")
    whole = maps.maps
    patch.setattr(maps, "maps", lambda *args, **kwargs: whole(*args, **kwargs | {"options": few}))
    patch.setattr(run, "run_pipeline", _first_steps)
    patch.setattr(run, "show_results", lambda finished: None)
    for module in (pipeline, compare):
        patch.setattr(module, "_POLL_SECONDS", 0.01, raising=False)
    kubeflow.fate = [("SUCCEEDED", {"plan": "SUCCEEDED"})]


@dataclasses.dataclass(frozen=True)
class _Finished:
    served: bool = False


def _first_steps(arguments: Arguments, **_: object) -> _Finished:
    """The steps that read what was typed. Whole runs: `make demo` and tests/integration/test_run.py."""
    first = arguments.models[0]
    pin(data=arguments.data, out=Path("run/pin.json"))
    sample(recipe=first, pin=Path("run/pin.json"), out=Path("run/sample.json"))
    for model in arguments.models:
        pretrain(recipe=model, footage=Path("run/sample.json"), out=Path(f"run/{model.name}.json"))
    return _Finished()
