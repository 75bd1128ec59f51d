"""A bundle: the folder that is served, with `model.onnx`, `contract.json`, and `golden.mp4`, whose answer is known.

`export_bundle` (rushes.serving.export) writes it, the store keeps it, the reconciler publishes it. Its graph also runs
in process: for `rushes predict --offline`, for the golden answer, and where Triton cannot run.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rushes.errors import UserError
from rushes.serving.contract import Contract
from rushes.serving.prediction import Prediction
from rushes.serving.request import request_clips
from rushes.store import Manifest, Store, sha256_file
from rushes.video.frames import Frames

ONNX = "model.onnx"
CONTRACT = "contract.json"
GOLDEN = "golden.mp4"
FILES = (ONNX, CONTRACT, GOLDEN)
OUTPUTS = ["probabilities", "embedding"]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A folder with a model, and its contract."""

    folder: Path
    contract: Contract

    @property
    def onnx(self) -> Path:
        """Path of the graph."""
        return self.folder / ONNX

    @property
    def golden(self) -> Path:
        """Path of the golden clip."""
        return self.folder / self.contract.golden.video


def read_bundle(folder: Path) -> Bundle:
    """Opens a bundle and verifies its files by the digests in the contract.

    Raises:
        UserError: a file is missing, or its digest is another one.
    """
    bundle = Bundle(folder=folder, contract=Contract.read(folder / CONTRACT))
    expected = {bundle.onnx: bundle.contract.onnx_sha256, bundle.golden: bundle.contract.golden.sha256}
    for path, digest in expected.items():
        if not path.is_file():
            raise UserError(f"{path}: missing from the bundle: export again")
        found = sha256_file(path)
        if found != digest:
            raise UserError(f"{path}: digest {found[:12]}, the contract says {digest[:12]}: export again")
    return bundle


def fetch_bundle(manifest: Manifest, store: Store, *, folder: Path) -> Bundle:
    """Copies a bundle from the store into a new folder and verifies it.

    Raises:
        UserError: the manifest is of another kind, or an object is missing or damaged.
    """
    if manifest.kind != "bundle" or set(manifest.files) < set(FILES):
        raise UserError(f"{manifest.ref}: of kind {manifest.kind!r} with {sorted(manifest.files)}, expected a bundle")
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(store.checked(manifest.files[name]), folder / name)
    return read_bundle(folder)


def session(onnx: Path) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        UserError: onnxruntime cannot read the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own, unrelated classes
        raise UserError(f"{onnx}: not a graph that onnxruntime reads ({error}): export again") from error


class InProcessModel:
    """A bundle that answers in this process; the graph is loaded once."""

    def __init__(self, bundle: Bundle, *, version: int | None = None) -> None:
        self.bundle, self.version = bundle, version
        self._session = session(bundle.onnx)

    def predict(self, video: bytes) -> Prediction:
        """Answers an encoded video.

        Raises:
            VideoError: it cannot be decoded, or exceeds the limits of a request.
            UserError: the contract wants frames encoded, and there is no encoder here.
        """
        return self.classify(request_clips(video, self.bundle.contract))

    def classify(self, clips: Frames) -> Prediction:
        """Answers the clips of a video, uint8 `[clips, T, crop * 3/2, crop]`."""
        contract = self.bundle.contract
        probabilities, embedding = self._session.run(OUTPUTS, {"clips": clips[None]})
        return Prediction(
            labels=contract.labels,
            probabilities=tuple(probabilities[0].tolist()),
            embedding=tuple(embedding[0].tolist()),
            version=self.version,
            onnx_sha256=contract.onnx_sha256,
            request_id=uuid.uuid4().hex,
            served_by="in-process",
        )


def golden_difference(answer: Prediction, contract: Contract) -> float:
    """Largest difference of a probability from the golden answer; infinite if the labels differ."""
    expected = np.asarray(contract.golden.probabilities)
    if answer.labels != contract.labels or len(answer.probabilities) != len(expected):
        return float("inf")
    difference = float(np.abs(np.asarray(answer.probabilities) - expected).max())
    return difference if np.isfinite(difference) else float("inf")
