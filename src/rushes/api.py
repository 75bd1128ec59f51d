"""The Python API for researchers: trained networks, features of clips and videos, footage as a torch dataset.

    import rushes

    backbone = rushes.load_backbone("artifacts/pretrain.json")
    features = backbone.video_features("clip.mp4")  # float32 [D]
    footage = rushes.sample_footage("videos")
    tuples = rushes.TupleDataset(footage, MyTask(), clip_frames=8, crop=48)

Whatever is loaded is named by a pointer file, a store ref such as "pretrain/ab12" (a digest may be abbreviated), or a
registered model: "models:/NAME@ALIAS" or "models:/NAME/VERSION". The store is the one that RUSHES_HOME and RUSHES_STORE
name, MLflow the one of MLFLOW_TRACKING_URI, or this machine's.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rushes import plugins as _plugins
from rushes.backbones import Backbone
from rushes.config import PretrainConfig, Recipe, SampleConfig
from rushes.errors import UserError
from rushes.evaluation.features import clip_means
from rushes.footage.colour import i420_to_rgb
from rushes.footage.provenance import encoding_of
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.pretext.task import PretextTask
from rushes.progress import NullProgress
from rushes.steps.named import find_source
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.store import Manifest, Store
from rushes.training import weights
from rushes.training.data import EvenClips
from rushes.training.device import pick_device
from rushes.training.networks import Classifier, normalise
from rushes.training.pretext import PretextTuples
from rushes.video.coding import Encoding
from rushes.video.file_clips import video_clips

__all__ = [
    "TupleDataset",
    "VideoBackbone",
    "VideoClassifier",
    "load_backbone",
    "load_classifier",
    "load_footage",
    "sample_footage",
]

Array: TypeAlias = npt.NDArray[np.float32]
Clips: TypeAlias = npt.NDArray[np.uint8] | Tensor
"""uint8: RGB [N, T, H, W, 3], or I420 [N, T, S*3/2, S] as `VideoBackbone.clips` and footage give."""
_GEOMETRY = ("clip_frames", "crop", "short_side", "fps")


# Networks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class VideoBackbone:
    """A trained backbone in evaluation mode, and the geometry that it was trained with."""

    net: Backbone
    source: str
    """Ref of its manifest in the store."""
    clip_frames: int
    """Frames per clip."""
    crop: int
    """Side of the square crop, pixels."""
    short_side: int
    """Shorter side of the footage before the crop, pixels."""
    fps: float | None
    """Frame rate of the footage; None keeps each video's own."""
    encoding: Encoding | None
    """How the footage is encoded, and the frames of a file like it; None where the store does not hold the footage."""
    device: torch.device

    def clips(self, video: str | Path | bytes, *, clips: int = 10) -> Tensor:
        """Decodes a video file, scaled, timed, encoded and cropped as in evaluation and serving.

        Args:
            video: path or bytes of the file.
            clips: number of clips, evenly spaced over the video.

        Returns:
            I420, uint8 [clips, clip_frames, crop * 3/2, crop].

        Raises:
            VideoError: it cannot be decoded.
        """
        _check_count("clips", clips)
        source = video if isinstance(video, bytes) else Path(video)
        found = video_clips(
            source,
            short_side=self.short_side,
            fps=self.fps,
            clips=clips,
            clip_frames=self.clip_frames,
            crop=self.crop,
            encoding=self.encoding,
        )
        return torch.from_numpy(found)

    @torch.no_grad()
    def features(self, clips: Clips, *, batch: int = 32) -> Array:
        """Features of clips: float32 [N, D].

        Args:
            clips: uint8: RGB [N, T, H, W, 3], or I420 [N, T, S*3/2, S].
            batch: clips per forward pass.

        Raises:
            UserError: clips of another layout, or of a size that the network does not take.
        """
        _check_layout(clips)
        _check_count("batch", batch)
        whole = torch.as_tensor(clips)
        batches = [whole[start : start + batch] for start in range(0, len(whole), batch)]
        parts = [self.net(_network_input(part.to(self.device))).cpu() for part in batches]
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    def video_features(self, video: str | Path | bytes, *, clips: int = 10, batch: int = 32) -> Array:
        """Features of a whole video, the mean over its clips: float32 [D].

        Where the file is a segment of the footage, these are the features that evaluation computes.

        Raises:
            VideoError: it cannot be decoded.
        """
        mean: Array = self.features(self.clips(video, clips=clips), batch=batch).mean(axis=0)
        return mean

    def segment_features(
        self, footage: Footage, rows: Sequence[int] | npt.NDArray[np.int64], *, clips: int = 10, batch: int = 32
    ) -> Array:
        """Features of segments of footage, as evaluation computes them: float32 [n, D].

        Args:
            footage: at the short side of this backbone: see `load_footage`.
            rows: [n] rows of its segments, such as `footage.select("test", labelled=True)`.
            clips: number of clips per segment.
            batch: clips per forward pass.
        """
        if footage.short_side != self.short_side:
            raise UserError(
                f"footage: short side {footage.short_side}, the backbone's is {self.short_side}: "
                f"load_footage(SOURCE, short_side={self.short_side})"
            )
        chosen = _row_numbers(rows, footage)
        for name, count in (("clips", clips), ("batch", batch)):
            _check_count(name, count)
        data = EvenClips(footage, chosen, clips=clips, clip_frames=self.clip_frames, crop=self.crop)
        bar = NullProgress().bar("features", total=len(chosen), unit="segments")
        networks = {"features": lambda found: self.net(_network_input(found))}
        return clip_means(data, networks, device=self.device, batch=batch, bar=bar)["features"]


