"""The reconciler as a cluster's sidecar: when a replica may be asked, who may load, and when Triton may end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rushes.errors import ServiceError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.progress import NullProgress
from rushes.serving import probe
from rushes.serving.bundle import Bundle
from rushes.serving.client import predict
from rushes.serving.control_key import KEY_VARIABLE, read_key
from rushes.serving.server import address, start_triton, stop_triton
from rushes.serving.sidecar import Watcher, drain, watch
from rushes.serving.triton_api import TritonApi
from rushes.store import Store
from tests.serving.conftest import crowd, stubs

pytestmark = pytest.mark.servers

Promote = Callable[..., Champion]


@pytest.fixture
def replica(triton_possible: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Any) -> Iterator[Server]:
    """A Triton of its own that this home does not know: as on a cluster, its key comes by a variable."""
    home = tmp_path / "home"
    server = start_triton(home=home, port=free_port())
    monkeypatch.setenv(KEY_VARIABLE, str(read_key(home)))
    state = home / "servers" / "triton.json"
    away = state.rename(tmp_path / "triton.json")
    yield server
    away.rename(state)
    stop_triton(home=home)


@pytest.fixture
def watcher(replica: Server, tmp_path: Path, store: Store) -> Watcher:
    return Watcher(home=tmp_path / "home", store=store, server=address(replica))


class Heard(NullProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def asked(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:  # it does not listen yet
        return 0, {}


def eventually(probe: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_a_replica_is_ready_from_the_first_champion_it_answers_with(
    watcher: Watcher, promote: Promote, five_actions: Bundle, free_port: Callable[[], int]
) -> None:
    port, stop = free_port(), threading.Event()
    thread = threading.Thread(target=watch, args=(watcher,), kwargs={"every": 0.2, "port": port, "stop": stop})
    thread.start()
    try:
        eventually(lambda: asked(port, "/ready")[1].get("problem") == "no version has been promoted")
        assert asked(port, "/ready")[0] == 503 and asked(port, "/live") == (200, {"live": True})
        promote("actions", 1, five_actions.folder)
        eventually(lambda: asked(port, "/ready")[0] == 200)
        graphs = {"actions": five_actions.contract.onnx_sha256}
        served = {"ready": True, "endpoints": {"actions": 1}, "graphs": graphs, "problem": None}
        assert asked(port, "/ready")[1] == served
        assert asked(port, "/")[0] == 404
    finally:
        stop.set()
        thread.join()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


def test_a_champion_that_cannot_be_served_keeps_a_new_replica_out_and_an_old_one_in(
    watcher: Watcher, promote: Promote, five_actions: Bundle, three_actions: Bundle
) -> None:
    promote("actions", 1, five_actions.folder, onnx_sha256="0" * 64)
    state = watcher.reconcile()
    assert not state.ready and "holds another graph" in str(state.problem)
    promote("actions", 2, five_actions.folder)
    assert watcher.reconcile().ready
    promote("actions", 3, three_actions.folder, onnx_sha256="0" * 64)
    state = watcher.reconcile()
    assert state.ready and state.endpoints == {"actions": 2} and "version 2 stays" in str(state.problem)
    promote("actions", 4, three_actions.folder)
    state = watcher.reconcile()
    assert (state.ready, state.endpoints, state.problem) == (True, {"actions": 4}, None)


def test_without_the_store_a_replica_goes_on_and_a_dead_one_says_so(
    watcher: Watcher, replica: Server, promote: Promote, five_actions: Bundle, video: bytes
) -> None:
    promote("actions", 1, five_actions.folder)
    assert watcher.reconcile().ready
    assert watcher.store.local is not None
    shutil.move(watcher.store.local, away := watcher.store.local.with_name("away"))
    watcher.store.local.write_text("no folder any more")
    state = watcher.reconcile()
    assert state.ready and state.endpoints == {"actions": 1} and state.problem
    assert predict(video, endpoint="actions", url=address(replica)).version == 1

    shown = subprocess.run(["ps", "-ww", "-eo", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines() if "/models/actions/" in line]
    for row in rows:
        if int(row[1]) == replica.pid:
            os.kill(int(row[0]), signal.SIGKILL)
    state = watcher.reconcile()
    assert not state.ready and state.endpoints == {}

    watcher.store.local.unlink()
    shutil.move(away, watcher.store.local)
    assert watcher.reconcile().ready  # healed, now that the ledger can be read again


def test_an_overloaded_replica_stays_ready_and_says_so(
    watcher: Watcher,
    replica: Server,
    promote: Promote,
    five_actions: Bundle,
    video: bytes,
    slow_down: Callable[[list[int], float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote("actions", 1, five_actions.folder)
    assert watcher.reconcile().ready
    decoders = stubs(replica, "actions")
    slow_down(decoders, 0.25)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 2.0)
    watcher.progress = heard = Heard()
    with crowd(lambda: predict(video, endpoint="actions", url=address(replica)), clients=12 * len(decoders)) as answers:
        state = watcher.reconcile()
        assert state.ready and state.endpoints == {"actions": 1}
        assert any("actions: overloaded, it goes on answering: " in line for line in heard.lines)
        assert watcher.store.local is not None
        shutil.move(watcher.store.local, watcher.store.local.with_name("away"))
        watcher.store.local.write_text("no folder any more")
        state = watcher.reconcile()
        assert state.ready and state.endpoints == {"actions": 1} and state.problem
    assert {answer.version for answer in answers} == {1}
    assert stubs(replica, "actions") == decoders


def test_only_who_has_the_key_loads_and_everybody_may_ask(
    watcher: Watcher,
    replica: Server,
    promote: Promote,
    five_actions: Bundle,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote("actions", 1, five_actions.folder)
    assert watcher.reconcile().ready
    for key in (None, "", "guessed"):
        api = TritonApi(address(replica), key=key)
        for call in (api.load, api.unload, api.ready_versions):
            with pytest.raises(ServiceError, match=f"restricted.*{KEY_VARIABLE} holds the key"):
                call("actions")
        api.close()
    monkeypatch.delenv(KEY_VARIABLE)
    assert "restricted" in str(watcher.reconcile().problem)
    assert predict(video, endpoint="actions", url=address(replica)).version == 1


def test_triton_may_end_once_nobody_has_asked_for_a_while(
    watcher: Watcher, replica: Server, promote: Promote, five_actions: Bundle, video: bytes
) -> None:
    promote("actions", 1, five_actions.folder)
    assert watcher.reconcile().ready
    metrics = f"{replica.url('metrics')}/metrics"
    ended = []

    def keep_asking(until: float) -> None:
        while time.monotonic() < until:
            predict(video, endpoint="actions", url=address(replica))
        ended.append(time.monotonic())

    def draining(limit: float) -> tuple[bool, float]:
        drained = drain(metrics=metrics, settle=0.5, quiet=1.5, limit=limit)
        return drained, time.monotonic()

    clients = [threading.Thread(target=keep_asking, args=(time.monotonic() + 5,)) for _ in range(3)]
    for client in clients:
        client.start()
    assert not draining(limit=2)[0]
    drained, when = draining(limit=60)
    for client in clients:
        client.join()
    assert drained and when >= max(ended)


def test_a_triton_that_is_gone_needs_no_waiting_for(free_port: Callable[[], int]) -> None:
    began = time.monotonic()
    assert drain(metrics=f"http://127.0.0.1:{free_port()}/metrics", settle=1.0, quiet=0.5, limit=30)
    assert 1.0 <= time.monotonic() - began < 10
