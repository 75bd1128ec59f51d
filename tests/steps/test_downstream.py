"""From footage to a bundle with networks of pictures: clips of one frame, and stacks of six frames' differences."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rushes.config import Recipe
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.recipes import load_recipe
from rushes.serving.bundle import Bundle, InProcessModel, read_bundle
from rushes.serving.request import request_clips
from rushes.steps.evaluate import evaluate
from rushes.steps.export import export
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
from rushes.training.weights import load_classifier
from rushes.video.encode import encode_h264

pytest.importorskip("onnxruntime")

CLASSES = ("low", "high")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the steps made of a folder of videos."""

    recipe: Recipe
    videos: Path
    pretrained: Manifest
    classifier: Manifest
    evaluation: Manifest
    bundle: Manifest
    metrics: dict[str, Any]


def write_videos(folder: Path, *, files: int = 14, frames: int = 40) -> None:
    """Class folders `low` and `high`: where a bright bar, which drifts, crosses the picture; seen in any frame."""
    rng = np.random.default_rng(0)
    for label, top in (("low", 20), ("high", 4)):
        (folder / label).mkdir(parents=True)
        for number in range(files):
            luma = rng.normal(90, 12, (frames, 32, 48))
            start, speed = rng.integers(48), rng.choice([-2, -1, 1, 2])
            for t in range(frames):
                luma[t, top : top + 8, (start + speed * t + np.arange(16)) % 48] = 220
            pictures = np.concatenate([luma, np.full((frames, 16, 48), 128.0)], axis=1).clip(16, 235).astype(np.uint8)
            (folder / label / f"v{number:02d}.mp4").write_bytes(encode_h264(iter(pictures), fps=25.0, qp=20, gop=12))


def quick(model: str) -> Recipe:
    """The model's small variant, smaller: 32 pixels, a few steps."""
    recipe = load_recipe(model, size="cpu")
    return dataclasses.replace(
        recipe,
        sample=dataclasses.replace(recipe.sample, short_side=32, workers=1, test_share=0.4),
        pretrain=dataclasses.replace(
            recipe.pretrain, crop=32, epochs=2, samples_per_epoch=32, batch=16, workers=0, device="cpu"
        ),
        finetune=dataclasses.replace(recipe.finetune, epochs=30, batch=8, workers=0, device="cpu"),
        evaluate=dataclasses.replace(recipe.evaluate, resamples=200, device="cpu"),
    )


@pytest.fixture(scope="module", params=["shuffle-and-learn", "o3n"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp(request.param)
    write_videos(folder / "videos")
    recipe = quick(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        for name in ("RUSHES_STORE", "RUSHES_CACHE", "RUSHES_PROGRESS"):
            patch.delenv(name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # steps of milliseconds: threads would mostly wait for each other
        yield _made(recipe, folder)
        torch.set_num_threads(threads)


def _made(recipe: Recipe, folder: Path) -> Made:
    def at(name: str) -> Path:
        return folder / f"{name}.json"

    pin(data=DataReference(videos=str(folder / "videos")), out=at("pin"))
    sample(recipe=recipe, pin=at("pin"), out=at("footage"))
    pretrained = pretrain(recipe=recipe, footage=at("footage"), out=at("backbone"))
    start: dict[str, Any] = {"recipe": recipe, "footage": at("footage"), "backbone": at("backbone")}
    classifier = finetune(**start, out=at("classifier"))
    finetune(**start, init="random", out=at("baseline"))
    bundle = export(recipe=recipe, classifier=at("classifier"), out=at("bundle"))
    judged: dict[str, Any] = {name: at(name) for name in ("classifier", "baseline", "bundle")}
    evaluation = evaluate(**start, **judged, out=at("evaluation"))
    metrics = json.loads(open_store().path(evaluation.files["metrics.json"]).read_text())
    return Made(
        recipe=recipe,
        videos=folder / "videos",
        pretrained=pretrained,
        classifier=classifier,
        evaluation=evaluation,
        bundle=bundle,
        metrics=metrics,
    )


def unpacked(made: Made, folder: Path) -> Bundle:
    for name, file in made.bundle.files.items():
        (folder / name).write_bytes(open_store().path(file).read_bytes())
    return read_bundle(folder)


def test_classes_that_show_in_a_frame_are_learnt(made: Made) -> None:
    assert made.metrics["protocol"].startswith("25 evenly spaced clips")
    top1 = {(row["protocol"], row["init"]): row["top1"]["value"] for row in made.metrics["rows"]}
    assert top1["fine-tune", "pretrained"] >= 0.8
    assert top1["linear probe", "pretrained"] >= 0.8


def test_the_graph_answers_a_video_as_the_classifier_does(made: Made, tmp_path: Path) -> None:
    assert made.bundle.summary["parity"] <= made.recipe.export.tolerance
    bundle = unpacked(made, tmp_path)
    contract = bundle.contract
    assert (contract.clips, contract.clip_frames) == (25, made.recipe.pretrain.clip_frames)
    net, _ = load_classifier(made.classifier, open_store())
    answers = []
    for video in sorted(made.videos.glob("*/v0[0-2].mp4")):
        clips = request_clips(video.read_bytes(), contract)
        assert clips.shape == (25, contract.clip_frames, 48, 32)
        with torch.no_grad():
            expected = net(torch.from_numpy(clips)).mean(dim=0).softmax(dim=0).numpy()
        answers.append(InProcessModel(bundle).predict(video.read_bytes()).probabilities)
        assert answers[-1] == pytest.approx(expected, abs=1e-5)
    assert np.ptp(np.array(answers)[:, 0]) > 0.01  # another video, another answer


def test_every_test_video_has_an_embedding_and_an_answer(made: Made) -> None:
    table = pq.read_table(open_store().path(made.evaluation.files["predictions.parquet"]))
    assert len(table) == made.metrics["test"]["segments"] >= 8
    assert {len(row) for row in table["embedding"].to_pylist()} == {128}
    probabilities = np.array(table["probabilities"].to_pylist())
    assert probabilities.shape[1] == len(CLASSES)
    assert probabilities.sum(axis=1) == pytest.approx(1)
