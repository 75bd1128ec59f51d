"""Several machines and one store on S3: who begins early, who has no disk, who dies, and who shares the work."""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rushes.store import Manifest, Store
from tests.footage.conftest import write_video
from tests.footage.remote import bytes_of, put_footage
from tests.integration.node import STEPS, Node
from tests.s3 import S3, running

BUCKET = "s3://bucket/store"
SAVED = STEPS * 2 // 3
"""A step within an epoch, whose state a checkpoint holds."""


@dataclass
class Cluster:
    """A server with a store, and what a machine with the same footage in a folder makes of it."""

    server: S3
    store: Store
    footage: Path
    weights: str
    """SHA-256 of the weights that pretraining ends in."""
    folder: Path

    def node(self, name: str, **more: object) -> Node:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return Node(folder, BUCKET, self.server.environment, **more)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Nothing is pretrained any more."""
        for step in ("pretrain", "sample"):
            for name in self.store.names(f"steps/{step}"):
                if name != "feed.json":
                    self.store.remove(f"steps/{step}/{name}")

    def checkpoints(self) -> list[str]:
        return [
            name for digest in self.store.names("checkpoints") for name in self.store.names(f"checkpoints/{digest}")
        ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    here = Store(str(folder / "store"))
    manifest = put_footage(here, shards=60, segments=8, held_out=1)
    manifest.write(folder / "footage.json")
    alone = Node(folder / "alone", str(folder / "store"))
    alone.run_here("pretrain", folder / "footage.json", folder / "backbone.json")
    with running(folder) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        store = _bucket(folder)
        for path in (folder / "store" / "objects").glob("*/*"):
            store.put(path)
        store.publish(manifest)
        yield Cluster(server, store, folder / "footage.json", _weights(folder / "backbone.json"), folder)


def _bucket(folder: Path) -> Store:
    import fsspec

    fsspec.filesystem("s3").mkdir("bucket")
    return Store(BUCKET, cache=folder / "cache")


def _weights(pointer: Path) -> str:
    return Manifest.read(pointer, kind="backbone").files["weights.safetensors"].sha256


def _size(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return found


def _pretrain_watched(node: Node, server: S3, footage: Path, out: Path) -> tuple[int, int]:
    """Pretrains; bytes in the node's cache, and bytes that the server had sent, at the first optimiser step."""
    began, cached = time.time(), -1
    process = node.start("pretrain", footage, out)
    while process.poll() is None:
        if cached < 0 and node.trained():
            cached = _size(node.cache)
        time.sleep(0.01)
    assert process.returncode == 0 and cached >= 0, node.log()
    return cached, server.sent(since=began, until=node.trained()[0]["time"])


def test_training_begins_before_a_twentieth_is_here_and_ends_as_from_a_folder(cluster: Cluster) -> None:
    cluster.forget()
    node, out = cluster.node("a"), cluster.folder / "a.json"
    cached, sent = _pretrain_watched(node, cluster.server, cluster.footage, out)
    whole = bytes_of(cluster.store, Manifest.read(cluster.footage))
    assert 0 < cached < 0.05 * whole and 0 < sent < 0.05 * whole, (cached, sent, whole)
    assert _weights(out) == cluster.weights
    assert _size(node.cache) > cached, "what is read often comes whole"


def test_a_full_cache_disk_makes_training_slower_and_changes_nothing(cluster: Cluster) -> None:
    cluster.forget()
    cache = cluster.folder / "full" / "cache"
    full = f"mount -t tmpfs -o size=64k rushes {cache} && (head -c 1M /dev/zero > {cache}/other || true)"
    within = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'mkdir -p {cache} && {full} && exec "$@"', "sh"]
    (cluster.folder / "full").mkdir(exist_ok=True)
    if subprocess.run([*within, "true"], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: neither root nor user namespaces")
    node, out = cluster.node("full", within=within), cluster.folder / "full.json"
    node.run("pretrain", cluster.footage, out)
    assert _weights(out) == cluster.weights
    said = [line for line in node.log().splitlines() if "takes no more" in line]
    assert 1 <= len(said) <= 2, "the step, and its one worker"


def test_training_that_is_killed_goes_on_on_another_machine(cluster: Cluster) -> None:
    cluster.forget()
    first, out = cluster.node("b"), cluster.folder / "b.json"
    process = first.start("pretrain", cluster.footage, out)
    while not first.trained() or first.trained()[-1]["done"] <= SAVED:  # before the next step, its state is stored
        assert process.poll() is None, first.log()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    shutil.rmtree(first.folder)

    second = cluster.node("c")
    second.run_here("pretrain", cluster.footage, out)
    assert second.trained()[0]["done"] >= SAVED, "not from the beginning"
    assert _weights(out) == cluster.weights
    assert cluster.checkpoints() == []


@pytest.mark.soak  # with a folder as the store: test_archives.py; partitions on S3: test_launcher.py
def test_parts_of_an_archive_on_two_machines_are_joined_on_a_third(cluster: Cluster, tmp_path: Path) -> None:
    cluster.forget()
    for number in range(7):
        write_video(tmp_path / "videos" / f"{number}.mp4", frames=30, first=9 * number)
    alone = Node(tmp_path / "alone", str(tmp_path / "store"))
    alone.run("pin", tmp_path / "videos", tmp_path / "pin.json")
    alone.run("sample", tmp_path / "pin.json", tmp_path / "alone.json", "")

    nodes = [cluster.node(name) for name in ("d", "e", "f")]
    nodes[0].run("pin", tmp_path / "videos", tmp_path / "pin.json")
    for number in (1, 2):
        nodes[number - 1].run("sample", tmp_path / "pin.json", tmp_path / f"{number}.json", f"{number}/2")
    nodes[2].run("sample", tmp_path / "pin.json", tmp_path / "joined.json", "")
    said = [event["message"] for event in nodes[2].events() if event["event"] == "say"]
    assert "4 of 4 shards are complete from an earlier run" in said
    joined, whole = Manifest.read(tmp_path / "joined.json"), Manifest.read(tmp_path / "alone.json")
    assert (joined.ref, joined.files, joined.summary) == (whole.ref, whole.files, whole.summary)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_two_gigabytes_in_the_store_and_kilobytes_between_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards as large as an archive's: 64 segments of 0.7 MB. `--log-cli-level INFO` shows the figures."""
    with running(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store, footage, out = _bucket(tmp_path), tmp_path / "footage.json", tmp_path / "backbone.json"
        manifest = put_footage(store, shards=45, segments=64, qp=8, height=128, width=160, held_out=1)
        manifest.write(footage)
        whole = bytes_of(store, manifest)
        assert whole > 2e9
        cached, sent = _pretrain_watched(Node(tmp_path / "a", BUCKET, server.environment), server, footage, out)
        carried = footage.stat().st_size + out.stat().st_size
        figures = (
            f"{whole:,} bytes of footage; at the first step {cached:,} in the cache, {sent:,} sent; {carried:,} carried"
        )
        logging.getLogger(__name__).info(figures)
        assert cached < 0.05 * whole and sent < 0.05 * whole, figures
        assert carried < 1e6, figures
