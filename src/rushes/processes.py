"""Local servers that outlive the command that starts them: `rushes up` starts, `status` looks, `rushes down` stops.

    <home>/servers/<name>.json   process id and its start time, ports, log: there while the server runs
    <home>/servers/<name>.log    what it printed
    <home>/servers/<name>.lock   held while somebody starts or stops it

A process id alone may by now belong to somebody else, so a server is known by its id and its start time together.
Standard library only; what is particular to MLflow or Triton is passed in.
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

from rushes.errors import ServiceError, UserError
from rushes.store import locked, write_atomic

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.1
_TAIL_LINES = 15

# Children of this very process: kept so that their end can be seen (a dead child stays as a zombie until asked for).
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A local server that was started."""

    name: str
    """What it is: "mlflow", "triton"."""
    pid: int
    """Process id; it leads a process group of the same number."""
    started: str
    """When the process began, as the system tells it: guards against a reused process id."""
    ports: Mapping[str, int]
    """What for -> port on the loopback interface."""
    log: str
    """File that it prints to."""
    argv: tuple[str, ...]
    """How it was started."""

    def url(self, port: str) -> str:
        """`http://127.0.0.1:<port>` of the port named so."""
        return f"http://{LOOPBACK}:{self.ports[port]}"


def start(
    *,
    name: str,
    argv: Sequence[str],
    home: Path,
    ports: Mapping[str, int],
    ready: Callable[[Server], bool],
    env: Mapping[str, str] | None = None,
    change_ports: str = "choose another",
    prepare: Callable[[], None] | None = None,
    timeout: float = 60.0,
) -> Server:
    """Starts a server in a session of its own and waits until it is ready; returns the running one if there is one.

    Args:
        name: what it is; one of a name for a home.
        argv: program and arguments.
        home: folder of the state and the log.
        ports: ports it will take on the loopback interface.
        ready: says whether it answers; called every tenth of a second; an OSError counts as no.
        env: its whole environment; this process's by default.
        change_ports: how to choose other ports, for the error's last words: "set RUSHES_MLFLOW_PORT".
        prepare: called before it is started, while nobody else can start or stop it; not where it runs already.
        timeout: seconds it may take.

    Raises:
        UserError: a port is in use.
        ServiceError: it ended or was not ready in time; the message ends with the log's last lines. It is stopped.
    """
    with locked(_folder(home) / f"{name}.lock"):
        server = status(name=name, home=home)
        if server is None:
            _sweep(name, home)
            for port in ports.values():
                _require_free(port, change_ports)
            if prepare is not None:
                prepare()
            server = _spawn(name, argv, home, ports, env)
        try:
            _wait_until_ready(server, ready, timeout)
        except BaseException:
            # Ctrl-C included: a start that did not succeed leaves nothing behind.
            _end(server, grace=5.0)
            _state_path(name, home).unlink(missing_ok=True)
            raise
        return server


def stop(*, name: str, home: Path, grace: float = 20.0) -> bool:
    """Stops a server and waits until it is gone: SIGTERM, then SIGKILL after `grace` seconds. False if none ran."""
    with locked(_folder(home) / f"{name}.lock"):
        server = status(name=name, home=home)
        if server is not None:
            _end(server, grace=grace)
        _sweep(name, home)
        return server is not None


