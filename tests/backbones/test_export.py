"""Every network can be exported, and the small ones compute the same as ONNX, through the graph that is served.

Both by discovery: a new network is tested as soon as it is registered.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from rushes.backbones import BACKBONES, Backbone, make_backbone, parameter_count
from rushes.serving.export import export_onnx, parity
from rushes.serving.graph import ServingGraph

pytest.importorskip("onnxruntime")


def size(name: str) -> int:
    with torch.device("meta"):
        return parameter_count(make_backbone(name))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_is_plain_tensor_operations_that_torch_exports(name: str) -> None:
    with torch.device("meta"):  # shapes only
        net: Backbone = make_backbone(name).eval()
        side, frames = net.least_side + net.least_side % 2, net.frames or net.least_frames
        exported = torch.export.export(net, (torch.zeros(2, 3, frames, side, side),))
    (output,) = exported.graph_module.graph.output_node().args[0]
    assert output.meta["val"].shape == (2, net.features)


@pytest.mark.parametrize("name", [name for name in BACKBONES if size(name) < 2e6])
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