@dataclass(frozen=True, kw_only=True)
class VideoClassifier(VideoBackbone):
    """A fine-tuned backbone with its classifying layer."""

    head: nn.Module
    labels: tuple[str, ...]
    """Class names, in the order of the probabilities."""

    @torch.no_grad()
    def logits(self, clips: Clips, *, batch: int = 32) -> Array:
        """Logits of clips [N, classes]; arguments and errors as for `features`."""
        found = torch.from_numpy(self.features(clips, batch=batch)).to(self.device)
        return np.asarray(self.head(found).cpu().numpy(), np.float32)

    def predict(self, video: str | Path | bytes, *, clips: int = 10) -> dict[str, float]:
        """Probability per class of a whole video, the most probable first, from the mean of its clips' logits.

        Raises:
            VideoError: it cannot be decoded.
        """
        mean = torch.from_numpy(self.logits(self.clips(video, clips=clips))).mean(dim=0)
        found = zip(self.labels, mean.softmax(0).tolist(), strict=True)
        return dict(sorted(found, key=lambda pair: -pair[1]))


def load_backbone(source: str | Path, *, device: str = "auto", plugins: Sequence[str | Path] = ()) -> VideoBackbone:
    """Loads a pretrained backbone, or the fine-tuned one of a classifier.

    Args:
        source: a pointer file, a store ref, or a registered model: see this module.
        device: `auto` (the first GPU, or the CPU), cpu, cuda, ...
        plugins: files that define the network, where it is a plugin's: they replace those used before.

    Raises:
        UserError: nothing is found, or it is something else than a backbone or a classifier.
        ServiceError: MLflow does not answer.
    """
    _use(plugins)
    store = open_store()
    manifest = find_source(source, store, kinds=("backbone", "classifier"))
    if manifest.kind == "classifier":
        return _without_head(_classifier(manifest, store, pick_device(device)))
    model = weights.read_model(manifest, store)
    net = Classifier(backbone=model["backbone"], classes=2).backbone
    weights.load_backbone(net, manifest, store)
    chosen = pick_device(device)
    return VideoBackbone(
        net=net.eval().to(chosen),
        source=manifest.ref,
        **{name: model[name] for name in _GEOMETRY},
        encoding=encoding_of(manifest, store),
        device=chosen,
    )


def load_classifier(source: str | Path, *, device: str = "auto", plugins: Sequence[str | Path] = ()) -> VideoClassifier:
    """Loads a fine-tuned classifier; arguments and errors as for `load_backbone`."""
    _use(plugins)
    store = open_store()
    return _classifier(find_source(source, store, kinds=("classifier",)), store, pick_device(device))


def _use(plugins: str | Path | Sequence[str | Path]) -> None:
    files = [plugins] if isinstance(plugins, (str, Path)) else plugins
    if files:
        _plugins.use(files)


def _classifier(manifest: Manifest, store: Store, device: torch.device) -> VideoClassifier:
    net, model = weights.load_classifier(manifest, store)
    net = net.to(device)
    return VideoClassifier(
        net=net.backbone,
        head=net.head,
        labels=tuple(model["labels"]),
        source=manifest.ref,
        **{name: model[name] for name in _GEOMETRY},
        encoding=encoding_of(manifest, store),
        device=device,
    )


def _without_head(classifier: VideoClassifier) -> VideoBackbone:
    return VideoBackbone(**{f.name: getattr(classifier, f.name) for f in fields(VideoBackbone)})


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UserError(f"{name}: {value!r} is not allowed; a whole number, 1 or more")


def _row_numbers(rows: Sequence[int] | npt.NDArray[np.int64], footage: Footage) -> npt.NDArray[np.int64]:
    found, count = np.asarray(rows), len(footage.segments)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found) or found.min() < 0 or found.max() >= count:
        raise UserError(f"rows: {rows!r} is not allowed; one or more whole numbers, 0 to {count - 1}")
    return found.astype(np.int64)


