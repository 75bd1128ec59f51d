"""Local servers that outlive the command that starts them: `rushes up` starts, `status` checks, `rushes down` stops.

    <home>/servers/<name>.json   process id and start time, ports, log: exists while the server runs
    <home>/servers/<name>.log    its output
    <home>/servers/<name>.lock   held by the process that starts or stops it

The system reuses process ids, so a server is identified by its id together with its start time. What is specific to
MLflow or Triton is passed in.
"""

import contextlib
import dataclasses
import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rushes import hidden_arguments
from rushes.errors import ServiceError, UserError
from rushes.hidden_arguments import CannotHideError
from rushes.store import locked, write_atomic

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.1
_GRACE = 20.0
_TAIL_LINES = 15

# Children of this process, kept so that their exit is noticed: a child that has ended is a zombie until it is polled.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A local server that was started."""

    name: str
    """"mlflow" or "triton"."""
    pid: int
    """Process id, also the number of its process group."""
    started: str
    """Start time of the process (`start_time`): tells it from a later process with the same id."""
    ports: Mapping[str, int]
    """Protocol to port on the loopback interface."""
    log: str
    """File with its output."""
    argv: tuple[str, ...]
    """Program and arguments, as the list of processes shows them."""
    exposed: bool = False
    """Whether that list shows what was to be hidden, as the system allows no hiding."""

    def url(self, port: str) -> str:
        """`http://127.0.0.1:<port>` of a protocol."""
        return f"http://{LOOPBACK}:{self.ports[port]}"


def start(
    *,
    name: str,
    argv: Sequence[str],
    home: Path,
    ports: Mapping[str, int],
    ready: Callable[[Server], bool],
    env: Mapping[str, str] | None = None,
    hidden: Callable[[], Mapping[str, str]] = dict,
    outdated: Callable[[Server], bool] = lambda server: False,
    change_ports: str = "choose another",
    prepare: Callable[[], None] | None = None,
    timeout: float = 60.0,
) -> Server:
    """Starts a server in a session of its own and waits until it is ready; returns the running one if there is one.

    Args:
        name: of the server, unique within a home.
        argv: program and arguments.
        home: folder of state and log.
        ports: loopback ports that it will use.
        ready: whether it answers, called every tenth of a second; an OSError counts as no.
        env: its whole environment; this process's by default.
        hidden: called before a start: what `argv` holds to the argument that no list of processes shall show.
        outdated: whether a running server is stopped and started anew.
        change_ports: how to use other ports, for the end of an error message: "set RUSHES_MLFLOW_PORT".
        prepare: called before a start, under the lock; not called where the server already runs.
        timeout: seconds until it must be ready.

    Raises:
        UserError: a port is in use.
        ServiceError: it ended or was not ready in time and has been stopped; the message ends with the end of its log.
    """
    with locked(_lock_path(name, home)):
        server = status(name=name, home=home)
        if server is None or outdated(server):
            _end_before(name, home, grace=_GRACE)
            for port in ports.values():
                _require_free(port, change_ports)
            if prepare is not None:
                prepare()
            server = _spawn(name, argv, home, ports, env, hidden())
        _wait_or_end(server, home, ready, timeout)
        return server


def stop(*, name: str, home: Path, grace: float = _GRACE) -> bool:
    """Stops a server and waits until it is gone: SIGTERM, then SIGKILL after `grace` seconds. False if none ran."""
    with locked(_lock_path(name, home)):
        return _end_before(name, home, grace=grace)


def is_starting(*, name: str, home: Path) -> bool:
    """Whether a process is starting or stopping it at this moment."""
    try:
        with _lock_path(name, home).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def interrupt(*, name: str, home: Path) -> None:
    """Sends SIGTERM to a server that may still be starting, without waiting: its `start` then fails and cleans up."""
    server = status(name=name, home=home)
    if server is not None:
        _signal(os.killpg, server, signal.SIGTERM)


def status(*, name: str, home: Path) -> Server | None:
    """The server if it runs, else None."""
    server = _last_started(name, home)
    return server if server is not None and alive(server) else None


def alive(server: Server) -> bool:
    """Whether this process still runs, and not another with its id."""
    child = _children.get(server.pid)
    if child is not None and child.poll() is not None:
        del _children[server.pid]
        return False
    return start_time(server.pid) == server.started


def answers(url: str) -> bool:
    """Whether a server answers a request with 200; while it starts it may refuse, or reply with anything.

    If the system also hands out its port to clients, a connection may connect to itself and read back its own request
    (TCP's simultaneous open).
    """
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - loopback
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def log_path(*, name: str, home: Path) -> Path:
    """File with the output of a server."""
    return _folder(home) / f"{name}.log"


