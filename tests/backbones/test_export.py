"""The small networks as ONNX, through the graph that is served."""

from pathlib import Path

import pytest
import torch
from torch import nn

from rushes.backbones import Backbone, make_backbone
from rushes.serving.export import export_onnx, parity
from rushes.serving.graph import ServingGraph

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", ["tiny_r3d", "tiny_r2plus1d", "tiny_frame", "tiny_stack"])
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net: Backbone = make_backbone(name)
    frames = net.frames or 8
    net(torch.randn(8, 3, frames, 48, 48))  # batch norm with statistics of its own
    graph = ServingGraph(net=net, head=nn.Linear(net.features, 5), mean=(0.45,) * 3, std=(0.225,) * 3)
    path = tmp_path / "model.onnx"
    export_onnx(graph, path, clip_frames=frames, crop=48)
    found = parity(path, graph, clip_frames=frames, crop=48, batches=((2, 3),))
    assert found.probabilities < 1e-4
    assert found.embedding < 1e-4
