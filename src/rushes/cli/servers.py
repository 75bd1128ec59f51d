"""The group "Servers of this machine": up, down, status, reconcile, drain."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Up:
    """Starts MLflow and Triton on this machine, unless they run already.

    rushes up
    """

    def execute(self) -> int:
        from rushes.commands.servers import up

        return up()


@dataclass(frozen=True, kw_only=True)
class Down:
    """Stops the servers that `rushes up` or `rushes run` started.

    rushes down
    """

    def execute(self) -> int:
        from rushes.commands.servers import down

        return down()


@dataclass(frozen=True, kw_only=True)
class Status:
    """Shows the servers and, per endpoint, the promoted and the served version.

    rushes status --json
    """

    json: bool = False
    """Print JSON."""

    def execute(self) -> int:
        from rushes.commands.servers import status

        return status(as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class Reconcile:
    """Makes Triton serve the versions that the ledger names: publishes, probes, routes, repairs.

    rushes reconcile
    """

    once: bool = True
    """Check once, then exit. --no-once: repeat, and answer health probes, as beside the Triton of a cluster."""
    server: str = ""
    """gRPC host:port of the Triton that reads this home. Default: the one that `rushes up` started."""
    every: float = 15.0
    """Seconds between two checks."""
    port: int = 8080
    """Port of the health probes /live and /ready."""
    host: str = "127.0.0.1"
    """Address of the health probes. In a pod 0.0.0.0: the kubelet calls from outside."""

    def execute(self) -> int:
        from rushes.commands.servers import reconcile, watch_triton

        if self.once:
            return reconcile(self.server)
        return watch_triton(self.server, every=self.every, port=self.port, host=self.host)


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Waits until Triton has no more requests; a pod runs it before Triton is stopped.

    rushes drain --limit 60
    """

    metrics: str = "http://127.0.0.1:8002/metrics"
    """URL of Triton's metrics."""
    settle: float = 10.0
    """Wait at least this many seconds, until load balancers have stopped sending."""
    quiet: float = 3.0
    """Seconds without a request after which Triton counts as idle."""
    limit: float = 60.0
    """Wait at most this many seconds."""

    def execute(self) -> int:
        from rushes.serving.sidecar import drain

        return 0 if drain(metrics=self.metrics, settle=self.settle, quiet=self.quiet, limit=self.limit) else 1
