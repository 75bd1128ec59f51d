"""Exports a `ServingGraph` as one ONNX file, and compares what both compute.

The numbers of videos and clips are dynamic; frames and side are fixed, as the contract says. The opset is at most 20
and the IR at most 10: the onnxruntime 1.19.2 of Triton 24.10 reads no later ones.
"""

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rushes.errors import ServiceError, UserError
from rushes.serving.bundle import CONTRACT, GOLDEN, ONNX, Bundle, InProcessModel, read_bundle, session
from rushes.serving.contract import Contract, GoldenClip
from rushes.serving.graph import ServingGraph
from rushes.store import sha256_file, write_atomic
from rushes.video.coding import Encoding

OPSETS = range(18, 21)
MAX_IR = 10
INPUT = "clips"
OUTPUTS = ("probabilities", "embedding")


@dataclass(frozen=True, kw_only=True)
class BundleSpec:
    """What a contract says of a model before it is exported; the fields are those of `Contract`."""

    labels: Sequence[str]
    clips: int
    clip_frames: int
    crop: int
    short_side: int
    fps: float | None
    classifier: str
    encoding: Encoding | None = None
    opset: int = 18


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest differences between torch and onnxruntime over several batches."""

    probabilities: float
    """Absolute."""
    embedding: float
    """Relative to the embedding's largest value."""


def export_onnx(graph: ServingGraph, path: Path, *, clip_frames: int, crop: int, opset: int = 18) -> None:
    """Writes the graph with its weights to `path`; equal weights give equal bytes.

    Raises:
        UserError: an operator set that the exporter or Triton does not know.
        ServiceError: the exporter wrote a file that Triton's onnxruntime cannot read.
    """
    import onnx

    if opset not in OPSETS:
        raise UserError(f"export.opset: {opset} is not allowed; {OPSETS[0]} to {OPSETS[-1]}")
    model = _traced(graph.cpu().eval(), clip_frames=clip_frames, crop=crop, opset=opset)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    found = {entry.domain: entry.version for entry in model.opset_import}
    if found != {"": opset} or model.ir_version > MAX_IR:
        raise ServiceError(
            f"export: the exporter made opset {found}, IR {model.ir_version}: report the network's layers"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


def _traced(graph: ServingGraph, *, clip_frames: int, crop: int, opset: int) -> Any:
    example = torch.zeros(2, 3, clip_frames, crop * 3 // 2, crop, dtype=torch.uint8)
    dynamic = {INPUT: {0: torch.export.Dim("videos"), 1: torch.export.Dim("clips")}}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns about its own deprecated parts, which no caller can change.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def parity(
    path: Path,
    graph: ServingGraph,
    *,
    clip_frames: int,
    crop: int,
    batches: Sequence[tuple[int, int]] = ((1, 3), (3, 2), (8, 1)),
) -> Parity:
    """Compares torch with onnxruntime on random clips, at several numbers of (videos, clips)."""
    graph = graph.cpu().eval()
    runtime = session(path)
    rng = np.random.default_rng(0)
    worst = {"probabilities": 0.0, "embedding": 0.0}
    for videos, clips in batches:
        batch = rng.integers(0, 256, (videos, clips, clip_frames, crop * 3 // 2, crop), dtype=np.uint8)
        with torch.no_grad():
            expected = [output.numpy() for output in graph(torch.from_numpy(batch))]
        found = runtime.run(list(OUTPUTS), {INPUT: batch})
        scales = (1.0, float(np.abs(expected[1]).max()) or 1.0)
        for name, one, other, scale in zip(OUTPUTS, expected, found, scales, strict=True):
            worst[name] = max(worst[name], float(np.abs(one - other).max()) / scale)
    return Parity(**worst)


def export_bundle(
    graph: ServingGraph,
    folder: Path,
    *,
    spec: BundleSpec,
    golden: bytes,
    tolerance: float = 1e-4,
    golden_tolerance: float = 1e-3,
) -> tuple[Bundle, Parity]:
    """Writes a bundle: the graph, its contract, and a golden clip with the answer that onnxruntime gives here.

    Args:
        graph: what to serve.
        folder: where to; made if absent.
        spec: labels, clip geometry and identity of the model.
        golden: an encoded video, for the health probe.
        tolerance: largest difference of a probability between torch and onnxruntime.
        golden_tolerance: largest difference of the golden answer's probabilities on another machine.

    Raises:
        ServiceError: torch and onnxruntime disagree.
        UserError: the labels are not as many as the graph's classes.
        VideoError: the golden clip does not decode.
    """
    path = folder / ONNX
    export_onnx(graph, path, clip_frames=spec.clip_frames, crop=spec.crop, opset=spec.opset)
    agreement = parity(path, graph, clip_frames=spec.clip_frames, crop=spec.crop)
    if agreement.probabilities > tolerance:
        raise ServiceError(
            f"export: torch and onnxruntime differ by {agreement.probabilities:.2g} in a probability, "
            f"export.tolerance is {tolerance:g}: report the network's layers"
        )
    write_atomic(folder / GOLDEN, golden)
    contract = _contract(spec, folder, golden, tolerance=golden_tolerance)
    write_atomic(folder / CONTRACT, contract.to_json().encode())
    return read_bundle(folder), agreement


def _contract(spec: BundleSpec, folder: Path, golden: bytes, *, tolerance: float) -> Contract:
    """The contract of the exported graph, with the answer to the golden clip that onnxruntime gives."""
    draft = Contract(
        labels=tuple(spec.labels),
        clips=spec.clips,
        clip_frames=spec.clip_frames,
        crop=spec.crop,
        short_side=spec.short_side,
        fps=spec.fps,
        embedding=0,
        onnx_sha256=sha256_file(folder / ONNX),
        opset=spec.opset,
        classifier=spec.classifier,
        encoding=spec.encoding,
        golden=GoldenClip(
            video=GOLDEN,
            sha256=hashlib.sha256(golden).hexdigest(),
            probabilities=(0.0,) * len(spec.labels),
            tolerance=tolerance,
        ),
    )
    answer = InProcessModel(Bundle(folder=folder, contract=draft)).predict(golden)
    if len(answer.probabilities) != len(draft.labels):
        raise UserError(f"labels: {len(draft.labels)} for a graph of {len(answer.probabilities)} classes")
    known = dataclasses.replace(draft.golden, probabilities=answer.probabilities)
    return dataclasses.replace(draft, embedding=len(answer.embedding), golden=known)


def _strip(model: Any) -> None:
    """Removes the exporter's notes: source paths of this machine, stack traces, names of passes."""
    for message in (model, model.graph, *model.graph.node, *_values(model.graph), *model.functions):
        del message.metadata_props[:]
        message.doc_string = ""


def _values(graph: Any) -> Iterator[Any]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    yield from graph.initializer
