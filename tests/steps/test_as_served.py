"""What was measured is what is served: clips and answers of evaluation, and of the bundle for the files themselves."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes.config import Recipe
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.progress import NullProgress
from rushes.recipes import parse_recipe
from rushes.serving.contract import Contract
from rushes.serving.request import request_clips, segment_clips
from rushes.serving.scoring import SegmentPredictions, score_bundle
from rushes.steps.evaluate import evaluate
from rushes.steps.export import export
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
from rushes.tracking import gate
from rushes.tracking.gate import Evidence
from rushes.training.data import EvenClips
from rushes.video.coding import Encoding
from rushes.video.encode import encode_h264
from tests.chain import TINY

pytest.importorskip("onnxruntime")

LABELS = ("restless", "still")
SECTIONS: dict[str, dict[str, Any]] = TINY | {
    "sample": TINY["sample"] | {"test_share": 0.5},
    "pretrain": TINY["pretrain"] | {"backbone": "tiny_r2plus1d"},
    "finetune": {
        "epochs": 30,
        "batch": 8,
        "workers": 0,
        "device": "cpu",
        "optimizer": {"name": "adamw", "lr": 3.0e-3, "weight_decay": 0.0},
    },
    "export": {"clips": 2},
    "evaluate": {"clips": 2, "resamples": 100, "device": "cpu"},
}
"""Enough training to tell still noise from moving noise."""


def write_noise(path: Path, *, seed: int, frames: int, amplitude: float, size: tuple[int, int] = (40, 52)) -> None:
    """A flat ground under fresh noise in every frame: a coarse quantiser takes all that tells its class."""
    rng = np.random.default_rng(seed)
    height, width = size
    ground = np.full((height * 3 // 2, width), 128.0)
    noisy = ground + rng.normal(0, amplitude, ground.shape) * (np.arange(height * 3 // 2) < height)[:, None]
    found = [noisy + rng.normal(0, amplitude, ground.shape) for _ in range(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_h264([frame.clip(0, 255).astype(np.uint8) for frame in found], fps=25.0, qp=4, gop=12))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    folder: Path
    recipe: Recipe

    def at(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def judged(self, *, bundle: str = "bundle", **changes: Any) -> dict[str, Any]:
        """The metrics of an evaluation of a bundle."""
        changed = dataclasses.replace(self.recipe.evaluate, **changes)
        manifest = evaluate(
            recipe=dataclasses.replace(self.recipe, evaluate=changed),
            footage=self.at("footage"),
            backbone=self.at("backbone"),
            classifier=self.at("classifier"),
            baseline=self.at("baseline"),
            bundle=self.at(bundle),
            out=self.at("evaluation"),
        )
        metrics: dict[str, Any] = json.loads(open_store().path(manifest.files["metrics.json"]).read_text())
        assert manifest.summary["served"] == metrics["served"]
        assert "original file" in open_store().path(manifest.files["report.html"]).read_text()
        return metrics

    def rulings(self, metrics: dict[str, Any]) -> list[gate.Ruling]:
        """What the gate says to a model that is always right by evaluation."""
        right = np.ones(30, dtype=bool)
        evidence = Evidence(
            metrics=metrics,
            export={"parity": 0.0},
            correct=right,
            baseline=right,
            groups=np.array([f"g{n}" for n in range(len(right))]),
            champion=None,
            config=self.recipe.promote,
            tolerance=1e-4,
            seed=0,
        )
        return gate.rule_on(evidence)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("as-served")
    for number in range(12):
        for label, amplitude in (("still", 2.0), ("restless", 40.0)):
            path = folder / "videos" / label / f"v{number:02d}.mp4"
            write_noise(path, seed=number, frames=20 + number, amplitude=amplitude)
    made = Made(folder=folder, recipe=parse_recipe({"name": "tiny", **SECTIONS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        for name in ("RUSHES_STORE", "RUSHES_CACHE", "RUSHES_PROGRESS"):
            patch.delenv(name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        run_steps(made)
        yield made
        torch.set_num_threads(threads)


def run_steps(made: Made) -> None:
    """Everything up to the bundle."""
    recipe, at = made.recipe, made.at
    pin(data=DataReference(videos=str(made.folder / "videos")), out=at("pin"))
    sample(recipe=recipe, pin=at("pin"), out=at("footage"))
    pretrain(recipe=recipe, footage=at("footage"), out=at("backbone"))
    start: dict[str, Any] = {"recipe": recipe, "footage": at("footage"), "backbone": at("backbone")}
    finetune(**start, out=at("classifier"))
    finetune(**start, init="random", out=at("baseline"))
    export(recipe=recipe, classifier=at("classifier"), out=at("bundle"))


def planted(made: Made, **fields: Any) -> None:
    """A pointer `planted` to the bundle with another encoding."""
    store, bundle = open_store(), Manifest.read(made.at("bundle"))
    record = json.loads(store.path(bundle.files["contract.json"]).read_text())
    record["encoding"] |= fields
    files = {**bundle.files, "contract.json": store.put_bytes(json.dumps(record).encode())}
    other = dataclasses.replace(bundle, digest="planted", code="", files=files)
    store.publish(other)
    other.write(made.at("planted"))


def test_the_contract_says_how_the_footage_is_encoded(made: Made) -> None:
    store = open_store()
    contract = Contract.read(store.path(Manifest.read(made.at("bundle")).files["contract.json"]))
    config = made.recipe.sample
    assert contract.encoding == Encoding(codec="h264", short_side=config.short_side, qp=config.qp, gop=config.gop)


def test_the_serving_path_answers_original_files_as_evaluation_did(made: Made) -> None:
    metrics = made.judged()
    served = metrics["served"]
    assert served["drawn"] == served["sent"] == metrics["test"]["segments"] >= 8
    assert served["agreement"]["value"] == 1.0
    assert served["footage"]["value"] == served["served"]["value"] >= 0.9
    assert {ruling.rule: ruling.verdict for ruling in made.rulings(metrics)}["as served"] == "pass"


def test_another_quantiser_in_serving_is_caught_and_stops_the_gate(made: Made) -> None:
    planted(made, qp=51)
    metrics = made.judged(bundle="planted")
    assert metrics["served"]["agreement"]["value"] < made.recipe.promote.min_agreement
    rulings = made.rulings(metrics)
    assert not gate.passed(rulings)
    (ruling,) = [ruling for ruling in rulings if ruling.verdict != "pass"]
    assert (ruling.rule, ruling.verdict) == ("as served", "fail")
    assert "the endpoint is not what was evaluated" in gate.reason(rulings)


def test_without_encoding_a_bundle_serves_and_evaluation_says_what_that_costs(made: Made) -> None:
    raw = dataclasses.replace(made.recipe, export=dataclasses.replace(made.recipe.export, encode=False))
    export(recipe=raw, classifier=made.at("classifier"), out=made.at("raw"))
    store = open_store()
    contract = Contract.read(store.path(Manifest.read(made.at("raw")).files["contract.json"]))
    assert contract.encoding is None
    assert made.judged(bundle="raw")["served"]["sent"] > 0


def test_a_champion_that_reads_frames_otherwise_is_scored_as_it_serves(made: Made) -> None:
    footage, store = Manifest.read(made.at("footage")), open_store()
    planted(made, qp=51)
    scored = {}
    for name in ("bundle", "planted"):
        bundle = Manifest.read(made.at(name))
        found = score_bundle(bundle.ref, footage, store=store, labels=LABELS, progress=NullProgress())
        assert isinstance(found, SegmentPredictions)
        scored[name] = dict(zip(found.keys, found.answers, strict=True))
    metrics = made.judged(bundle="planted")["served"]
    same = np.mean([scored["bundle"][key] == scored["planted"][key] for key in scored["bundle"]])
    assert same == pytest.approx(metrics["agreement"]["value"]) and same < 1
    away = (made.folder / "videos").rename(made.folder / "away")
    try:
        sentence = score_bundle(
            Manifest.read(made.at("planted")).ref, footage, store=store, labels=LABELS, progress=NullProgress()
        )
    finally:
        away.rename(made.folder / "videos")
    assert "another size, rate or encoding" in str(sentence) and "not reachable" in str(sentence)


def test_a_sample_is_drawn_and_none_means_missing(made: Made) -> None:
    assert made.judged(originals=5)["served"]["sent"] == 5
    metrics = made.judged(originals=0)
    assert metrics["served"]["sent"] == 0
    (ruling,) = [ruling for ruling in made.rulings(metrics) if ruling.verdict != "pass"]
    assert (ruling.rule, ruling.verdict) == ("as served", "missing")


def test_files_that_are_gone_or_changed_do_not_count_and_are_said(made: Made) -> None:
    videos = made.folder / "videos"
    away = videos.rename(made.folder / "away")
    try:
        metrics = made.judged()
        assert metrics["served"]["absent"] == {"unreachable": metrics["served"]["drawn"]}
        assert not gate.passed(made.rulings(metrics))
        shutil.copytree(away, videos)
        tests = open_store().path(Manifest.read(made.at("evaluation")).files["predictions.parquet"])
        first, second = sources(tests)[:2]
        (videos / first).unlink()
        shutil.copyfile(videos / second, videos / "spare.mp4")
        (videos / second).write_bytes((videos / second).read_bytes() + b"more")
        metrics = made.judged(resamples=101)  # another evaluation than the cached one
        assert metrics["served"]["absent"] == {"unreadable": 1, "changed": 1}
        assert metrics["served"]["sent"] == metrics["served"]["drawn"] - 2
    finally:
        shutil.rmtree(videos, ignore_errors=True)
        away.rename(videos)


def sources(predictions: Path) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(predictions)["source"].to_pylist()
    return found


# Clips ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Makes a fresh home with each call."""
    numbers = iter(range(1_000))

    def fresh() -> Path:
        folder = tmp_path / str(next(numbers))
        monkeypatch.setenv("RUSHES_HOME", str(folder / "home"))
        monkeypatch.delenv("RUSHES_STORE", raising=False)
        return folder

    yield fresh


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_request_gives_the_very_clips_that_evaluation_reads(home: Callable[[], Path], data: st.DataObject) -> None:
    folder = home()
    side = data.draw(st.sampled_from([32, 36, 48]), label="short_side")
    smaller = data.draw(st.sampled_from([0, 32]), label="pretrain.short_side")
    sampling = {
        "short_side": side,
        "fps": data.draw(st.sampled_from([None, 12.5, 25.0, 30.0]), label="fps"),
        "qp": data.draw(st.integers(1, 45), label="qp"),
        "gop": data.draw(st.integers(1, 20), label="gop"),
        "workers": 1,
    }
    lengths = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=3, unique=True), label="frames")
    for frames in lengths:
        size = data.draw(st.sampled_from([(40, 52), (64, 48), (50, 50)]), label="size")
        path = folder / "videos" / f"v{frames}.mp4"
        write_noise(path, seed=frames, frames=frames, amplitude=9.0, size=size)
    pin(data=DataReference(videos=str(folder / "videos")), out=folder / "pin.json")
    recipe = parse_recipe({"name": "tiny", **TINY, "sample": sampling})
    made = sample(recipe=recipe, pin=folder / "pin.json", out=folder / "footage.json")
    footage = Footage(made, open_store(), short_side=smaller)
    clips, clip_frames = data.draw(st.integers(1, 5), label="clips"), data.draw(st.integers(1, 16), label="T")
    expected = EvenClips(footage, footage.select(), clips=clips, clip_frames=clip_frames, crop=32)
    contract = a_contract(footage, recipe, clips=clips, clip_frames=clip_frames)
    for index, source in enumerate(footage.texts("source")):
        found = request_clips((folder / "videos" / source).read_bytes(), contract)
        assert np.array_equal(found, expected[index][0].numpy()), source


