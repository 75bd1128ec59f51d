"""Local servers: started detached, found again, stopped whole, never left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rushes import processes
from rushes.errors import ServiceError, UserError
from tests.test_hidden_arguments import NO_PTRACE

LISTEN = "import socket,sys,time; s=socket.create_server(('127.0.0.1',int(sys.argv[1]))); print('up',flush=True); "
SERVE = LISTEN + "time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE
WITH_WORKER = (
    "import subprocess,sys; subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)','rushes-worker']); "
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(server: processes.Server) -> bool:
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=1):
        return True


def start(home: Path, code: str = SERVE, *, port: int | None = None, timeout: float = 10) -> processes.Server:
    port = port or free_port()
    return processes.start(
        name="toy",
        argv=[sys.executable, "-c", code, str(port)],
        home=home,
        ports={"http": port},
        ready=answers,
        change_ports="set TOY_PORT",
        timeout=timeout,
    )


def group_members(pgid: int) -> list[str]:
    shown = subprocess.run(["ps", "-ww", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    return [row[2] for row in rows if int(row[0]) == pgid and not row[1].startswith("Z")]


def test_a_server_answers_when_start_returns_and_is_gone_when_stop_returns(tmp_path: Path) -> None:
    server = start(tmp_path)
    assert answers(server)
    assert processes.status(name="toy", home=tmp_path) == server
    assert os.getpgid(server.pid) == server.pid != os.getpgid(0)
    assert processes.stop(name="toy", home=tmp_path)
    assert processes.status(name="toy", home=tmp_path) is None
    assert group_members(server.pid) == []
    assert not processes.stop(name="toy", home=tmp_path)


def test_a_second_start_returns_the_running_server(tmp_path: Path) -> None:
    first = start(tmp_path)
    found: list[processes.Server] = []
    threads = [threading.Thread(target=lambda: found.append(start(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [first] * 3
    processes.stop(name="toy", home=tmp_path)


def test_a_server_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path\n"
    code += f"import test_processes as t; t.start(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    server = processes.status(name="toy", home=tmp_path)
    assert server is not None and answers(server)
    assert processes.stop(name="toy", home=tmp_path)
    assert group_members(server.pid) == []


SECRET = "import json,sys; open(sys.argv[2],'w').write(sys.argv[3]); " + SERVE


def start_with_secret(home: Path) -> processes.Server:
    port = free_port()
    return processes.start(
        name="toy",
        argv=[sys.executable, "-c", SECRET, str(port), str(home / "got"), "--key=(hidden)"],
        home=home,
        ports={"http": port},
        ready=answers,
        hidden=lambda: {"--key=(hidden)": "--key=secret"},
    )


def test_a_hidden_argument_reaches_the_server_and_nothing_else(tmp_path: Path) -> None:
    server = start_with_secret(tmp_path)
    assert not server.exposed and (tmp_path / "got").read_text() == "--key=secret"
    assert "secret" not in " ".join(group_members(server.pid)) + (tmp_path / "servers" / "toy.json").read_text()
    assert processes.stop(name="toy", home=tmp_path)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of a system call")
def test_where_nothing_can_be_hidden_the_server_starts_and_says_so(tmp_path: Path) -> None:
    code = NO_PTRACE + "\nimport pathlib; from tests.test_processes import start_with_secret\n"
    code += f"print(start_with_secret(pathlib.Path({str(tmp_path)!r})).exposed)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "True\n", done
    server = processes.status(name="toy", home=tmp_path)
    assert server is not None and server.exposed and (tmp_path / "got").read_text() == "--key=secret"
    assert "secret" not in (tmp_path / "servers" / "toy.json").read_text()
    assert processes.stop(name="toy", home=tmp_path)


def test_an_outdated_server_gives_way(tmp_path: Path) -> None:
    first = start(tmp_path)
    second = processes.start(
        name="toy",
        argv=[sys.executable, "-c", SERVE, str(first.ports["http"])],
        home=tmp_path,
        ports=first.ports,
        ready=answers,
        outdated=lambda server: server.pid == first.pid,
    )
    assert second.pid != first.pid and not processes.alive(first) and group_members(first.pid) == []
    assert processes.stop(name="toy", home=tmp_path)


def test_a_port_in_use_is_named_with_its_holder_and_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port}: in use by .*pid {os.getpid()}.*set TOY_PORT"):
            start(tmp_path, port=port)
    assert processes.status(name="toy", home=tmp_path) is None


def test_a_server_that_dies_while_starting_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"(?s)toy: ended while starting.*no such luck"):
        start(tmp_path, "import sys; sys.exit('no such luck')")
    assert not (tmp_path / "servers" / "toy.json").exists()


def test_a_server_that_is_not_ready_in_time_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="not ready after 1 s"):
        start(tmp_path, WITH_WORKER + "import time; time.sleep(60)", timeout=1)
    shown = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert "rushes-worker" not in shown
    assert processes.status(name="toy", home=tmp_path) is None


def test_a_server_deaf_to_sigterm_is_killed_with_its_workers(tmp_path: Path) -> None:
    server = start(tmp_path, WITH_WORKER + DEAF)
    assert len(group_members(server.pid)) == 2
    began = time.monotonic()
    assert processes.stop(name="toy", home=tmp_path, grace=0.5)
    assert time.monotonic() - began < 5
    assert group_members(server.pid) == []


def test_workers_that_outlived_a_crash_are_ended_by_the_next_start_and_by_stop(tmp_path: Path) -> None:
    for again in (lambda: start(tmp_path), lambda: processes.stop(name="toy", home=tmp_path)):
        server = start(tmp_path, WITH_WORKER + SERVE)
        os.kill(server.pid, signal.SIGKILL)
        while processes.alive(server):
            time.sleep(0.05)
        assert len(group_members(server.pid)) == 1
        again()
        assert group_members(server.pid) == []
        processes.stop(name="toy", home=tmp_path)


def test_a_childs_whole_group_is_ended(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WITH_WORKER + "import time; time.sleep(60)"], start_new_session=True
    )
    deadline = time.monotonic() + 10
    while len(group_members(child.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(group_members(child.pid)) == 2
    processes.end_group(child)
    assert group_members(child.pid) == [] and child.returncode == -signal.SIGTERM
    processes.end_group(child)


def test_a_reused_process_id_is_not_mistaken_for_the_server(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(0.1)
    try:
        server = start(tmp_path)
        state = tmp_path / "servers" / "toy.json"
        record = json.loads(state.read_text())
        state.write_text(json.dumps(record | {"pid": bystander.pid}))
        assert processes.status(name="toy", home=tmp_path) is None
        assert not processes.stop(name="toy", home=tmp_path)
        assert bystander.poll() is None
        state.write_text(json.dumps(record))
        assert processes.stop(name="toy", home=tmp_path)
        assert group_members(server.pid) == []
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_a_start_time_is_the_kernels_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the format of servers that earlier versions started: the boot's id and ticks since boot."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    assert processes.start_time(os.getpid()) == f"{boot}+{ticks}"
    now = psutil.boot_time()
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: now + 3600.0)  # the clock was set by an hour
    assert processes.start_time(os.getpid()) == f"{boot}+{ticks}"


def test_a_process_that_has_ended_has_no_start_time_even_as_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert processes.start_time(child.pid) is None
    child.wait()
    assert processes.start_time(child.pid) is None


def test_nobody_holds_a_free_port() -> None:
    assert processes.port_holder(free_port()) is None


def test_a_holder_that_the_system_does_not_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process id, as for another user's socket; psutil would take None for this process."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert processes.port_holder(port) == f"{psutil.Process().name()} (pid {os.getpid()})"
        seen = [found._replace(pid=None) for found in psutil.net_connections("tcp")]
        monkeypatch.setattr(psutil, "net_connections", lambda kind: seen)
        assert processes.port_holder(port) is None


def test_a_broken_state_file_counts_as_not_running(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "toy.json").write_text("{")
    assert processes.status(name="toy", home=tmp_path) is None


def answering(words: bytes) -> Iterator[str]:
    """A server that says these words to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as client:
                        client.recv(4096)
                        client.sendall(words)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/health"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", False),
        (b"GET /health HTTP/1.1\r\n\r\n", False),  # its own words: a connection that met itself
        (b"", False),
    ],
)
def test_only_200_is_an_answer(words: bytes, expected: bool) -> None:
    server = answering(words)
    assert processes.answers(next(server)) is expected


def test_nobody_is_no_answer() -> None:
    assert processes.answers(f"http://127.0.0.1:{free_port()}/health") is False
