"""The Python API on real small footage and really trained tiny networks: loading, features, tuples, and its errors."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import rushes
from rushes.config import Recipe, SampleConfig
from rushes.errors import UserError
from rushes.evaluation.features import clip_means
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.pretext.task import ClipTuple, OneClipHead, PretextTask, Shot, random_crops
from rushes.progress import NullProgress
from rushes.recipes import load_recipe
from rushes.steps.finetune import finetune
from rushes.steps.pin import pin
from rushes.steps.pretrain import pretrain
from rushes.steps.sample import sample
from rushes.store import Manifest
from rushes.training.data import EvenClips
from rushes.training.weights import load_classifier
from rushes.video.source import VideoError
from tests.integration.conftest import write_videos

CLIPS = 3


@dataclass(frozen=True, kw_only=True)
class Half(PretextTask):
    """Is this clip from the first or the second half of its shot? Registered nowhere."""

    elements, classes = 1, 2

    def span(self, *, clip_frames: int) -> int:
        return 2 * clip_frames

    def draw(self, shot: Shot, *, clip_frames: int, crop: int, rng: np.random.Generator) -> ClipTuple:
        label = int(rng.integers(2))
        start = label * (shot.frames - clip_frames)
        crops = random_crops(shot, crop=crop, count=1, rng=rng)
        return ClipTuple(frames=(start + np.arange(clip_frames))[None], crops=crops, label=label)

    def head(self, features: int) -> nn.Module:
        return OneClipHead(features, classes=2)

    def view(self, clips: Tensor) -> Tensor:
        return clips - clips.mean(dim=3, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A home with lossless footage and what was trained on it."""

    folder: Path
    recipe: Recipe
    backbone: Manifest
    classifier: Manifest


