"""`rushes deploy`: waits until what the ledger says is what is served, or fails. Never cached: it looks."""

from pathlib import Path

from rushes.config import Recipe
from rushes.errors import UserError
from rushes.ledger import Ledger
from rushes.serving.environment import can_run_triton
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, triton_status
from rushes.steps.base import Context, read_input, reported, versions
from rushes.store import Manifest


@reported("deploy")
def deploy(*, recipe: Recipe, decision: Path, out: Path) -> Manifest:
    """Reconciles this machine's Triton with the ledger of the decision's endpoint.

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
    if last is not None and last.champion is not None:
        server = triton_status(home=context.home) if can_run_triton() is None else None
        if server is None and can_run_triton() is None:
            raise UserError("Triton is not running: start it with `rushes up`, then run `rushes deploy` again")
        reconcile(
            home=context.home,
            store=context.store,
            progress=context.progress,
            endpoint=endpoint,
            server=address(server) if server else None,
        )
        served |= {"version": last.champion.version, "served_by": "triton" if server else "in-process graph"}
    manifest = Manifest(
        kind="deployment", step="deploy", digest=decided.digest, code="", config={}, files={},
        inputs={"decision": decided.ref}, summary=served, versions=versions(),
    )  # fmt: skip
    context.store.publish(manifest)
    return context.done(manifest, out, cached=False)
