"""The contract of a served model: its labels, and the geometry of its input.

It lies beside the ONNX file (`contract.json` in every version folder of Triton's repository), so that a rollback also
restores labels and geometry. Standard library only: Triton's Python backends read it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from rushes.errors import UserError
from rushes.video.coding import Encoding

SCHEMA = 2
READABLE = (1, 2)
"""Schemas that this version reads: in 1, there is no encoding."""


@dataclass(frozen=True, kw_only=True)
class GoldenClip:
    """A request with a known answer, for the health probe."""

    video: str
    """File beside the contract (an mp4)."""
    sha256: str
    """SHA-256 of that file."""
    probabilities: tuple[float, ...]
    """The answer, from onnxruntime on the machine that exported."""
    tolerance: float
    """Largest difference of a probability that is allowed on another machine."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Labels, geometry and identity of one exported model."""

    labels: tuple[str, ...]
    """Class names, in the order of the probabilities."""
    clips: int
    """Clips per video, evenly spaced; the graph averages their logits."""
    clip_frames: int
    """Frames per clip."""
    crop: int
    """Side of the square centre crop, pixels."""
    short_side: int
    """Shorter side of a video after scaling, before the crop; pixels."""
    fps: float | None
    """Frame rate to which a video is converted; None keeps its own."""
    embedding: int
    """Length of the embedding."""
    onnx_sha256: str
    """SHA-256 of model.onnx: the identity of the graph."""
    opset: int
    """ONNX operator set."""
    classifier: str
    """Ref of the classifier it was exported from."""
    golden: GoldenClip
    """Request with a known answer."""
    encoding: Encoding | None = None
    """The coding that the frames of a request get before the model sees them, as the footage that it learned from; None
    where it takes frames as they are."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise UserError(f"labels: {list(self.labels)}: one or more, each once")
        if len(self.golden.probabilities) != len(self.labels):
            raise UserError(f"golden: {len(self.golden.probabilities)} probabilities for {len(self.labels)} labels")
        if not 0 < self.crop <= self.short_side or self.crop % 2:
            raise UserError(f"crop: {self.crop}: even, and at most the short side ({self.short_side})")
        if self.encoding and self.encoding.short_side < self.short_side:
            raise UserError(f"encoding.short_side: {self.encoding.short_side}: at least the model's {self.short_side}")
        if "/" in self.golden.video or self.golden.video.startswith("."):
            raise UserError(f"golden.video: {self.golden.video!r}: the name of a file beside the contract")

    def to_json(self) -> str:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Contract":
        """Reads `contract.json`.

        Raises:
            UserError: missing, malformed, or of a schema this version does not read.
        """
        try:
            record = json.loads(path.read_text())
            if record["schema"] not in READABLE:
                raise UserError(f"{path}: schema {record['schema']}, this version reads {READABLE}: export again")
            golden = record.pop("golden")
            golden["probabilities"] = tuple(golden["probabilities"])
            record["labels"] = tuple(record["labels"])
            encoding = record.pop("encoding", None)
            return cls(golden=GoldenClip(**golden), encoding=encoding and Encoding(**encoding), **record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a contract ({error}): export again") from error