def small() -> Recipe:
    recipe = load_recipe("pace-r2plus1d", size="cpu")
    return dataclasses.replace(
        recipe,
        # Lossless, so that the footage's frames are those of the files.
        sample=dataclasses.replace(recipe.sample, short_side=32, qp=0, workers=2, test_share=0.4),
        pretrain=dataclasses.replace(
            recipe.pretrain, crop=32, options={"strides": 2}, epochs=1, samples_per_epoch=32, workers=0
        ),
        finetune=dataclasses.replace(recipe.finetune, epochs=2, batch=4, workers=0),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("api")
    write_videos(folder / "videos", files=8)
    recipe = small()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_HOME", str(folder / "home"))
        for name in ("RUSHES_STORE", "RUSHES_CACHE", "RUSHES_PROGRESS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        footage = folder / "footage.json"
        pin(data=DataReference(videos=str(folder / "videos")), out=folder / "pin.json")
        sample(recipe=recipe, pin=folder / "pin.json", out=footage)
        backbone = pretrain(recipe=recipe, footage=footage, out=folder / "backbone.json")
        tuned = finetune(
            recipe=recipe, footage=footage, backbone=folder / "backbone.json", out=folder / "classifier.json"
        )
        yield Trained(folder=folder, recipe=recipe, backbone=backbone, classifier=tuned)
        torch.set_num_threads(threads)


# Loading -------------------------------------------------------------------------------------------------------------


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_pointer_a_ref_and_an_abbreviated_ref_are_the_same_backbone(trained: Trained) -> None:
    ref = trained.backbone.ref
    one = rushes.load_backbone(trained.folder / "backbone.json")
    assert all(same(one.net, rushes.load_backbone(source).net) for source in (ref, ref[: len("pretrain/") + 6]))
    assert (one.source, one.clip_frames, one.crop, one.short_side, one.fps) == (ref, 8, 32, 32, 25.0)
    assert not one.net.training


def test_a_classifier_comes_with_its_labels_and_its_own_backbone(trained: Trained) -> None:
    found = rushes.load_classifier(trained.folder / "classifier.json")
    assert found.labels == ("moving", "resting")
    tuned = rushes.load_backbone(trained.folder / "classifier.json")
    assert same(tuned.net, found.net) and type(tuned) is rushes.VideoBackbone
    assert not same(tuned.net, rushes.load_backbone(trained.backbone.ref).net)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("pretrain/0000", r"^pretrain/0000: pretrain/0000 is not in the store .*: set RUSHES_STORE, or run the step$"),
        ("missing.json", r"^source: 'missing.json' is no file; a pointer, STEP/DIGEST, or models:/NAME@ALIAS$"),
        ("models:/actions", r"^MLflow: no answer at http"),
    ],
)
def test_a_source_that_leads_nowhere_is_one_line(trained: Trained, source: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        rushes.load_backbone(source)
    assert "\n" not in str(caught.value)


def test_a_source_of_another_kind_is_named(trained: Trained) -> None:
    with pytest.raises(UserError, match=r"footage.json: of kind 'footage'; expected backbone or classifier"):
        rushes.load_backbone(trained.folder / "footage.json")
    with pytest.raises(UserError, match=r"of kind 'backbone'; expected classifier"):
        rushes.load_classifier(trained.backbone.ref)


def test_an_abbreviation_of_several_is_refused(trained: Trained) -> None:
    store, (first, second) = open_store(), ("abc1", "abc2")
    for digest in (first, second):
        store.publish(dataclasses.replace(trained.backbone, digest=digest))
    with pytest.raises(UserError, match=r"^pretrain/abc: 2 outputs of pretrain begin so \(abc1, abc2\): give more"):
        rushes.load_backbone("pretrain/abc")
    assert rushes.load_backbone("pretrain/abc2").source == "pretrain/abc2"


# Features ------------------------------------------------------------------------------------------------------------


def test_features_of_a_video_are_those_that_evaluation_computes_of_its_segment(trained: Trained) -> None:
    backbone = rushes.load_backbone(trained.backbone.ref)
    footage = rushes.load_footage(trained.folder / "footage.json")
    rows = footage.select("test", labelled=True)
    found = backbone.segment_features(footage, rows, clips=CLIPS)
    # Evaluation's own: its clips, its network, its forward pass.
    net, _ = load_classifier(trained.classifier, open_store())
    net.backbone.load_state_dict(backbone.net.state_dict())
    data = EvenClips(footage, rows, clips=CLIPS, clip_frames=8, crop=32)
    bar = NullProgress().bar("", total=1, unit="")
    expected = clip_means(data, {"x": net.features}, device=torch.device("cpu"), batch=32, bar=bar)["x"]
    np.testing.assert_array_equal(found, expected)
    sources = footage.texts("source")[rows]
    videos = np.stack([backbone.video_features(trained.folder / "videos" / name, clips=CLIPS) for name in sources])
    np.testing.assert_allclose(videos, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(videos.round(4), axis=0)) >= 3  # those that rest are alike


def test_rgb_and_i420_clips_have_the_same_features_and_batches_change_nothing(trained: Trained) -> None:
    backbone = rushes.load_backbone(trained.backbone.ref)
    clips = backbone.clips(next((trained.folder / "videos").rglob("*.mp4")).read_bytes(), clips=5)
    assert clips.shape == (5, 8, 48, 32) and clips.dtype == torch.uint8
    whole = backbone.features(clips)
    assert whole.shape == (5, 128) and whole.dtype == np.float32
    np.testing.assert_allclose(backbone.features(clips, batch=2), whole, rtol=1e-4, atol=1e-5)
    rgb = (255 * i420_to_rgb(clips)).round().byte().permute(0, 2, 3, 4, 1)
    for array in (rgb, rgb.numpy()):
        np.testing.assert_allclose(backbone.features(array), whole, atol=0.02 * float(np.abs(whole).max()))


def test_a_prediction_is_a_distribution_and_the_classifiers_own(trained: Trained) -> None:
    classifier = rushes.load_classifier(trained.classifier.ref)
    video = trained.folder / "videos" / "moving" / "v00.mp4"
    found = classifier.predict(video, clips=CLIPS)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) == pytest.approx(1)
    net, _ = load_classifier(trained.classifier, open_store())
    with torch.no_grad():
        expected = net(classifier.clips(video, clips=CLIPS)).mean(0).softmax(0)
    assert [found[label] for label in classifier.labels] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 8, 32, 32, 3), np.float32),
        ((2, 3, 8, 32, 32), np.uint8),
        ((8, 32, 32, 3), np.uint8),
        ((0, 8, 48, 32), np.uint8),
    ],
)
def test_clips_of_another_layout_are_refused(trained: Trained, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(UserError, match=r"^clips: .* is not allowed; uint8, RGB \[N, T, H, W, 3\] or I420"):
        rushes.load_backbone(trained.backbone.ref).features(np.zeros(shape, dtype))


def test_what_does_not_decode_or_fit_says_so(trained: Trained) -> None:
    backbone = rushes.load_backbone(trained.backbone.ref)
    with pytest.raises(VideoError):
        backbone.video_features(b"no video")
    with pytest.raises(UserError, match=r"pretrain.clip_frames: 1 is not allowed"):
        backbone.features(np.zeros((1, 1, 32, 32, 3), np.uint8))
    footage = rushes.load_footage(trained.folder / "footage.json", short_side=16)
    with pytest.raises(UserError, match=r"footage: short side 16, the backbone's is 32: load_footage\(SOURCE, sh"):
        backbone.segment_features(footage, [0])


VIDEO = "videos/moving/v00.mp4"
HOSTILE: dict[str, Callable[[Path], object]] = {
    r"clips: 0 is not allowed; a whole number, 1 or more": lambda at: backbone(at).clips(at / VIDEO, clips=0),
    r"clips: 1.5 is not allowed": lambda at: backbone(at).video_features(at / VIDEO, clips=1.5),  # type: ignore[arg-type]
    r"clips: -1 is not allowed": lambda at: backbone(at).segment_features(footage(at), [0], clips=-1),
    r"batch: 0 is not allowed": lambda at: backbone(at).video_features(at / VIDEO, batch=0),
    r"batch: True is not allowed": lambda at: backbone(at).segment_features(footage(at), [0], batch=True),
    r"clips: a list is not allowed; an array or a tensor": lambda at: backbone(at).features([[1]]),  # type: ignore[arg-type]
    r"rows: \[\] is not allowed; one or more whole numbers, 0 to 15": lambda at: segments(at, []),
    r"rows: \[-1\] is not allowed": lambda at: segments(at, [-1]),
    r"rows: \[0, 16\] is not allowed": lambda at: segments(at, [0, 16]),
    r"rows: \[0.5\] is not allowed": lambda at: segments(at, [0.5]),
    r"rows: \[\[0\]\] is not allowed": lambda at: segments(at, [[0]]),
    r"rows: \['a'\] is not allowed": lambda at: segments(at, ["a"]),
    r"rows: \[True\] is not allowed": lambda at: segments(at, [True]),
    r"short_side: -1 is not allowed": lambda at: footage(at, short_side=-1),
    r"short_side: 16.5 is not allowed": lambda at: footage(at, short_side=16.5),
    r"splits: \(\) is not allowed; one or more names": lambda at: tuples(at, splits=()),
    r"splits: 'train' is not allowed": lambda at: tuples(at, splits="train"),
    r"samples: -1 is not allowed; a whole number, 0 or more": lambda at: tuples(at, samples=-1),
    r"seed: -1 is not allowed": lambda at: tuples(at, seed=-1),
    r"videos: empty is not allowed": lambda at: rushes.sample_footage(""),
    r"source: None is not allowed; text or a path": lambda at: rushes.load_backbone(None),  # type: ignore[arg-type]
    r"source: 'x+' is no file": lambda at: rushes.load_backbone("x" * 5000),
    r"--plugin \S*/nowhere.py: cannot be read": lambda at: rushes.load_backbone(
        at / "backbone.json", plugins=str(at / "nowhere.py")
    ),
}


def backbone(at: Path) -> rushes.VideoBackbone:
    return rushes.load_backbone(at / "backbone.json")


def footage(at: Path, **options: Any) -> Footage:
    return rushes.load_footage(at / "footage.json", **options)


def segments(at: Path, rows: Any) -> object:
    return backbone(at).segment_features(footage(at), rows)


def tuples(at: Path, **options: Any) -> object:
    return rushes.TupleDataset(footage(at), Half(), clip_frames=8, crop=24, **options)


@pytest.mark.parametrize("words", HOSTILE)
def test_a_value_that_makes_no_sense_is_named(trained: Trained, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        HOSTILE[words](trained.folder)


@pytest.mark.parametrize("output", ["backbone", "classifier", "footage"])
def test_a_pointer_without_its_files_is_named(trained: Trained, output: str, tmp_path: Path) -> None:
    whole = Manifest.read(trained.folder / f"{output}.json")
    load: dict[str, Callable[[Path], object]] = {
        "backbone": rushes.load_backbone,
        "classifier": rushes.load_classifier,
        "footage": rushes.load_footage,
    }
    for name in ("model.json", "weights.safetensors", "index.parquet", "shards.parquet"):
        if name in whole.files:
            files = {other: file for other, file in whole.files.items() if other != name}
            dataclasses.replace(whole, files=files).write(tmp_path / "pointer.json")
            with pytest.raises(UserError, match=rf"/pointer.json: a {output} without {name}: run `rushes \w+` again$"):
                load[output](tmp_path / "pointer.json")


@pytest.mark.parametrize("output", ["backbone", "footage"])
def test_a_pointer_of_another_store_says_what_is_missing(
    trained: Trained, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_STORE", str(tmp_path / "store"))
    load: dict[str, Callable[[Path], object]] = {"backbone": rushes.load_backbone, "footage": rushes.load_footage}
    with pytest.raises(UserError, match=r"^store \S+/store: object [0-9a-f]{12} is missing or cut short: run the step"):
        load[output](trained.folder / f"{output}.json")


# Tuples --------------------------------------------------------------------------------------------------------------


def test_a_task_of_ones_own_is_drawn_from_footage_and_learned(trained: Trained) -> None:
    footage = rushes.load_footage(trained.folder / "footage.json")
    tuples = rushes.TupleDataset(footage, Half(), clip_frames=8, crop=24, samples=16, seed=1)
    clips, label = tuples[3]
    assert clips.shape == (1, 3, 8, 24, 24) and clips.dtype == torch.float32 and label in (0, 1)
    assert clips.mean(dim=2).abs().max() < 1e-5  # the task's view
    again = rushes.TupleDataset(footage, Half(), clip_frames=8, crop=24, samples=16, seed=1)
    assert torch.equal(again[3][0], clips)
    again.set_epoch(1)
    assert not torch.equal(again[3][0], clips)
    torch.manual_seed(0)
    net, head = rushes.load_backbone(trained.backbone.ref).net.train(), Half().head(128)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=1e-3)
    losses = []
    for _ in range(8):
        for batch, labels in DataLoader(tuples, batch_size=8):
            loss = Half().loss(head(net(batch.flatten(0, 1)).unflatten(0, batch.shape[:2])), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) / 2


def test_a_dataset_that_cannot_be_drawn_from_says_why(trained: Trained) -> None:
    footage = rushes.load_footage(trained.folder / "footage.json")
    with pytest.raises(UserError, match=r"^task: .* is not allowed; an instance of a class derived from PretextTask"):
        rushes.TupleDataset(footage, Half, clip_frames=8, crop=24)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^crop: 40 is not allowed; even, and at most the footage's 32 pixels"):
        rushes.TupleDataset(footage, Half(), clip_frames=8, crop=40)
    with pytest.raises(UserError, match=r"^footage: no shot of 60 frames"):
        rushes.TupleDataset(footage, Half(), clip_frames=30, crop=24)
    with pytest.raises(IndexError):
        rushes.TupleDataset(footage, Half(), clip_frames=8, crop=24, samples=4)[4]


def test_videos_are_sampled_once(trained: Trained) -> None:
    config = SampleConfig(short_side=16, fps=12.5, workers=1)
    one = rushes.sample_footage(trained.folder / "videos", config=config)
    assert (one.short_side, one.fps, len(one.segments), one.labels) == (16, 12.5, 16, ("moving", "resting"))
    before = open_store().names("steps/sample")
    again = rushes.sample_footage(trained.folder / "videos", config=config)
    assert open_store().names("steps/sample") == before
    np.testing.assert_array_equal(one.frames(0, [0, 3]), again.frames(0, [0, 3]))


# Importing -----------------------------------------------------------------------------------------------------------


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_imports_no_library() -> None:
    heavy = "{'torch', 'numpy', 'av', 'pyarrow', 'mlflow'}"
    assert python(f"import sys, rushes; print({heavy} & set(sys.modules))") == "set()"
    # Nor does the API import servers' clients.
    others = "{'mlflow', 'kfp', 'onnxruntime', 'tritonclient'}"
    assert python(f"import sys, rushes; rushes.load_backbone; print({others} & set(sys.modules))") == "set()"


def test_every_name_is_there_and_no_other() -> None:
    assert all(callable(getattr(rushes, name)) for name in rushes.__all__)
    with pytest.raises(AttributeError, match="module 'rushes' has no attribute 'load_backbones'"):
        _ = rushes.load_backbones


def test_without_torch_the_api_names_the_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; import rushes\n"
    code += "try: rushes.load_backbone\nexcept ImportError as error: print(error)"
    assert python(code) == "rushes.load_backbone needs torch: pip install 'rushes[train]'"
