"""Hyperparameters: the name, default and meaning of each. The docstrings are the help texts of the flags.

A recipe (`models/<name>/recipe.yaml`) fills these dataclasses; `--size cpu` applies the recipe's own small variant;
command-line flags (`--pretrain.epochs 5`) override both. A step's digest covers its section, so changing a field
re-runs that step and those after it. Fields marked `_FREE` change speed, never results, and are left out of digests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rushes.errors import UserError

NO_TASK = "none"
"""The `pretrain.task` that trains nothing: the backbone keeps the weights that pretraining would start from."""
_FREE = {"digest": False}


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"{name}: {value!r} is not allowed; {allowed}")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Videos to footage: small constant-QP H.264 in immutable shards, and an index."""

    short_side: int = 128
    """Shorter side of the footage, in pixels."""
    fps: float | None = 25.0
    """Frames per second of the footage; none keeps the rate of each video."""
    qp: int = 26
    """H.264 quantiser, constant: rate control shows the time in a still video (docs/methods.md#constant-quantiser)."""
    gop: int = 12
    """Frames from one key frame to the next: reading a window decodes up to this many extra."""
    segment_seconds: float = 60.0
    """Longest segment, in seconds; longer videos are cut into several."""
    shard_segments: int = 64
    """Segments per shard file."""
    val_share: float = 0.1
    """Share of the groups outside the test split that become validation, by a fixed hash of the group's name."""
    test_share: float = 0.3
    """Share of the labelled groups that become the test split, by another fixed hash, where no label names one."""
    decode_seconds: float = 1200.0
    """Quarantine a segment that takes more seconds than this to decode."""
    min_share_decoded: float = 0.5
    """Quarantine a segment if a smaller share of its expected frames decodes."""
    max_pixels: int = 8192 * 4320
    """Quarantine videos with more pixels per frame."""
    max_memory_gb: float = 4.0
    """Memory limit of one decoding process, in GB; a video that needs more is quarantined."""
    keep: float = 1.0
    """Share of the unlabelled segments to use: those with most motion. The others stay in their shards."""
    duplicates: Literal["error", "drop"] = "error"
    """What to do with footage of the test split that is also, exactly or nearly, in another split: refuse, or drop it
    from the other."""
    workers: int = field(default=0, metadata=_FREE)
    """Processes that decode and encode; 0 means one per core."""

    def __post_init__(self) -> None:
        side, fps = self.short_side, self.fps
        _require(side >= 16 and side % 2 == 0, "sample.short_side", side, "even, >= 16")
        _require(fps is None or 1 <= fps <= 240, "sample.fps", fps, "1 to 240, or null for each video's own")
        _require(0 <= self.qp <= 51, "sample.qp", self.qp, "0 (lossless) to 51")
        _require(self.gop >= 1, "sample.gop", self.gop, "at least 1 frame")
        _require(self.segment_seconds >= 1, "sample.segment_seconds", self.segment_seconds, "at least 1 second")
        _require(self.shard_segments >= 1, "sample.shard_segments", self.shard_segments, "at least 1")
        _require(0 <= self.val_share < 1, "sample.val_share", self.val_share, "0 to below 1")
        _require(0 <= self.test_share < 1, "sample.test_share", self.test_share, "0 to below 1")
        _require(self.decode_seconds > 0, "sample.decode_seconds", self.decode_seconds, "above 0 seconds")
        _require(0 <= self.min_share_decoded <= 1, "sample.min_share_decoded", self.min_share_decoded, "0 to 1")
        _require(self.max_pixels >= 1, "sample.max_pixels", self.max_pixels, "at least 1")
        _require(self.max_memory_gb >= 1, "sample.max_memory_gb", self.max_memory_gb, "at least 1 GB")
        _require(0 < self.keep <= 1, "sample.keep", self.keep, "above 0, up to 1")
        _require(self.workers >= 0, "sample.workers", self.workers, "0 (one per core) or more")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How weights are updated. The published recipes use SGD; AdamW works better for small networks."""

    name: Literal["sgd", "adamw"] = "sgd"
    """Update rule."""
    lr: float = 1e-3
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW ignores it."""
    weight_decay: float = 5e-4
    """Weight decay, on all weights."""
    bias_lr: float = 1.0
    """Learning rate of the biases of convolutions and linear layers, as a multiple of `lr`. Caffe's networks: 2."""
    bias_decay: bool = True
    """Whether these biases decay, too. Caffe's networks: false."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """How the learning rate changes over the steps."""
    milestones: tuple[float, ...] = ()
    """For schedule step: shares of the run (0 to 1) at which the learning rate falls to a tenth."""
    warmup_steps: int = 0
    """Steps over which the learning rate grows from 0 to `lr`."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(self.bias_lr > 0, "optimizer.bias_lr", self.bias_lr, "above 0")
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "0 or more")
        rising = list(self.milestones) == sorted(set(self.milestones)) and all(0 < m < 1 for m in self.milestones)
        allowed = "rising shares of the run between 0 and 1, such as [0.8]; at least one with schedule step"
        fits = rising and (bool(self.milestones) or self.schedule != "step")
        _require(fits, "optimizer.milestones", list(self.milestones), allowed)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What pretraining and fine-tuning have in common: length, update rule, precision, machine."""

    epochs: int = 300
    """Passes over the data."""
    batch: int = 8
    """Samples per step."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """Update rule."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, where it does not fit into memory. Batch norm sees one
    part at a time, so that the result is another one."""
    patience: int = 0
    """Epochs without a lower validation loss after which training ends; 0 never ends it early."""
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """bf16 computes convolutions and products of matrices in bfloat16 and keeps weights in float32; auto takes it where
    the device computes it natively."""
    compile: bool = False
    """Compile the network by torch.compile: minutes at first, faster steps then. Rounds otherwise."""
    checkpoint_seconds: float = field(default=300.0, metadata=_FREE)
    """Seconds between checkpoints, which are written beside training; 0 saves after every step and waits for it."""
    device: str = field(default="auto", metadata=_FREE)
    """auto, cpu, cuda, cuda:1, ..."""
    workers: int = field(default=2, metadata=_FREE)
    """Processes that decode; 0 decodes in the training process."""

    def __post_init__(self) -> None:
        section = type(self).__name__.removesuffix("Config").lower()
        for name, least, meaning in (
            ("epochs", 1, "at least 1"),
            ("batch", 2, "at least 2 (batch norm)"),
            ("accumulate", 1, "at least 1"),
            ("patience", 0, "0 (never) or more"),
            ("checkpoint_seconds", 0, "0 (every step) or more"),
            ("workers", 0, "0 (none) or more"),
        ):
            value = getattr(self, name)
            _require(value >= least, f"{section}.{name}", value, meaning)
        parts = self.batch / self.accumulate
        allowed = f"a divisor of batch {self.batch} that leaves at least 2 of it per part (batch norm)"
        _require(parts >= 2 and parts == int(parts), f"{section}.accumulate", self.accumulate, allowed)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """Self-supervised pretraining: task, network and clip size (which later steps inherit)."""

    task: str = "clip_order"
    """Pretext task (`rushes.pretext`), or none: train nothing and pass on the initial weights."""
    options: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    """Parameters of the task, such as {clips: 3, gap: 8}."""
    backbone: str = "r3d"
    """Network (`rushes.backbones`)."""
    init: str = ""
    """Initial weights: empty (random), a state dict of torch or safetensors, or the pointer of an earlier run."""
    clip_frames: int = 16
    """Frames per clip; 1 for networks that see single frames."""
    crop: int = 112
    """Side of the square crop that the network sees, in pixels."""
    short_side: int = 0
    """Shorter side to which footage is scaled down when it is read, in pixels; 0 keeps the size of the footage."""
    epochs: int = 300
    """Passes over the windows of the unlabelled and training segments."""
    batch: int = 8
    """Tuples per step."""
    samples_per_epoch: int = 0
    """Tuples per epoch; 0 takes one per window's length of footage, so that each hour counts the same."""
    ranks: int = 0
    """Processes of a machine that train together, each on its share of every batch; 0 takes one per GPU. Batch norm
    sees one share at a time, so that their number changes the result; the tuples are the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.ranks >= 0, "pretrain.ranks", self.ranks, "0 (one per GPU) or more")
        _require(self.clip_frames >= 1, "pretrain.clip_frames", self.clip_frames, "at least 1")
        _require(self.crop >= 16 and self.crop % 2 == 0, "pretrain.crop", self.crop, "even, >= 16")
        side, allowed = self.short_side, "0 (that of the footage), or even and >= 16"
        _require(side == 0 or (side >= 16 and side % 2 == 0), "pretrain.short_side", side, allowed)
        _require(self.samples_per_epoch >= 0, "pretrain.samples_per_epoch", self.samples_per_epoch, "0 (all) or more")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """Supervised training on the labelled clips."""

    epochs: int = 150
    """Passes over the labelled training segments, one clip per segment."""
    batch: int = 8
    """Clips per step."""
    freeze: Literal["none", "backbone"] = "none"
    """What keeps its weights and its statistics: nothing, or all but the classification layer."""
    labels_per_class: int = 0
    """Labelled segments to use per class, chosen by the seed and spread over groups; 0 uses all. With fewer labels an
    epoch is as long as with all, and there is no validation, since its labels would count too."""
    flip: bool = False
    """Mirror half of the clips. Leave it off where classes differ in direction."""
    dropout: float = 0.0
    """Dropout before the classification layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.labels_per_class >= 0, "finetune.labels_per_class", self.labels_per_class, "0 (all) or more")
        _require(0 <= self.dropout < 1, "finetune.dropout", self.dropout, "0 to below 1")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Accuracy on the test split."""

    clips: int = 10
    """Clips per video, evenly spaced, centre crop; their logits are averaged."""
    resamples: int = 2000
    """Random swaps of pretrained and random answers in whole groups, for the p-values."""
    originals: int = 100
    """Test videos whose original files are also sent through the serving path, drawn at random; 0 for none."""
    probe_l2: float = 1.0
    """Inverse strength of the linear probe's regularisation (scikit-learn's C)."""
    batch: int = field(default=32, metadata=_FREE)
    """Clips per forward pass."""
    device: str = field(default="auto", metadata=_FREE)
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        _require(self.clips >= 1, "evaluate.clips", self.clips, "at least 1")
        _require(self.resamples >= 100, "evaluate.resamples", self.resamples, "at least 100")
        _require(self.originals >= 0, "evaluate.originals", self.originals, "0 (none) or more")
        _require(self.probe_l2 > 0, "evaluate.probe_l2", self.probe_l2, "above 0")
        _require(self.batch >= 1, "evaluate.batch", self.batch, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Classifier to ONNX and its contract."""

    clips: int = 10
    """Clips taken from the video of a request."""
    opset: int = 18
    """ONNX operator set; Triton 24.10's onnxruntime reads up to 20."""
    tolerance: float = 1e-4
    """Largest allowed difference of a probability between torch and onnxruntime."""
    encode: bool = True
    """Encode the frames of a request as the footage was, so that the model sees what it learned from. Without it,
    serving needs no encoder, and answers otherwise than evaluation measured."""

    def __post_init__(self) -> None:
        _require(1 <= self.clips <= 64, "export.clips", self.clips, "1 to 64")
        _require(18 <= self.opset <= 20, "export.opset", self.opset, "18 to 20")
        _require(self.tolerance > 0, "export.tolerance", self.tolerance, "above 0")


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """The bundle as an MLflow model version."""

    experiment: str = "rushes"
    """MLflow experiment to log the runs to."""


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """The gate: what a new version must show before it is served."""

    require: Literal["better", "non_inferior"] = "better"
    """Condition on the lower bound of the accuracy difference to the served version: above 0, or above -margin."""
    margin: float = 0.02
    """Loss of accuracy that `non_inferior` accepts."""
    min_groups: int = 30
    """Below this number of test groups a comparison is inconclusive."""
    confidence: float = 0.95
    """Confidence of the one-sided bound."""
    resamples: int = 5000
    """Random swaps of two models' answers in whole groups, for the p-values."""
    min_agreement: float = 0.98
    """Share of the original files for which the serving path must answer as evaluation did; 0 checks nothing."""
    max_skew: float = 0.01
    """Difference of top-1 between serving path and evaluation up to which an interval that excludes 0 is accepted."""

    def __post_init__(self) -> None:
        _require(0 < self.margin < 1, "promote.margin", self.margin, "between 0 and 1")
        _require(0.5 < self.confidence < 1, "promote.confidence", self.confidence, "between 0.5 and 1")
        _require(0 <= self.min_agreement <= 1, "promote.min_agreement", self.min_agreement, "0 (no check) to 1")
        _require(0 <= self.max_skew < 1, "promote.max_skew", self.max_skew, "0 to below 1")
        _require(self.min_groups >= 2, "promote.min_groups", self.min_groups, "at least 2")
        _require(self.resamples >= 100, "promote.resamples", self.resamples, "at least 100")


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """Waiting until the promoted version is served."""

    timeout_seconds: float = 180.0
    """Seconds to wait for servers that are starting and for replicas that do not serve the version yet."""

    def __post_init__(self) -> None:
        _require(self.timeout_seconds > 0, "deploy.timeout_seconds", self.timeout_seconds, "above 0 seconds")


