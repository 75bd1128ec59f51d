"""Waiting for every replica of a cluster: real probes of watchers, on addresses of this machine's loopback network."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rushes.config import DeployConfig
from rushes.errors import ServiceError, UserError
from rushes.ledger import Champion, Ledger
from rushes.recipes import load_recipe
from rushes.serving.bundle import Bundle
from rushes.serving.replicas import VARIABLE, await_replicas, replicas_address
from rushes.serving.sidecar import ReplicaState, Watcher, serve_probes
from rushes.steps.deploy import deploy
from rushes.store import Manifest, Store

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@contextmanager
def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> Iterator[list[Watcher]]:
    """Three watchers that look at nothing, and whose probes answer at an address each, all known by one name."""
    watchers = []
    with ExitStack() as stack:
        for address in ADDRESSES:
            watcher = Watcher(home=tmp_path / address, store=Store(str(tmp_path / "store")), server="127.0.0.1:1")
            stack.enter_context(serve_probes(watcher, port=port, host=address))
            watchers.append(watcher)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ADDRESSES]
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: found if host == "replicas" else resolve(host, *a, **k)
        )
        yield watchers


def champion(version: int) -> Champion:
    return Champion(version=version, bundle=f"export/{version}", onnx_sha256=f"{version:064x}")


def serving(version: int, graph: str = "") -> ReplicaState:
    graphs = {"actions": graph or champion(version).onnx_sha256}
    return ReplicaState(ready=True, endpoints={"actions": version}, graphs=graphs, problem=None)


def test_it_waits_for_the_last_replica_and_follows_a_later_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Any
) -> None:
    port, named = free_port(), [2]
    with replicas(tmp_path, monkeypatch, port) as watchers:
        for watcher in watchers[:2]:
            watcher.state = serving(2)
        watchers[2].state = serving(1)

        def promote_and_follow() -> None:
            time.sleep(1.5)
            named[0] = 3
            for watcher in watchers:
                time.sleep(0.5)
                watcher.state = serving(3)

        follower = threading.Thread(target=promote_and_follow)
        follower.start()
        served = await_replicas(f"replicas:{port}", endpoint="actions", wanted=lambda: champion(named[0]), seconds=60)
        follower.join()
        assert served == champion(3)


def test_a_replica_that_stays_behind_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Any
) -> None:
    port = free_port()
    with replicas(tmp_path, monkeypatch, port) as watchers:
        for watcher in watchers:
            watcher.state = serving(2)
        watchers[1].state = replace(serving(1), problem="the golden clip failed")
        watchers[2].state = ReplicaState()
        with pytest.raises(ServiceError) as failed:
            await_replicas(f"replicas:{port}", endpoint="actions", wanted=lambda: champion(2), seconds=1.5)
    words = str(failed.value)
    assert f"127.0.0.2 serves version 1, graph {'0' * 12} (the golden clip failed)" in words
    assert "127.0.0.3 serves nothing (nothing has been looked at yet)" in words and "127.0.0.1 " not in words


def test_another_graph_under_the_same_number_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Any
) -> None:
    """As after MLflow's database was made anew: its numbers begin at 1 again."""
    port = free_port()
    with replicas(tmp_path, monkeypatch, port) as watchers:
        for watcher in watchers:
            watcher.state = serving(2)
        watchers[1].state = serving(2, graph="f" * 64)
        with pytest.raises(ServiceError, match=r"version 2 of actions: 127\.0\.0\.2 serves version 2, graph f{12}$"):
            await_replicas(f"replicas:{port}", endpoint="actions", wanted=lambda: champion(2), seconds=0.5)


def test_the_step_deploy_waits_for_the_replicas_where_it_is_told_of_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_port: Any,
    store: Store,
    promote: Callable[..., Champion],
    five_actions: Bundle,
) -> None:
    promoted = promote("actions", 2, five_actions.folder)
    (entry,) = Ledger(store, "actions").entries()
    decision = tmp_path / "decision.json"
    Manifest(
        kind="decision",
        step="promote",
        digest="actions-000001",
        inputs={},
        config={},
        code="",
        files={"gate.json": store.put_bytes(entry.to_json().encode())},
        summary={"endpoint": "actions", "entry": 1, "version": 2},
    ).write(decision)
    port = free_port()
    monkeypatch.setenv("RUSHES_STORE", store.url)
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    with replicas(tmp_path, monkeypatch, port) as watchers:
        monkeypatch.setenv(VARIABLE, f"replicas:{port}")
        recipe = replace(load_recipe("pace-r2plus1d"), deploy=DeployConfig(timeout_seconds=0.5))
        for watcher in watchers[1:]:
            watcher.state = serving(2, promoted.onnx_sha256)
        with pytest.raises(ServiceError, match=r"version 2 of actions: 127\.0\.0\.1 serves nothing"):
            deploy(recipe=recipe, decision=decision, out=tmp_path / "deployment.json")
        watchers[0].state = serving(2, promoted.onnx_sha256)
        deployment = deploy(recipe=recipe, decision=decision, out=tmp_path / "deployment.json")
    assert deployment.summary == {
        "endpoint": "actions",
        "decided": 2,
        "version": 2,
        "bundle": promoted.bundle,
        "served_by": "triton",
    }


def test_no_replica_at_all_is_no_success(free_port: Any) -> None:
    with pytest.raises(ServiceError, match="serves nothing"):
        await_replicas(f"127.0.0.1:{free_port()}", endpoint="actions", wanted=lambda: champion(2), seconds=0)
    with pytest.raises(ServiceError, match=r"no replica is found at nowhere\.invalid:1"):
        await_replicas("nowhere.invalid:1", endpoint="actions", wanted=lambda: champion(2), seconds=0)


def test_the_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert replicas_address() is None
    monkeypatch.setenv(VARIABLE, "triton-replicas")
    with pytest.raises(UserError, match=r"RUSHES_REPLICAS: 'triton-replicas' is not host:port"):
        replicas_address()
