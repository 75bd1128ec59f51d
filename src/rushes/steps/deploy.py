"""`rushes deploy`: waits until the ledger's champion is served, or fails. Never cached."""

import time
from pathlib import Path

from rushes.config import Recipe
from rushes.errors import UserError
from rushes.ledger import Ledger
from rushes.processes import Server, is_starting
from rushes.serving.environment import can_run_triton
from rushes.serving.reconciler import reconcile
from rushes.serving.replicas import await_replicas, replicas_address
from rushes.serving.server import NAME, address, triton_status
from rushes.steps.base import Context, read_input, reported
from rushes.store import Manifest


@reported("deploy")
def deploy(*, recipe: Recipe, decision: Path, out: Path) -> Manifest:
    """Reconciles this machine's Triton with the ledger of the decision's endpoint.

    On a cluster the reconcilers beside its Tritons do that (`RUSHES_REPLICAS` names them), and this waits for all.

    Args:
        recipe: section `deploy` counts.
        decision: pointer from `promote`.
        out: where the pointer to the deployment goes.
    """
    context = Context(step="deploy")
    decided = read_input(decision, "decision")
    endpoint = str(decided.summary["endpoint"])
    return context.publish(
        out,
        kind="deployment",
        digest=decided.digest,
        inputs={"decision": decided},
        summary={"endpoint": endpoint} | _served(context, endpoint, seconds=recipe.deploy.timeout_seconds),
    )


def _served(context: Context, endpoint: str, *, seconds: float) -> dict[str, object]:
    """Waits until the champion is served; says which version it is and by what, or None for both without a champion."""
    last = Ledger(context.store, endpoint).last()
    if last is None or last.champion is None:
        return {"version": None, "served_by": None}
    replicas = replicas_address()
    if replicas is not None:
        version = await_replicas(
            replicas,
            endpoint=endpoint,
            wanted=lambda: _champion(context, endpoint),
            seconds=seconds,
            progress=context.progress,
        )
        return {"version": version, "served_by": "triton"}
    server = _triton(context, seconds=seconds) if can_run_triton() is None else None
    reconcile(
        home=context.home,
        store=context.store,
        progress=context.progress,
        endpoint=endpoint,
        server=address(server) if server else None,
    )
    return {"version": last.champion.version, "served_by": "triton" if server else "in-process graph"}


def _champion(context: Context, endpoint: str) -> int:
    last = Ledger(context.store, endpoint).last()
    assert last is not None and last.champion is not None, "a champion is replaced, never taken away"
    return last.champion.version


def _triton(context: Context, *, seconds: float) -> Server:
    """The running server; waits while another process is starting it."""
    if is_starting(name=NAME, home=context.home):
        context.progress.say("waiting for Triton to start")
    deadline = time.monotonic() + seconds
    while is_starting(name=NAME, home=context.home) and time.monotonic() < deadline:
        time.sleep(0.2)
    server = triton_status(home=context.home)
    if server is None:
        raise UserError("Triton is not running: start it with `rushes up`, then run `rushes deploy` again")
    return server