def _check_layout(clips: Clips) -> None:
    if not isinstance(clips, (np.ndarray, Tensor)):
        raise UserError(f"clips: a {type(clips).__name__} is not allowed; an array or a tensor")
    shape, rgb = tuple(clips.shape), clips.ndim == 5 and clips.shape[-1] == 3
    i420 = clips.ndim == 4 and 2 * clips.shape[2] == 3 * clips.shape[3]
    if clips.dtype not in (torch.uint8, np.uint8) or not (rgb or i420) or not len(clips):
        raise UserError(
            f"clips: {clips.dtype} {list(shape)} is not allowed; uint8, RGB [N, T, H, W, 3] or I420 [N, T, S*3/2, S]"
        )


def _network_input(clips: Tensor) -> Tensor:
    """Normalised float [N, 3, T, H, W] of clips of either layout."""
    rgb = clips.permute(0, 4, 1, 2, 3).float() / 255 if clips.ndim == 5 else i420_to_rgb(clips)
    return normalise(rgb)


# Footage -------------------------------------------------------------------------------------------------------------


def load_footage(source: str | Path, *, short_side: int = 0) -> Footage:
    """Opens the footage that `rushes sample` made.

    Args:
        source: a pointer file or a store ref.
        short_side: scale frames down to this as they are read, in pixels; 0 takes them as they are.

    Raises:
        UserError: nothing is found, it is something else, or it is smaller than `short_side`.
    """
    store = open_store()
    manifest = find_source(source, store, kinds=("footage",))
    if short_side:
        _check_count("short_side", short_side)
    return Footage(manifest, store, short_side=short_side)


def sample_footage(videos: str | Path, *, labels: str | Path = "", config: SampleConfig | None = None) -> Footage:
    """Samples a folder of videos into the store, or finds that it has been, and opens it.

    Args:
        videos: folder of video files, or an fsspec URL.
        labels: CSV or Parquet of labels; by default the folder's labels.csv, then class folders.
        config: size, frame rate and so on.

    Raises:
        UserError: no video can be used, or the labels are at fault.
    """
    if not str(videos):
        raise UserError("videos: empty is not allowed; a folder, or '.' for the one that this runs in")
    smallest = PretrainConfig(crop=16)  # any footage allows it, and nothing is trained
    recipe = Recipe(name="api", sample=config or SampleConfig(), pretrain=smallest)
    with tempfile.TemporaryDirectory(prefix="rushes-api-") as folder:
        pointer = Path(folder) / "pin.json"
        pin(data=DataReference(videos=str(videos), labels=str(labels)), out=pointer)
        return Footage(sample(recipe=recipe, pin=pointer, out=Path(folder) / "footage.json"), open_store())


class TupleDataset(Dataset[tuple[Tensor, int]]):
    """Tuples that a pretext task draws from footage, by number: normalised float [E, 3, T, crop, crop], and the label.

    A tuple is a function of (seed, epoch, number): `set_epoch` before each pass over the data gives other ones.

    Args:
        footage: from `load_footage` or `sample_footage`.
        task: any `rushes.pretext.task.PretextTask`; it need not be registered.
        clip_frames: frames per element.
        crop: side of the square crop, pixels.
        splits: splits to draw from.
        samples: tuples per epoch; 0 takes as many as the footage has windows.
        seed: of windows and tuples.

    Raises:
        UserError: no shot is long enough, or the task does not allow clips of this length.
    """

    def __init__(
        self,
        footage: Footage,
        task: PretextTask,
        *,
        clip_frames: int,
        crop: int,
        splits: Sequence[str] = ("unlabelled", "train"),
        samples: int = 0,
        seed: int = 0,
    ) -> None:
        if not isinstance(task, PretextTask):
            raise UserError(f"task: {task!r} is not allowed; an instance of a class derived from PretextTask")
        if not 0 < crop <= footage.short_side or crop % 2:
            raise UserError(f"crop: {crop} is not allowed; even, and at most the footage's {footage.short_side} pixels")
        if isinstance(splits, str) or not splits:
            raise UserError(f"splits: {splits!r} is not allowed; one or more names, such as ('train',)")
        for name, value in (("samples", samples), ("seed", seed)):
            if value < 0:
                raise UserError(f"{name}: {value!r} is not allowed; a whole number, 0 or more")
        self._tuples = PretextTuples(
            footage,
            footage.select(*splits),
            task=task,
            clip_frames=clip_frames,
            crop=crop,
            seed=seed,
            samples=samples,
        )
        self.task, self.epoch = task, 0

    def set_epoch(self, epoch: int) -> None:
        """Draws other tuples from now on; in loader workers that persist, only from the next loader on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._tuples)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"tuple {number} of {len(self)}")
        clips, label = self._tuples[self.epoch, number]
        return self.task.view(_network_input(clips)[None])[0], label
