"""The replicas of a cluster's Triton, and what each reports that it serves (`rushes.serving.sidecar`).

`RUSHES_REPLICAS=host:port` names them: a host name that resolves to the address of every replica (a headless Service
that also lists those that are not ready), and the port of their reconcilers' probes.
"""

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from rushes.errors import ServiceError, UserError
from rushes.ledger import Champion
from rushes.progress import NullProgress, Progress

VARIABLE = "RUSHES_REPLICAS"


def replicas_address() -> str | None:
    """Where the replicas are, or None on one machine.

    Raises:
        UserError: the variable is not host:port.
    """
    address = os.environ.get(VARIABLE)
    if address and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"{VARIABLE}: {address!r} is not host:port, e.g. triton-replicas.rushes.svc:8080")
    return address or None


def await_replicas(
    address: str, *, endpoint: str, wanted: Callable[[], Champion], seconds: float, progress: Progress | None = None
) -> Champion:
    """Waits until every replica serves an endpoint with the wanted version and its graph; returns that version.

    Args:
        address: `host:port` of all of them.
        endpoint: which endpoint.
        wanted: returns the version; called each time, since another promotion may come first.
        seconds: the time limit.
        progress: where to report to.

    Raises:
        ServiceError: a replica still serves another version, or none; says which, and the problem it reports.
    """
    progress = progress or NullProgress()
    deadline = time.monotonic() + seconds
    reported = ""
    while True:
        champion = wanted()
        states = _states(address)
        behind = {where: state for where, state in states.items() if not _serves(state, endpoint, champion)}
        if states and not behind:
            return champion
        words = "; ".join(_summary(where, state, endpoint) for where, state in sorted(behind.items()))
        waiting = f"version {champion.version} of {endpoint}: {words or f'no replica is found at {address}'}"
        if time.monotonic() >= deadline:
            raise ServiceError(f"not every replica serves it after {seconds:g} s: {waiting}")
        if waiting != reported:
            progress.say(f"waiting for {waiting}")
            reported = waiting
        time.sleep(1.0)


def _serves(state: Mapping[str, Any], endpoint: str, champion: Champion) -> bool:
    """Whether a replica serves the champion; one of version 0.1 reports no graph, and counts by its number."""
    graph = state.get("graphs", {}).get(endpoint, champion.onnx_sha256)
    return (state.get("endpoints", {}).get(endpoint), graph) == (champion.version, champion.onnx_sha256)


def _summary(where: str, state: Mapping[str, Any], endpoint: str) -> str:
    version, graph = state.get("endpoints", {}).get(endpoint), state.get("graphs", {}).get(endpoint, "unknown")
    serves = "serves nothing" if version is None else f"serves version {version}, graph {graph[:12]}"
    return f"{where} {serves}" + (f" ({state['problem']})" if state.get("problem") else "")


def _states(address: str) -> dict[str, Mapping[str, Any]]:
    """Each replica's address and what its `/ready` says, ready or not."""
    host, _, port = address.rpartition(":")
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)}
    except socket.gaierror:
        return {}
    return {str(where): _state(str(where), port) for where in found}


def _state(where: str, port: str) -> Mapping[str, Any]:
    host = f"[{where}]" if ":" in where else where
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/ready", timeout=5) as reply:
            body: Mapping[str, Any] = json.load(reply)
    except urllib.error.HTTPError as error:
        body = json.load(error)  # not ready: it says why
    except (OSError, ValueError, http.client.HTTPException) as error:
        body = {"problem": str(error)}
    return body
