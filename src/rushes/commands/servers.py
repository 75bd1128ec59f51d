"""`rushes up`, `down`, `status`, and `reconcile`, once or in a loop."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from rushes import servers
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.home import home_folder, open_store
from rushes.ledger import Ledger, endpoints
from rushes.progress import Bar, EventLog, NullProgress
from rushes.serving.environment import can_run_triton
from rushes.serving.reconciler import reconcile as reconcile_all
from rushes.serving.repository import Repository
from rushes.serving.server import address, triton_status
from rushes.serving.sidecar import Watcher, watch
from rushes.tracking.server import tracking_url


def up() -> int:
    """Starts the servers that do not run."""
    home = home_folder()
    reason = can_run_triton()
    if reason is not None:
        console.print(f"Triton cannot run here: {reason}. Answers are computed in process.", markup=False)
    with tempfile.TemporaryDirectory(prefix="rushes-events-") as folder:
        events = Path(folder) / "progress.jsonl"
        with watching(events):
            started = servers.start_all(home, progress=EventLog(events, step="up"))
    for server in servers.running(home):
        fresh = "started" if server.name in started else "already up"
        console.print(f"{server.name:<8}{fresh:<12}{server.url('http')}", markup=False)
        if server.exposed:
            words = "this system forbids hiding its key from the list of processes: other users here can control it"
            console.print(f"{server.name:<8}{words}", markup=False, soft_wrap=True)
    console.print("Stop them with `rushes down`.", markup=False)
    return 0


def down() -> int:
    """Stops the servers that run."""
    stopped = servers.stop(home_folder())
    console.print(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.", markup=False)
    return 0


def status(*, as_json: bool) -> int:
    """Prints servers and endpoints."""
    record = _status()
    if as_json:
        console.print(json.dumps(record, indent=1), markup=False, soft_wrap=True)
        return 0
    for name, url in record["servers"].items():
        console.print(f"{name:<8}{url or 'down'}", markup=False)
    if record["triton_reason"]:
        console.print(f"Triton cannot run here: {record['triton_reason']}", markup=False)
    table = Table("endpoint", "champion", "served", "last decision", box=None, header_style="bold")
    for name, endpoint in record["endpoints"].items():
        table.add_row(name, str(endpoint["champion"] or "-"), str(endpoint["served"] or "-"), endpoint["decision"])
    console.print(table if record["endpoints"] else "No endpoint yet: `rushes run` makes one.")
    return 0


def reconcile(server: str) -> int:
    """Reconciles every endpoint of the ledger once."""
    home = home_folder()
    local = triton_status(home=home)
    results = reconcile_all(home=home, store=open_store(), server=server or (address(local) if local else None))
    for result in results:
        console.print(f"{result.endpoint}: version {result.version}: {result.action}", markup=False)
    if not results:
        console.print("Nothing to serve: no version has been promoted.", markup=False)
    return 0


def watch_triton(server: str, *, every: float, port: int, host: str) -> int:
    """Reconciles in a loop until a signal ends it."""
    home = home_folder()
    local = triton_status(home=home)
    if not server:
        if local is None:
            raise UserError("server: no Triton was started from this home: name one (--server 127.0.0.1:8001)")
        server = address(local)
    watcher = Watcher(home=home, store=open_store(), server=server, progress=_LogLines())
    watch(watcher, every=every, port=port, host=host)
    return 0


class _LogLines:
    """Progress as lines of a log, without bars."""

    def bar(self, label: str, *, total: float, unit: str) -> Bar:
        return NullProgress().bar(label, total=total, unit=unit)

    def say(self, message: str) -> None:
        console.print(message, markup=False, soft_wrap=True)


def _status() -> dict[str, Any]:
    home = home_folder()
    running = {server.name: server.url("http") for server in servers.running(home)}
    store = open_store()
    found: dict[str, Any] = {}
    for name in endpoints(store):
        last = Ledger(store, name).last()
        routing = Repository(home, name).routing()
        found[name] = {
            "champion": last.champion.version if last and last.champion else None,
            "served": routing.version if routing else None,
            "decision": f"{last.decision}: {last.reason}" if last else "none",
        }
    mlflow = tracking_url(home) if os.environ.get("MLFLOW_TRACKING_URI") else running.get("mlflow")
    return {
        "home": str(home),
        "servers": {"mlflow": mlflow, "triton": running.get("triton")},
        "triton_reason": can_run_triton(),
        "endpoints": found,
    }
