"""Triton's control is closed: to web pages, to programs without the key, and to other machines."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes import processes
from rushes.errors import ServiceError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.serving import server as triton_server
from rushes.serving.bundle import Bundle
from rushes.serving.client import predict
from rushes.serving.control_key import GRPC_PREFIX, HEADER, make_key, read_key
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, start_triton, stop_triton, triton_status
from rushes.store import Store
from tests.attacks import Attack, listening, send, triton_attacks

pytestmark = pytest.mark.servers

PAGE = {"Content-Type": "text/plain;charset=UTF-8", "Origin": "http://evil.example", "Host": "evil.example:8000"}
"""What a browser says of a page's request; the host as after DNS rebinding."""


@pytest.fixture
def deployed(
    triton: Server, triton_home: Path, store: Store, promote: Callable[..., Champion], five_actions: Bundle
) -> str:
    promote("closed", 1, five_actions.folder)
    reconcile(home=triton_home, store=store, server=address(triton), endpoint="closed")
    return "closed"


@pytest.fixture
def owner(triton: Server, triton_home: Path) -> Iterator[Callable[..., Any]]:
    """Calls a method of the gRPC client with the key."""
    import tritonclient.grpc

    headers = {f"{GRPC_PREFIX}{HEADER}": str(read_key(triton_home))}
    with tritonclient.grpc.InferenceServerClient(address(triton)) as client:
        yield lambda method, **options: getattr(client, method)(headers=headers, **options)