def test_a_part_of_a_file_gives_the_clips_of_its_segment(home: Callable[[], Path]) -> None:
    folder = home()
    write_noise(folder / "videos" / "long.mp4", seed=0, frames=90, amplitude=9.0)
    write_noise(folder / "videos" / "other.mp4", seed=1, frames=90, amplitude=9.0)
    parts = [f"{name}.mp4,{part},{split}" for name, split in NAMED for part in ("0.5,1.3,a", "1.3,3.0,b")]
    (folder / "videos" / "labels.csv").write_text("\n".join(["path,start,end,label,split", *parts]))
    pin(data=DataReference(videos=str(folder / "videos")), out=folder / "pin.json")
    recipe = parse_recipe({"name": "tiny", **TINY})
    footage = Footage(sample(recipe=recipe, pin=folder / "pin.json", out=folder / "footage.json"), open_store())
    rows = footage.select("test", labelled=True)
    assert len(rows) == 2
    expected = EvenClips(footage, rows, clips=3, clip_frames=6, crop=32)
    contract = a_contract(footage, recipe, clips=3, clip_frames=6)
    for index, row in enumerate(rows):
        start, end = float(footage.segments.start[row]), float(footage.segments.end[row])
        found = segment_clips(folder / "videos" / "long.mp4", contract, start=start, end=end)
        assert np.array_equal(found, expected[index][0].numpy())


NAMED = (("long", "test"), ("other", "train"))


def a_contract(footage: Footage, recipe: Recipe, *, clips: int, clip_frames: int) -> Contract:
    """What `export` would write of a model that was trained on the footage."""
    from rushes.serving.contract import GoldenClip

    config = recipe.sample
    return Contract(
        labels=("a",),
        clips=clips,
        clip_frames=clip_frames,
        crop=32,
        short_side=footage.short_side,
        fps=footage.fps,
        embedding=1,
        onnx_sha256="",
        opset=18,
        classifier="",
        golden=GoldenClip(video="golden.mp4", sha256="", probabilities=(1.0,), tolerance=1e-3),
        encoding=Encoding(codec="h264", short_side=config.short_side, qp=config.qp, gop=config.gop),
    )
