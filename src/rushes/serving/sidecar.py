"""The reconciler beside a Triton on a cluster: `rushes reconcile --no-once` runs in a loop and answers probes.

    GET /live    200 while the loop runs                   liveness; Triton starts once it answers
    GET /ready   200 while this replica can take requests   the body says what it serves, and what is wrong

A replica becomes ready once every endpoint of the ledger answers its golden clip with the champion. From then on it
stays ready while the routed versions answer: if a newer champion cannot be served, or the store is unreachable, the
previous version stays, and the body says why. Triton's own readiness shows neither: a killed stub stays "ready".

`rushes drain` is called before Triton is stopped and waits until requests have ceased.
"""

import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rushes.processes import LOOPBACK
from rushes.progress import NullProgress, Progress
from rushes.serving.reconciler import probe_routed, reconcile
from rushes.serving.repository import Repository, models_folder
from rushes.store import Store

STALE_SECONDS = 900.0
"""A run that takes longer hangs: loading and probing a version takes at most a few minutes."""


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """What `/ready` reports about this replica."""

    ready: bool = False
    endpoints: Mapping[str, int] = field(default_factory=dict)
    """Endpoint to the version that passed its golden clip."""
    graphs: Mapping[str, str] = field(default_factory=dict)
    """Endpoint to the SHA-256 of the graph of that version."""
    problem: str | None = "nothing has been looked at yet"
    """Why it does not serve what the ledger says."""


class Watcher:
    """Reconciles one Triton, and knows whether it can take requests."""

    def __init__(self, *, home: Path, store: Store, server: str, progress: Progress | None = None) -> None:
        self.home, self.store, self.server = home, store, server
        self.progress = progress or NullProgress()
        self.state = ReplicaState()
        self.last_reconciled = time.monotonic()
        models_folder(home).mkdir(parents=True, exist_ok=True)  # Triton refuses to start without it

    def reconcile(self) -> ReplicaState:
        """Brings the replica to the ledger's champions, as far as possible; raises nothing."""
        try:
            state = self._reconciled()
        except Exception as error:  # the store's libraries raise their own; none may end the loop
            state = self._as_before(" ".join(str(error).split()) or type(error).__name__)
        if state != self.state:
            self.progress.say(json.dumps(asdict(state)))
        self.state, self.last_reconciled = state, time.monotonic()
        return state

    @property
    def live(self) -> bool:
        """Whether the last run is recent."""
        return time.monotonic() - self.last_reconciled < STALE_SECONDS

    def _reconciled(self) -> ReplicaState:
        states = reconcile(home=self.home, store=self.store, server=self.server, progress=self.progress)
        served = {state.endpoint: state.version for state in states if state.version is not None}
        return ReplicaState(
            ready=bool(served),
            endpoints=served,
            graphs={state.endpoint: state.onnx_sha256 for state in states if state.onnx_sha256 is not None},
            problem=None if served else "no version has been promoted",
        )

    def _as_before(self, problem: str) -> ReplicaState:
        routed = probe_routed(home=self.home, server=self.server)
        answering = {endpoint: version for endpoint, (version, failure) in routed.items() if failure is None}
        ready = self.state.ready and bool(routed) and len(answering) == len(routed)
        routings = {endpoint: Repository(self.home, endpoint).routing() for endpoint in answering}
        graphs = {endpoint: routing.onnx_sha256 for endpoint, routing in routings.items() if routing is not None}
        return ReplicaState(ready=ready, endpoints=answering, graphs=graphs, problem=problem)


def watch(
    watcher: Watcher, *, every: float, port: int, host: str = LOOPBACK, stop: threading.Event | None = None
) -> None:
    """Reconciles every few seconds and answers probes, until stopped.

    Args:
        watcher: of the replica.
        every: seconds between two runs.
        port: of the probes.
        host: address of the probes; in a pod 0.0.0.0, every interface, since the kubelet calls from outside.
        stop: ends the loop; a signal does as well.
    """
    stop = stop or threading.Event()
    with serve_probes(watcher, port=port, host=host):
        while not stop.is_set():
            watcher.reconcile()
            stop.wait(every)


def drain(*, metrics: str, settle: float, quiet: float, limit: float) -> bool:
    """Waits until Triton has no more requests; False if it still had some at the limit.

    A pod that is terminated leaves its Service at once, but clients notice later, and Triton unloads its models on the
    signal. Triton itself waits for the requests that are then still running (`--exit-timeout-secs`).

    Args:
        metrics: URL of Triton's metrics.
        settle: seconds to wait at least, until load balancers have noticed.
        quiet: seconds in which no request may be waiting or end.
        limit: seconds to wait at most.
    """
    began = time.monotonic()
    calm_since, before = began, -1.0
    while (now := time.monotonic()) - began < limit:
        waiting, ended = _requests(metrics)
        if waiting or ended != before:
            calm_since, before = now, ended
        if now - calm_since >= quiet and now - began >= settle:
            return True
        time.sleep(0.5)
    return False


def _requests(metrics: str) -> tuple[float, float]:
    """Numbers of requests that wait and that have ended; zeros if Triton no longer answers."""
    try:
        with urllib.request.urlopen(metrics, timeout=5) as reply:  # noqa: S310 - the pod's own Triton
            lines = reply.read().decode().splitlines()
    except (OSError, http.client.HTTPException):
        return 0.0, 0.0
    waiting = _total(lines, "nv_inference_pending_request_count")
    ended = _total(lines, "nv_inference_request_success") + _total(lines, "nv_inference_request_failure")
    return waiting, ended


def _total(lines: list[str], name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


@contextmanager
def serve_probes(watcher: Watcher, *, port: int, host: str) -> Iterator[None]:
    """Answers probes inside the block, on one address or on all."""
    answers: Mapping[str, Callable[[], tuple[bool, object]]] = {
        "/live": lambda: (watcher.live, {"live": watcher.live}),
        "/ready": lambda: (watcher.state.ready, asdict(watcher.state)),
    }

    class ProbeHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            good, body = answer() if answer else (False, {"paths": list(answers)})
            text = json.dumps(body).encode()
            self.send_response((200 if good else 503) if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: probes come every few seconds."""

    server = ThreadingHTTPServer((host, port), ProbeHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