@pytest.fixture
def state(owner: Callable[..., Any]) -> Callable[[], str]:
    """Everything that control can change in a server."""
    methods = ["get_model_repository_index", "get_log_settings", "get_trace_settings"]
    methods += ["get_system_shared_memory_status", "get_cuda_shared_memory_status"]
    return lambda: "".join(str(owner(method)) for method in methods)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where attacks would write."""
    (tmp_path / "attacked").mkdir()
    return tmp_path / "attacked"


def test_no_request_without_the_key_controls_triton(
    triton: Server, deployed: str, folder: Path, video: bytes, state: Callable[[], str]
) -> None:
    before = state()
    attacks = triton_attacks(folder, endpoint=deployed)
    for headers in ({}, PAGE, {HEADER: ""}, {HEADER: "guessed"}, {HEADER: "(hidden)"}):
        answers = {str(attack): send(attack, port=triton.ports["http"], headers=headers) for attack in attacks}
        assert set(answers.values()) == {403}, answers
    assert state() == before and list(folder.iterdir()) == []
    assert predict(video, endpoint=deployed, url=address(triton)).version == 1


def test_the_same_requests_take_effect_with_the_key(
    triton: Server, triton_home: Path, deployed: str, folder: Path, owner: Callable[..., Any]
) -> None:
    attacks = {str(attack): attack for attack in triton_attacks(folder, endpoint=deployed)}
    load = attacks["POST /v2/repository/models/evil/load"]
    assert send(load, port=triton.ports["http"], headers={HEADER: str(read_key(triton_home))}) == 200
    owner("unload_model", model_name="evil")
    assert (folder / "marker").read_text() == "run", "an attack that cannot succeed proves nothing"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:8000", "null"])
def test_a_page_gets_no_prediction(triton: Server, deployed: str, video: bytes, origin: str) -> None:
    import tritonclient.http
    from tritonclient.utils import InferenceServerException

    tensor = tritonclient.http.InferInput("VIDEO", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([video], dtype=np.object_))
    with tritonclient.http.InferenceServerClient(address(triton, "http")) as client:
        assert client.infer(deployed, [tensor]).as_numpy("VERSION").tolist() == [1]
        for name in ("Origin", "origin", "ORIGIN"):
            with pytest.raises(InferenceServerException, match="a page in a browser"):
                client.infer(deployed, [tensor], headers={name: origin})


SPELLINGS: list[Callable[[str, int], str]] = [
    lambda path, at: path[:at] + f"%{ord(path[at]):02x}" + path[at + 1 :],
    lambda path, at: path[:at] + f"%25{ord(path[at]):02x}" + path[at + 1 :],
    lambda path, at: path[:at] + path[at].swapcase() + path[at + 1 :],
    lambda path, at: path[:at] + "/" + path[at:],
    lambda path, at: path[:at] + "/./" + path[at:],
    lambda path, at: path[:at] + "/x/../" + path[at:],
    lambda path, at: path[:at] + ";x" + path[at:],
    lambda path, at: path + "?a=1",
    lambda path, at: path + "#a",
    lambda path, at: f"http://127.0.0.1:8000{path}",
    lambda path, at: path.replace("/repository/", "/repository/models/", 1),
    lambda path, at: path.replace("/v2", "", 1),
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_spelling_of_a_path_gets_round_the_key(
    triton: Server, deployed: str, folder: Path, state: Callable[[], str], data: st.DataObject
) -> None:
    before = state()
    attack = data.draw(st.sampled_from(triton_attacks(folder, endpoint=deployed)))
    path = attack.path
    for spell in data.draw(st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=3)):
        path = spell(path, data.draw(st.integers(0, len(path) - 1)))
    method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]))
    answer = send(Attack(method=method, path=path, body=attack.body), port=triton.ports["http"], headers=PAGE)
    assert answer != 200 and state() == before and list(folder.iterdir()) == [], path


@pytest.mark.parametrize("key", [None, "", "guessed", "(hidden)"])
def test_no_call_by_grpc_without_the_key_controls_triton(
    triton: Server, deployed: str, folder: Path, state: Callable[[], str], key: str | None
) -> None:
    import tritonclient.grpc
    from tritonclient.utils import InferenceServerException

    before = state()
    load = json.loads(next(a.body for a in triton_attacks(folder, endpoint=deployed) if a.path.endswith("evil/load")))
    region = {"name": "evil", "key": "/evil", "byte_size": 64}
    calls: dict[str, dict[str, Any]] = {
        "load_model": {"model_name": "evil", "config": load["parameters"]["config"], "files": {"file:1/model.py": b""}},
        "unload_model": {"model_name": deployed},
        "get_model_repository_index": {},
        "get_model_config": {"model_name": deployed},
        "get_inference_statistics": {},
        "get_trace_settings": {},
        "update_trace_settings": {"settings": {"trace_file": str(folder / "trace")}},
        "get_log_settings": {},
        "update_log_settings": {"settings": {"log_file": str(folder / "log")}},
        "get_system_shared_memory_status": {},
        "register_system_shared_memory": region,
        "unregister_system_shared_memory": {},
        "get_cuda_shared_memory_status": {},
        "register_cuda_shared_memory": {"name": "evil", "raw_handle": b"eA==", "device_id": 0, "byte_size": 64},
        "unregister_cuda_shared_memory": {},
    }
    headers = None if key is None else {f"{GRPC_PREFIX}{HEADER}": key}
    with tritonclient.grpc.InferenceServerClient(address(triton)) as client:
        for method, options in calls.items():
            with pytest.raises(InferenceServerException, match="restricted"):
                getattr(client, method)(headers=headers, **options)
    assert state() == before and list(folder.iterdir()) == []


def test_triton_and_what_it_starts_listen_on_loopback_only(triton: Server, deployed: str) -> None:
    assert listening(triton.pid) == {("127.0.0.1", port) for port in triton.ports.values()}
    for name in {found.address for each in psutil.net_if_addrs().values() for found in each}:
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        if name.startswith(("127.", "::1")) or name.count(":") == 5:
            continue  # loopback, or a network card's number
        for port in triton.ports.values():
            with socket.socket(family) as client, pytest.raises(OSError):
                client.settimeout(5)
                client.connect((name, port))


def test_the_key_is_in_no_log_list_of_processes_or_answer(
    triton: Server, triton_home: Path, deployed: str, folder: Path, store: Store
) -> None:
    key = str(read_key(triton_home))
    assert len(key) >= 32 and not triton.exposed
    members = [psutil.Process(triton.pid), *psutil.Process(triton.pid).children(recursive=True)]
    assert len(members) > 2, "its stubs"
    for process in (*members, psutil.Process()):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                assert key.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()
    assert key not in subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    answers = [send(attack, port=triton.ports["http"]) for attack in triton_attacks(folder, endpoint=deployed)]
    assert answers
    holders = [path for path in triton_home.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    (file,) = holders
    assert file == triton_home / "servers" / "triton.key" and file.stat().st_mode & 0o777 == 0o600


def test_each_home_has_a_key_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in "abc"]
    keys = [make_key(home) for home in homes]
    assert len(set(keys)) == 3 and [read_key(home) for home in homes] == keys == [make_key(home) for home in homes]
    assert read_key(tmp_path / "none") is None


def test_a_key_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    file = tmp_path / "servers" / "triton.key"
    for mode in (0o644, 0o640, 0o604):
        file.chmod(mode)
        assert make_key(tmp_path) != key
        key = make_key(tmp_path)
        assert file.stat().st_mode & 0o777 == 0o600


def test_an_open_server_of_an_earlier_version_is_started_anew(
    triton_possible: None, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(triton_server, "_HIDDEN", [])
        earlier.setattr(triton_server, "closing_arguments", lambda key: [])
        earlier.setattr(triton_server, "is_closed", lambda server, *, home: True)
        before = start_triton(home=tmp_path, port=free_port())
    attack = Attack(method="POST", path="/v2/repository/index", body="{}")
    try:
        assert send(attack, port=before.ports["http"]) == 200
        server = start_triton(home=tmp_path, port=before.ports["http"])
        assert server.pid != before.pid and not processes.alive(before) and server == triton_status(home=tmp_path)
        assert send(attack, port=server.ports["http"]) == 403
        assert start_triton(home=tmp_path) == server, "once"
        (tmp_path / "servers" / "triton.key").unlink()
        anew = start_triton(home=tmp_path, port=server.ports["http"])
        assert anew.pid != server.pid, "nobody could control it"
    finally:
        stop_triton(home=tmp_path)


def test_triton_itself_refuses_what_stands_for_a_hidden_argument(
    triton_possible: None, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_server, "closing_arguments", lambda key: triton_server._HIDDEN)
    with pytest.raises(ServiceError, match="ended while starting"):
        start_triton(home=tmp_path, port=free_port())
    assert triton_status(home=tmp_path) is None
