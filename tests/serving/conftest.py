"""Small bundles of random networks, a ledger to promote them in, and one real Triton a session."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rushes.ledger import Champion, Ledger, LedgerEntry, now
from rushes.processes import Server
from rushes.serving import repository
from rushes.serving.bundle import FILES, Bundle
from rushes.serving.environment import can_run_triton
from rushes.serving.export import BundleSpec, export_bundle
from rushes.serving.graph import ServingGraph
from rushes.serving.prediction import Prediction
from rushes.serving.server import start_triton, stop_triton
from rushes.store import Manifest, Store, write_atomic
from rushes.video.encode import encode_h264


class TinyNet(nn.Module):
    """3-D convolutions, batch norm with statistics of its own, global average pool."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 8, 3, stride=(1, 2, 2), padding=1, bias=False),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, features, 3, stride=2, padding=1),
            nn.BatchNorm3d(features),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm3d):
                assert layer.running_mean is not None and layer.running_var is not None
                nn.init.normal_(layer.running_mean)
                nn.init.uniform_(layer.running_var, 0.5, 2)

    def forward(self, clips: Tensor) -> Tensor:
        pooled: Tensor = self.layers(clips).flatten(1)
        return pooled


def tiny_graph(*, classes: int = 5, features: int = 16, seed: int = 0) -> ServingGraph:
    torch.manual_seed(seed)
    head = nn.Linear(features, classes)
    nn.init.normal_(head.weight, std=2.0)  # answers that depend on the video
    return ServingGraph(net=TinyNet(features), head=head, mean=(0.45, 0.4, 0.5), std=(0.22, 0.25, 0.2))


def drifting_noise(*, frames: int = 30, height: int = 48, width: int = 64, fps: float = 25.0, seed: int = 0) -> bytes:
    """An mp4 whose every frame differs, and whose colours are its seed's."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 6, (frames, height * 3 // 2, width)).cumsum(0) + rng.uniform(40, 200)
    moves[:, height:] += rng.uniform(-80, 80)
    return encode_h264(iter(moves.clip(0, 255).astype(np.uint8)), fps=fps, qp=26, gop=12)


@pytest.fixture(scope="session")
def graph() -> ServingGraph:
    return tiny_graph()


@pytest.fixture(scope="session")
def video() -> bytes:
    return drifting_noise()


@pytest.fixture(scope="session")
def make_video() -> Callable[..., bytes]:
    return drifting_noise


@pytest.fixture(scope="session")
def five_actions(tmp_path_factory: pytest.TempPathFactory, graph: ServingGraph) -> Bundle:
    """Five labels, clips of 8 frames of 32 pixels."""
    bundle, _ = export_bundle(
        graph,
        tmp_path_factory.mktemp("five"),
        golden=drifting_noise(seed=1),
        spec=BundleSpec(
            labels=("clap", "hug", "kick", "sit", "wave"),
            clips=3,
            clip_frames=8,
            crop=32,
            short_side=36,
            fps=25.0,
            classifier="finetune/five",
        ),
    )
    return bundle


@pytest.fixture(scope="session")
def three_actions(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Other labels, another clip length, side and rate than `five_actions`."""
    bundle, _ = export_bundle(
        tiny_graph(classes=3, features=24, seed=1),
        tmp_path_factory.mktemp("three"),
        golden=drifting_noise(seed=2),
        spec=BundleSpec(
            labels=("fall", "jump", "run"),
            clips=2,
            clip_frames=12,
            crop=48,
            short_side=48,
            fps=None,
            classifier="finetune/three",
        ),
    )
    return bundle


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def promote(store: Store) -> Callable[..., Champion]:
    """Stores a bundle's folder as it is and makes it an endpoint's champion."""

    def promoted(endpoint: str, version: int, folder: Path, *, onnx_sha256: str | None = None) -> Champion:
        files = {name: store.put(folder / name) for name in FILES}
        digest = "".join(file.sha256[:8] for file in files.values())
        manifest = Manifest(kind="bundle", step="export", digest=digest, inputs={}, config={}, code="", files=files)
        store.publish(manifest)
        sha256 = onnx_sha256 or files["model.onnx"].sha256
        champion = Champion(version=version, bundle=manifest.ref, onnx_sha256=sha256)
        ledger = Ledger(store, endpoint)
        number = len(ledger.entries()) + 1
        entry = LedgerEntry(
            number=number,
            endpoint=endpoint,
            decision="promoted",
            challenger=champion,
            champion=champion,
            reason="test",
            time=now(),
        )
        assert ledger.append(entry)
        return champion

    return promoted


def free_ports(count: int = 3) -> int:
    """The first of several free ports in a row."""
    for first in range(18000, 30000, count):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@pytest.fixture(scope="session")
def triton_possible() -> None:
    reason = can_run_triton()
    if reason is not None:
        pytest.skip(f"no Triton here: {reason}")


@pytest.fixture(scope="session")
def triton_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def triton(triton_possible: None, triton_home: Path) -> Iterator[Server]:
    """One real server for the session; tests use endpoints of their own."""
    server = start_triton(home=triton_home, port=free_ports())
    yield server
    stop_triton(home=triton_home)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return free_ports


def stubs(server: Server, endpoint: str) -> list[int]:
    """Process ids of the Python stubs of one Triton model."""
    argv = ["ps", "-ww", "-eo", "pid=,pgid=,stat=,args="]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in shown.splitlines()]
    mine = [row for row in rows if int(row[1]) == server.pid and row[2][0] != "Z" and "backend_stub" in row[3]]
    return [int(row[0]) for row in mine if re.search(rf"/models/{endpoint}(_[0-9a-f]{{16}})?/", row[3])]


_SLOWED = """
    def execute(self, requests: list[Any]) -> list[Any]:
        import os, time

        began, pace = time.monotonic(), Path({pace!r})
        while pace.exists() and time.monotonic() < began + json.loads(pace.read_text()).get(str(os.getpid()), 0):
            time.sleep(0.02)
        return self._execute(requests)

    def _execute(self"""


@pytest.fixture
def slow_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[int], float], None]]:
    """Endpoints deployed from now on can be slowed: decoders by their process ids, seconds a request."""
    backends, pace = tmp_path / "backends", tmp_path / "pace.json"
    shutil.copytree(repository.BACKENDS, backends)
    model = backends / "action_recognition" / "model.py"
    model.write_text(model.read_text().replace("\n    def execute(self", _SLOWED.format(pace=str(pace))))
    monkeypatch.setattr(repository, "BACKENDS", backends)

    def slowed(pids: list[int], seconds: float) -> None:
        write_atomic(pace, json.dumps({str(pid): seconds for pid in pids}).encode())

    yield slowed
    pace.unlink(missing_ok=True)  # what hangs ends


@contextmanager
def crowd(ask: Callable[[], Prediction], *, clients: int) -> Iterator[list[Prediction]]:
    """Clients that ask again and again meanwhile; at the end a failure of any of them is raised."""
    stop = threading.Event()
    answers: list[Prediction] = []

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(ask())

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(keep_asking) for _ in range(clients)]
        try:
            while not answers and not any(client.done() for client in asking):
                time.sleep(0.02)
            yield answers
        finally:
            stop.set()
    for client in asking:
        client.result()
