"""ONNX: the same answers as torch, on today's onnxruntime and on the one that Triton 24.10 carries."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rushes.config import ExportConfig
from rushes.errors import ServiceError, UserError
from rushes.serving.bundle import Bundle, session
from rushes.serving.environment import ensure_environment
from rushes.serving.export import MAX_IR, OPSETS, BundleSpec, export_bundle, export_onnx, parity
from rushes.serving.graph import ServingGraph

RUN_ELSEWHERE = """
import sys, json, numpy, onnxruntime
model, clips, out = sys.argv[1:]
results = onnxruntime.InferenceSession(model).run(None, {"clips": numpy.load(clips)})
numpy.savez(out, *results)
print(onnxruntime.__version__)
"""


def test_onnxruntime_gives_what_torch_gives_at_every_number_of_videos(
    five_actions: Bundle, graph: ServingGraph
) -> None:
    for clips in (1, 3):
        found = parity(five_actions.onnx, graph, clip_frames=8, crop=32, batches=[(v, clips) for v in (1, 3, 8)])
        assert found.probabilities <= 1e-6
        assert found.embedding <= 1e-5


def test_parity_sees_a_graph_with_other_weights(five_actions: Bundle, graph: ServingGraph) -> None:
    moved = ServingGraph(net=graph.net, head=graph.head, mean=(0.40, 0.4, 0.5), std=(0.22, 0.25, 0.2))
    assert parity(five_actions.onnx, moved, clip_frames=8, crop=32).probabilities > 1e-3


@pytest.mark.servers
@pytest.mark.parametrize("videos", [1, 3, 8])
def test_tritons_onnxruntime_gives_what_torch_gives(
    triton_possible: None, five_actions: Bundle, graph: ServingGraph, tmp_path: Path, videos: int
) -> None:
    clips = np.random.default_rng(videos).integers(0, 256, (videos, 2, 8, 48, 32), dtype=np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    python = ensure_environment() / "bin" / "python"
    files = (five_actions.onnx, tmp_path / "clips.npy", tmp_path / "out.npz")
    argv = [str(python), "-c", RUN_ELSEWHERE, *map(str, files)]
    version = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert version == "1.19.2"
    with torch.no_grad():
        expected = [output.numpy() for output in graph(torch.from_numpy(clips))]
    with np.load(tmp_path / "out.npz") as found:
        assert np.abs(found["arr_0"] - expected[0]).max() <= 1e-6
        assert np.abs(found["arr_1"] - expected[1]).max() <= 1e-5


def test_the_file_is_within_tritons_opset_and_whole_and_names_no_source_file(
    five_actions: Bundle, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(five_actions.onnx.read_bytes())
    model = onnx.load(alone, load_external_data=False)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18}
    assert model.ir_version <= MAX_IR
    session(alone)  # no file beside it is needed
    assert b".py" not in alone.read_bytes()
    names = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert names == [["videos", "clips", 8, 48, 32]]


def test_equal_weights_give_equal_bytes(five_actions: Bundle, graph: ServingGraph, tmp_path: Path) -> None:
    export_onnx(graph, tmp_path / "again.onnx", clip_frames=8, crop=32)
    assert (tmp_path / "again.onnx").read_bytes() == five_actions.onnx.read_bytes()


def test_an_opset_that_triton_or_the_exporter_does_not_know_is_refused(graph: ServingGraph, tmp_path: Path) -> None:
    for opset in (17, 21):
        with pytest.raises(UserError, match=f"export.opset: {opset} is not allowed; 18 to 20"):
            export_onnx(graph, tmp_path / "no.onnx", clip_frames=8, crop=32, opset=opset)


def test_a_recipe_takes_the_opsets_that_export_takes() -> None:
    assert [ExportConfig(opset=opset).opset for opset in OPSETS] == list(OPSETS)
    for opset in (OPSETS[0] - 1, OPSETS[-1] + 1):
        with pytest.raises(UserError, match=f"export.opset: {opset} is not allowed; {OPSETS[0]} to {OPSETS[-1]}"):
            ExportConfig(opset=opset)


def test_a_bundle_that_differs_from_torch_is_not_written(graph: ServingGraph, video: bytes, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"differ by .* export\.tolerance is -1"):
        export_bundle(
            graph,
            tmp_path,
            golden=video,
            tolerance=-1,
            spec=BundleSpec(
                labels=tuple("abcde"),
                clips=1,
                clip_frames=8,
                crop=32,
                short_side=36,
                fps=None,
                classifier="finetune/x",
            ),
        )
    assert not (tmp_path / "contract.json").exists()


def test_labels_that_are_not_the_graphs_classes_are_refused(graph: ServingGraph, video: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labels: 3 for a graph of 5 classes"):
        export_bundle(
            graph,
            tmp_path,
            golden=video,
            spec=BundleSpec(
                labels=tuple("abc"),
                clips=1,
                clip_frames=8,
                crop=32,
                short_side=36,
                fps=None,
                classifier="finetune/x",
            ),
        )
    assert not (tmp_path / "contract.json").exists()


def test_the_contract_says_what_was_exported(five_actions: Bundle) -> None:
    record = json.loads((five_actions.folder / "contract.json").read_text())
    assert record["labels"] == ["clap", "hug", "kick", "sit", "wave"]
    assert (record["clips"], record["clip_frames"], record["crop"], record["fps"]) == (3, 8, 32, 25.0)
    assert record["embedding"] == 16 and record["opset"] == 18
    assert sum(record["golden"]["probabilities"]) == pytest.approx(1)
