"""The group "Servers of this machine": up, down, status, reconcile, drain."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Up:
    """Starts MLflow and Triton on this machine; does nothing for those that run."""

    def execute(self) -> int:
        from rushes.commands.servers import up

        return up()


@dataclass(frozen=True, kw_only=True)
class Down:
    """Stops the servers that `rushes up` or `rushes run` started."""

    def execute(self) -> int:
        from rushes.commands.servers import down

        return down()


@dataclass(frozen=True, kw_only=True)
class Status:
    """Shows servers, endpoints, the champion of each, and what is served."""

    json: bool = False
    """As JSON."""

    def execute(self) -> int:
        from rushes.commands.servers import status

        return status(as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class Reconcile:
    """Makes what is served equal to what the ledger says: publishes, probes, routes, heals."""

    once: bool = True
    """One look, then exit. --no-once: look again and again, and answer probes, as beside a cluster's Triton."""
    server: str = ""
    """gRPC host:port of the Triton that reads this home; by default the one that `rushes up` started."""
    every: float = 15.0
    """Seconds between two looks."""
    port: int = 8080
    """Where probes are answered: /live and /ready."""

    def execute(self) -> int:
        from rushes.commands.servers import reconcile, watch_triton

        if self.once:
            return reconcile(self.server)
        return watch_triton(self.server, every=self.every, port=self.port)


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Waits until Triton has no more requests: a pod's last act before Triton is told to end."""

    metrics: str = "http://127.0.0.1:8002/metrics"
    """URL of Triton's metrics."""
    settle: float = 10.0
    """Seconds that it takes at least: until load balancers have heard."""
    quiet: float = 3.0
    """Seconds without a request that count as none."""
    limit: float = 60.0
    """Seconds that it takes at most."""

    def execute(self) -> int:
        from rushes.serving.sidecar import drain

        return 0 if drain(metrics=self.metrics, settle=self.settle, quiet=self.quiet, limit=self.limit) else 1