@dataclass(frozen=True, kw_only=True)
class RecipeSections:
    """All hyperparameters, one section per step."""

    seed: int = 0
    """Seed of all random numbers, in every step."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """Section of `rushes sample`."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Section of `rushes pretrain`."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    """Section of `rushes finetune`."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Section of `rushes evaluate`."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """Section of `rushes export`."""
    register: RegisterConfig = field(default_factory=RegisterConfig)
    """Section of `rushes register`."""
    promote: PromoteConfig = field(default_factory=PromoteConfig)
    """Section of `rushes promote`."""
    deploy: DeployConfig = field(default_factory=DeployConfig)
    """Section of `rushes deploy`."""


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeSections):
    """A model: its name and its hyperparameters."""

    name: str
    """Folder under models/."""
    about: str = ""
    """One line for `rushes models`."""
    plugins: tuple[str, ...] = ()
    """Files that define further tasks and backbones: see `rushes.plugins`."""

    def __post_init__(self) -> None:
        if self.pretrain.short_side > self.sample.short_side:
            raise UserError(
                f"pretrain.short_side: {self.pretrain.short_side} is above sample.short_side "
                f"{self.sample.short_side}: lower it, or sample larger footage"
            )
        name = "pretrain.short_side" if self.pretrain.short_side else "sample.short_side"
        side = self.pretrain.short_side or self.sample.short_side
        if self.pretrain.crop > side:
            raise UserError(
                f"pretrain.crop: {self.pretrain.crop} does not fit in {name} {side}: "
                "lower the crop or raise the short side"
            )