def log_tail(path: Path, *, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def port_holder(port: int) -> str | None:
    """Name and id of the process that listens on a TCP port ("python (pid 12)"); None if the system does not tell."""
    import psutil

    try:
        listening = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
        pids = [found.pid for found in listening if found.laddr and found.laddr.port == port and found.pid is not None]
        return f"{psutil.Process(pids[0]).name()} (pid {pids[0]})" if pids else None
    except psutil.Error:
        return None


def start_time(pid: int) -> str | None:
    """Identifies the start of a process, unaffected by changes of the clock; None if it has ended (zombies too)."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        created = process.create_time()
    except psutil.NoSuchProcess:
        return None
    if not psutil.LINUX:
        return str(created)
    # Linux counts ticks since boot, and psutil adds the boot time, which changes when the clock is set. The boot's id
    # tells the same tick and process id after a restart apart.
    ticks = round((created - psutil.boot_time()) * os.sysconf("SC_CLK_TCK"))
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}+{ticks}"


# ---------------------------------------------------------------------------------------------------------------------


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a child that leads a session, and all processes that it started: SIGTERM, then SIGKILL after 10 s."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()  # reaps the child: until then, its group exists
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def _folder(home: Path) -> Path:
    return home / "servers"


def _state_path(name: str, home: Path) -> Path:
    return _folder(home) / f"{name}.json"


def _lock_path(name: str, home: Path) -> Path:
    return _folder(home) / f"{name}.lock"


def _last_started(name: str, home: Path) -> Server | None:
    try:
        record = json.loads(_state_path(name, home).read_text())
        return Server(**record | {"argv": tuple(record["argv"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _end_before(name: str, home: Path, *, grace: float) -> bool:
    """Ends the server, and what a crashed one left; False if none ran."""
    server = status(name=name, home=home)
    if server is not None:
        _end(server, grace=grace)
    _end_leftovers(name, home)
    return server is not None


def _end_leftovers(name: str, home: Path) -> None:
    """Kills the workers of a server that crashed, which may hold its ports, and deletes its state."""
    server = _last_started(name, home)
    # A group's number is not reused while the group has members, so without its leader they are this server's workers.
    if server is not None and not alive(server) and start_time(server.pid) is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
    _state_path(name, home).unlink(missing_ok=True)


def _require_free(port: int, change_ports: str) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"port {port}: not a port (1 to 65535): {change_ports}")
    with socket.socket() as probe:
        # As servers do: a port with connections in TIME_WAIT only is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise UserError(f"port {port}: not allowed for this user: {change_ports}") from error
            holder = port_holder(port) or "another process (perhaps servers of another RUSHES_HOME)"
            raise UserError(f"port {port}: in use by {holder}: stop it (`rushes down`) or {change_ports}") from error


def _spawn(
    name: str,
    argv: Sequence[str],
    home: Path,
    ports: Mapping[str, int],
    env: Mapping[str, str] | None,
    hidden: Mapping[str, str],
) -> Server:
    log = log_path(name=name, home=home)
    with log.open("wb") as out:
        try:
            child, exposed = _popen(argv, hidden, out, env)
        except OSError as error:
            raise ServiceError(f"{name}: cannot start {argv[0]} ({error})") from error
    _children[child.pid] = child
    server = Server(
        name=name,
        pid=child.pid,
        started=start_time(child.pid) or "",
        ports=dict(ports),
        log=str(log),
        argv=tuple(argv),
        exposed=exposed,
    )
    write_atomic(_state_path(name, home), (json.dumps(dataclasses.asdict(server), indent=1) + "\n").encode())
    return server


def _popen(
    argv: Sequence[str], hidden: Mapping[str, str], log: BinaryIO, env: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], bool]:
    """Starts a program in a session of its own; also says whether the list of processes shows its hidden arguments."""
    if hidden:
        with contextlib.suppress(CannotHideError):
            return hidden_arguments.popen(argv, hidden=hidden, log=log, env=env), False
    child = subprocess.Popen(
        [hidden.get(argument, argument) for argument in argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        start_new_session=True,
        restore_signals=False,  # SIGXFSZ stays ignored: a file that grows too large is an error, not the end
    )
    return child, bool(hidden)


def _wait_or_end(server: Server, home: Path, ready: Callable[[Server], bool], timeout: float) -> None:
    """Waits until the server is ready; a start that fails or is interrupted leaves nothing behind."""
    try:
        _wait_until_ready(server, ready, timeout)
    except BaseException:
        _end(server, grace=5.0)
        _state_path(server.name, home).unlink(missing_ok=True)
        raise


def _wait_until_ready(server: Server, ready: Callable[[Server], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if not alive(server):
            raise ServiceError(f"{server.name}: ended while starting. {_log_excerpt(server)}")
        with contextlib.suppress(OSError):
            if ready(server):
                return
        if time.monotonic() > deadline:
            raise ServiceError(f"{server.name}: not ready after {timeout:.0f} s. {_log_excerpt(server)}")
        time.sleep(_POLL_SECONDS)


def _log_excerpt(server: Server) -> str:
    return f"The end of {server.log}:\n{log_tail(Path(server.log))}"


def _end(server: Server, *, grace: float) -> None:
    """Ends the process, waits for it, then kills what is left of its group: workers whose parent ended first."""
    _signal(os.kill, server, signal.SIGTERM)
    if not _wait_until_gone(server, grace):
        _signal(os.killpg, server, signal.SIGKILL)
        _wait_until_gone(server, 10.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], server: Server, number: signal.Signals) -> None:
    if alive(server):
        with contextlib.suppress(ProcessLookupError):
            send(server.pid, number)


def _wait_until_gone(server: Server, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(server):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
