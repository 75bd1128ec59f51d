"""`rushes deploy`: waits until what the ledger says is what is served, or fails. Never cached: it looks."""

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
from rushes.steps.base import Context, read_input, reported, versions
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
    last = Ledger(context.store, endpoint).last()
    served: dict[str, object] = {"endpoint": endpoint, "version": None, "served_by": None}
    replicas = replicas_address()
    if replicas is not None and last is not None and last.champion is not None:
        version = await_replicas(
            replicas,
            endpoint=endpoint,
            wanted=lambda: _champion(context, endpoint),
            seconds=recipe.deploy.timeout_seconds,
            progress=context.progress,
        )
        served |= {"version": version, "served_by": "triton"}
    elif last is not None and last.champion is not None:
        server = _triton(context, seconds=recipe.deploy.timeout_seconds) if can_run_triton() is None else None
        reconcile(
            home=context.home,
            store=context.store,
            progress=context.progress,
            endpoint=endpoint,
            server=address(server) if server else None,
        )
        served |= {"version": last.champion.version, "served_by": "triton" if server else "in-process graph"}
    manifest = Manifest(
        kind="deployment",
        step="deploy",
        digest=decided.digest,
        code="",
        config={},
        files={},
        inputs={"decision": decided.ref},
        summary=served,
        versions=versions(),
    )
    context.store.publish(manifest)
    return context.done(manifest, out, cached=False)


def _champion(context: Context, endpoint: str) -> int:
    last = Ledger(context.store, endpoint).last()
    assert last is not None and last.champion is not None, "a champion is replaced, never taken away"
    return last.champion.version


def _triton(context: Context, *, seconds: float) -> Server:
    """The running server; waits for one that a run beside this step is still starting."""
    if is_starting(name=NAME, home=context.home):
        context.progress.say("waiting for Triton to start")
    deadline = time.monotonic() + seconds
    while is_starting(name=NAME, home=context.home) and time.monotonic() < deadline:
        time.sleep(0.2)
    server = triton_status(home=context.home)
    if server is None:
        raise UserError("Triton is not running: start it with `rushes up`, then run `rushes deploy` again")
    return server
