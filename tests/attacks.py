"""Requests that would take control of the local servers: what a page in a browser, or another program, could send."""

import base64
import http.client
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil
from fastapi.routing import APIRoute

MODEL = """
import pathlib
pathlib.Path({marker!r}).write_text("run")
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
"""A Triton model whose loading writes a file: code that runs on the machine of the server."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One HTTP request."""

    method: str
    path: str
    body: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def triton_attacks(folder: Path, *, endpoint: str) -> list[Attack]:
    """Every path of Triton's control, with a body that takes effect where it is obeyed.

    Args:
        folder: where loaded code, traces and logs would write.
        endpoint: a model that is loaded.
    """
    code = base64.b64encode(MODEL.format(marker=str(folder / "marker")).encode()).decode()
    tensor = {"data_type": "TYPE_INT32", "dims": [1]}
    config = {"name": "evil", "backend": "python", "max_batch_size": 0}
    config |= {"input": [{"name": "IN", **tensor}], "output": [{"name": "OUT", **tensor}]}
    load = json.dumps({"parameters": {"config": json.dumps(config), "file:1/model.py": code}})
    trace = json.dumps({"trace_file": str(folder / "trace"), "trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    region = json.dumps({"key": "/evil", "offset": 0, "byte_size": 64})
    repository = "/v2/repository/models"
    changing = {
        f"{repository}/evil/load": load,
        f"{repository}/{endpoint}/load": json.dumps({"parameters": {"config": json.dumps(config)}}),
        f"{repository}/{endpoint}/unload": json.dumps({"parameters": {"unload_dependents": True}}),
        "/v2/repository/index": "{}",
        "/v2/trace/setting": trace,
        f"/v2/models/{endpoint}/trace/setting": trace,
        "/v2/logging": json.dumps({"log_file": str(folder / "log"), "log_verbose_level": 9}),
        "/v2/systemsharedmemory/region/evil/register": region,
        "/v2/systemsharedmemory/unregister": "{}",
        "/v2/cudasharedmemory/region/evil/register": region,
        "/v2/cudasharedmemory/unregister": "{}",
    }
    reading = ["/v2/trace/setting", f"/v2/models/{endpoint}/trace/setting", "/v2/logging", "/v2/models/stats"]
    reading += [f"/v2/models/{endpoint}/stats", f"/v2/models/{endpoint}/config"]
    reading += ["/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status"]
    changed = [Attack(method="POST", path=path, body=body) for path, body in changing.items()]
    return changed + [Attack(method="GET", path=path) for path in reading]


def send(attack: Attack, *, port: int, host: str = "127.0.0.1", headers: dict[str, str] | None = None) -> int:
    """Sends it as it is, whatever it says of host and origin; the status of the answer, 0 where there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(attack.method, attack.path, attack.body.encode() or None, headers or {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process and all that it started listen."""
    process = psutil.Process(pid)
    found = [c for each in (process, *process.children(recursive=True)) for c in each.net_connections("inet")]
    open_ones = [c for c in found if c.status == psutil.CONN_LISTEN or (c.type == socket.SOCK_DGRAM and c.laddr)]
    return {(str(c.laddr.ip).removeprefix("::ffff:"), int(c.laddr.port)) for c in open_ones}


def mlflow_attacks() -> list[Attack]:
    """Every route of MLflow's server with every method it takes, and a body that makes an experiment where it can."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import app as outer

    rules = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    rules |= {
        (method, route.path) for route in outer.routes if isinstance(route, APIRoute) for method in route.methods or ()
    }
    paths = {(method, re.sub(r"[<{][^>}]*[>}]", "1", path)) for method, path in rules}
    body = json.dumps({"name": "evil", "experiment_id": "0", "run_id": "1"})
    return [
        Attack(method=method, path=path, body="" if method in ("GET", "HEAD") else body)
        for method, path in sorted(paths)
    ]
