"""Exported graphs: the same answers as torch on every ONNX Runtime that serves them, from the laptop's to the newest.

Each release is installed from PyPI into a folder of its own.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from rushes.backbones import BACKBONES, Backbone, make_backbone, parameter_count
from rushes.serving.export import MAX_IR, OPSETS, export_onnx
from rushes.serving.graph import ServingGraph

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
LAPTOP, LOCKED = (
    re.findall(r"(?m)^onnxruntime==(\S+)", (ROOT / "requirements" / name).read_text())[0]
    for name in ("triton.lock", "rushes.lock")
)
RELEASES = (LAPTOP, "1.20.1", "1.27.0", "1.28.0", LOCKED)
"""The laptop's Triton; the images 24.12, 26.07 and 26.08; and the one that `export` compares with."""
ANSWER = """
import json, sys
import numpy, onnxruntime
folder, *names = sys.argv[1:]
found = {}
for name in names:
    try:
        session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
        results = session.run(None, {"clips": numpy.load(f"{folder}/{name}.npy")})
        numpy.savez(f"{folder}/{name}-{onnxruntime.__version__}.npz", *results)
        found[name] = "ok"
    except Exception as error:
        found[name] = str(error)
print(json.dumps([onnxruntime.__version__, found]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each release in a folder of its own name; RUSHES_TEST_WHEELS keeps them for another time."""
    kept = os.environ.get("RUSHES_TEST_WHEELS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("onnxruntimes")
    for release in dict.fromkeys(RELEASES):
        if not (folder / release).is_dir():
            argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            ran = subprocess.run(
                [*argv, "--target", str(folder / release), f"onnxruntime=={release}"], capture_output=True, text=True
            )
            if ran.returncode:
                pytest.skip(f"pip reaches no package index from here: {ran.stderr.splitlines()[-1:]}")
    return folder


def answers(packages: Path, release: str, folder: Path, *names: str) -> dict[str, str]:
    """What a release says to the graphs of these names: "ok", with the results in a file, or its error."""
    ran = subprocess.run(
        [sys.executable, "-c", ANSWER, str(folder), *names],
        env={**os.environ, "PYTHONPATH": str(packages / release)},
        capture_output=True,
        text=True,
        check=True,
    )
    version, found = json.loads(ran.stdout.splitlines()[-1])
    assert version == release
    return dict(found)


def small() -> list[str]:
    with torch.device("meta"):
        return [name for name in BACKBONES if parameter_count(make_backbone(name)) < 40e6]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """Networks (the small ones at every opset that export takes), random clips, and torch's answers to them."""
    folder, expected = tmp_path_factory.mktemp("exported"), {}
    for backbone in small():
        torch.manual_seed(0)
        net: Backbone = make_backbone(backbone)
        frames, side = net.frames or 8, max(48, net.least_side + net.least_side % 2)
        net(torch.randn(4, 3, frames, side, side))  # batch norm with statistics of its own
        head = nn.Linear(net.features, 5)
        graph = ServingGraph(net=net, head=head, mean=(0.45,) * 3, std=(0.225,) * 3).eval()
        clips = np.random.default_rng(0).integers(0, 256, (3, 2, frames, side * 3 // 2, side), dtype=np.uint8)
        with torch.no_grad():
            answer = [output.numpy() for output in graph(torch.from_numpy(clips))]
        for opset in OPSETS if parameter_count(net) < 2e6 else OPSETS[:1]:
            name = f"{backbone}-{opset}"
            export_onnx(graph, folder / f"{name}.onnx", clip_frames=frames, crop=side, opset=opset)
            np.save(folder / f"{name}.npy", clips)
            expected[name] = answer
    return folder, expected


@pytest.mark.parametrize("release", dict.fromkeys(RELEASES))
def test_every_release_answers_as_torch_does(
    release: str, packages: Path, exported: tuple[Path, dict[str, list[np.ndarray]]]
) -> None:
    folder, expected = exported
    assert set(answers(packages, release, folder, *expected).values()) == {"ok"}
    for name, (probabilities, embedding) in expected.items():
        with np.load(folder / f"{name}-{release}.npz") as found:
            assert np.abs(found["arr_0"] - probabilities).max() <= 1e-5, name
            assert np.abs(found["arr_1"] - embedding).max() <= 1e-5 * np.abs(embedding).max(), name


def test_the_limits_of_export_are_those_of_the_oldest_release(packages: Path, tmp_path: Path) -> None:
    """The largest opset and IR are read by all; one IR more is refused by the laptop's."""
    for ir in (MAX_IR, MAX_IR + 1):
        clips = helper.make_tensor_value_info("clips", TensorProto.FLOAT, [2])
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])
        graph = helper.make_graph([helper.make_node("Relu", ["clips"], ["out"])], "graph", [clips], [out])
        model = helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", OPSETS[-1])])
        onnx.save_model(model, str(tmp_path / f"ir{ir}.onnx"))
        np.save(tmp_path / f"ir{ir}.npy", np.zeros(2, dtype=np.float32))
    for release in RELEASES:
        said = answers(packages, release, tmp_path, f"ir{MAX_IR}", f"ir{MAX_IR + 1}")
        assert said[f"ir{MAX_IR}"] == "ok", release
    assert "Unsupported model IR version" in answers(packages, LAPTOP, tmp_path, f"ir{MAX_IR + 1}")[f"ir{MAX_IR + 1}"]