def is_starting(*, name: str, home: Path) -> bool:
    """Whether somebody is starting or stopping it at this moment."""
    try:
        with (_folder(home) / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def interrupt(*, name: str, home: Path) -> None:
    """Tells a server to end without waiting for whoever is starting it: their start then fails and tidies up."""
    server = status(name=name, home=home)
    if server is not None:
        _signal(os.killpg, server, signal.SIGTERM)


def status(*, name: str, home: Path) -> Server | None:
    """The server if it runs, else None."""
    server = _last_started(name, home)
    return server if server is not None and alive(server) else None


def alive(server: Server) -> bool:
    """Whether that very process still runs."""
    child = _children.get(server.pid)
    if child is not None and child.poll() is not None:
        del _children[server.pid]
        return False
    return start_time(server.pid) == server.started


def answers(url: str) -> bool:
    """Whether a server answers a request with 200; one that is just coming up may refuse, or say anything.

    Where its port is one that the system also gives to clients, a connection to it may meet itself and hear its own
    words (TCP's simultaneous open).
    """
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - loopback
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def log_path(*, name: str, home: Path) -> Path:
    """File that a server prints to."""
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
    """Name and process id of who listens on a TCP port ("python (pid 12)"), where the system lets us see it."""
    inode = _listening_inode(port)
    if inode is None:
        return None
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(handle.readlink()) == f"socket:[{inode}]":
                process = handle.parents[1]
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def start_time(pid: int) -> str | None:
    """When a process began, or None if it is not there or has ended (a zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
            fields = stat.read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            return None
        # Ticks since boot: with the boot's name, since after a restart the same ticks and id may come again.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return None if fields[0] in "ZX" else f"{boot}+{fields[19]}"
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = shown.stdout.strip().partition(" ")
    return began.strip() if state and not state.startswith("Z") else None


# ---------------------------------------------------------------------------------------------------------------------


def _folder(home: Path) -> Path:
    return home / "servers"


def _state_path(name: str, home: Path) -> Path:
    return _folder(home) / f"{name}.json"


def _last_started(name: str, home: Path) -> Server | None:
    try:
        record = json.loads(_state_path(name, home).read_text())
        return Server(**record | {"argv": tuple(record["argv"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _sweep(name: str, home: Path) -> None:
    """Ends the workers of a server that crashed; they may hold its ports."""
    server = _last_started(name, home)
    # While a group has members its number is given to no new process, so with the leader gone they are its workers.
    if server is not None and not alive(server) and start_time(server.pid) is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
    _state_path(name, home).unlink(missing_ok=True)


def _require_free(port: int, change_ports: str) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"port {port}: not a port (1 to 65535): {change_ports}")
    with socket.socket() as probe:
        # As servers do: a port whose connections merely linger (TIME_WAIT) is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise UserError(f"port {port}: not allowed for this user: {change_ports}") from error
            holder = port_holder(port) or "another process (perhaps servers of another RUSHES_HOME)"
            raise UserError(f"port {port}: in use by {holder}: stop it (`rushes down`) or {change_ports}") from error


def _spawn(
    name: str, argv: Sequence[str], home: Path, ports: Mapping[str, int], env: Mapping[str, str] | None
) -> Server:
    log = log_path(name=name, home=home)
    with log.open("wb") as out:
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )
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
    )
    write_atomic(_state_path(name, home), (json.dumps(dataclasses.asdict(server), indent=1) + "\n").encode())
    return server


def _wait_until_ready(server: Server, ready: Callable[[Server], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if not alive(server):
            raise ServiceError(f"{server.name}: ended while starting. {_log_words(server)}")
        with contextlib.suppress(OSError):
            if ready(server):
                return
        if time.monotonic() > deadline:
            raise ServiceError(f"{server.name}: not ready after {timeout:.0f} s. {_log_words(server)}")
        time.sleep(_POLL_SECONDS)


def _log_words(server: Server) -> str:
    return f"The end of {server.log}:\n{log_tail(Path(server.log))}"


def _end(server: Server, *, grace: float) -> None:
    """Ends the process, waits for it, then ends what is left of its group (workers whose parent died first)."""
    _signal(os.kill, server, signal.SIGTERM)
    if not _gone(server, grace):
        _signal(os.killpg, server, signal.SIGKILL)
        _gone(server, 10.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], server: Server, number: signal.Signals) -> None:
    if alive(server):
        with contextlib.suppress(ProcessLookupError):
            send(server.pid, number)


def _gone(server: Server, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(server):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _listening_inode(port: int) -> str | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    return fields[9]
    return None
