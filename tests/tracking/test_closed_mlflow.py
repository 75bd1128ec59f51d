"""The local MLflow answers its own pages and programs, and no other page in a browser."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes import processes
from rushes.processes import Server
from rushes.tracking import server as mlflow_server
from rushes.tracking.same_origin import is_foreign
from rushes.tracking.server import is_closed, start_mlflow
from tests.attacks import Attack, listening, mlflow_attacks, send
from tests.integration.conftest import free_ports

HOSTS = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z]{2,3})?(:[1-9][0-9]{0,3})?", fullmatch=True)


def headers(**found: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in found.items()]


@given(host=HOSTS, other=HOSTS, scheme=st.sampled_from(["http", "https"]), method=st.sampled_from(["GET", "POST"]))
def test_a_page_is_the_servers_own_only_by_name_and_port(host: str, other: str, scheme: str, method: str) -> None:
    assert is_foreign(headers(host=host, origin=f"{scheme}://{other}"), method=method) == (host != other)
    assert not is_foreign(headers(host=host), method=method), "a program"
    for origin in ("null", "", "file://", "about:blank", host, f"//{other}", f"{scheme}://{host}@{other}/"):
        assert is_foreign(headers(host=host, origin=origin), method=method) or origin == f"//{host}"


@given(method=st.sampled_from(["GET", "POST", "PUT"]), mode=st.sampled_from(["navigate", "no-cors", "cors"]))
@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
@pytest.mark.parametrize("dest", ["document", "iframe", "image", "empty"])
def test_another_page_may_only_link(site: str, dest: str, method: str, mode: str) -> None:
    link = method == "GET" and mode == "navigate" and dest == "document"
    fetched = headers(host="a", sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)
    assert is_foreign(fetched, method=method) == (not link)


def test_two_hosts_or_origins_are_no_way_round() -> None:
    assert is_foreign([(b"host", b"a"), (b"Host", b"b"), (b"origin", b"http://a")], method="POST")
    assert is_foreign([(b"host", b"a"), (b"origin", b"http://a"), (b"Origin", b"http://b")], method="POST")


# The real server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def mlflow(home: Path) -> Iterator[Server]:
    server = start_mlflow(home=home, port=free_ports(1)[0])
    yield server
    processes.stop(name="mlflow", home=home)


@pytest.fixture
def state(mlflow: Server) -> Callable[[], str]:
    """What the tracking server holds."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow.url("http"))
    return lambda: str([client.search_experiments(), client.search_registered_models()])


@pytest.mark.servers
def test_no_path_of_mlflow_answers_another_page(mlflow: Server, state: Callable[[], str]) -> None:
    port, before = mlflow.ports["http"], state()
    own = f"127.0.0.1:{port}"
    foreign = [
        {"Origin": "http://evil.example", "Host": own},
        {"Origin": f"http://127.0.0.1:{port + 1}", "Host": own},
        {"Origin": f"http://localhost:{port}", "Host": own},
        {"Origin": "null", "Host": own},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Host": own},
    ]
    rebound = {"Origin": f"http://evil.example:{port}", "Host": f"evil.example:{port}"}
    attacks = mlflow_attacks()
    assert len(attacks) > 150, "every route of MLflow"
    for said in foreign:
        answers = {str(a): send(a, port=port, headers={"Content-Type": "text/plain"} | said) for a in attacks}
        assert set(answers.values()) == {403}, {path: answer for path, answer in answers.items() if answer != 403}
    answers = {str(a): send(a, port=port, headers={"Content-Type": "text/plain"} | rebound) for a in attacks}
    passed = {path.split()[1] for path, answer in answers.items() if answer != 403}
    assert passed <= {"/health", "/version"}, passed
    assert state() == before


@pytest.mark.servers
def test_its_own_pages_and_programs_pass(mlflow: Server, state: Callable[[], str]) -> None:
    port = mlflow.ports["http"]
    for number, host in enumerate((f"127.0.0.1:{port}", f"localhost:{port}", "localhost:12345")):
        page = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        body = json.dumps({"name": f"made-{number}"})
        create = Attack(method="POST", path="/api/2.0/mlflow/experiments/create", body=body)
        assert send(create, port=port, headers=page | {"Content-Type": "application/json"}) == 200
        assert f"made-{number}" in state()
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert send(Attack(method="GET", path="/"), port=port, headers=link) == 200


@pytest.mark.servers
def test_mlflow_and_what_it_starts_listen_on_loopback_only(mlflow: Server) -> None:
    assert listening(mlflow.pid) == {("127.0.0.1", mlflow.ports["http"])}


@pytest.mark.servers
def test_an_open_mlflow_of_an_earlier_version_is_started_anew(
    mlflow: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.stop(name="mlflow", home=home)
    with monkeypatch.context() as earlier:
        earlier.setattr(mlflow_server, "CLOSED", ())
        before = start_mlflow(home=home, port=mlflow.ports["http"])
    assert not is_closed(before)
    server = start_mlflow(home=home, port=mlflow.ports["http"])
    assert is_closed(server) and server.pid != before.pid and not processes.alive(before)
    assert start_mlflow(home=home, port=mlflow.ports["http"]) == server, "once"
