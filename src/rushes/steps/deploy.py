"""`rushes deploy`: waits until the ledger's champion is served, or fails. Never cached."""

import time
from pathlib import Path

from rushes.config import Recipe
from rushes.errors import ServiceError, UserError
from rushes.ledger import Champion, Ledger, LedgerEntry
from rushes.processes import Server, is_starting
from rushes.serving.bundle import FILES
from rushes.serving.environment import can_run_triton
from rushes.serving.reconciler import EndpointState, reconcile
from rushes.serving.replicas import await_replicas, replicas_address
from rushes.serving.repository import Repository
from rushes.serving.server import NAME, address, triton_status
from rushes.steps.base import Context, read_input, reported
from rushes.store import Manifest, Store, sha256_file


@reported("deploy")
def deploy(*, recipe: Recipe, decision: Path, out: Path) -> Manifest:
    """Reconciles this machine's Triton with the ledger of the decision's endpoint.

    On a cluster the reconcilers beside its Tritons do that (`RUSHES_REPLICAS` names them), and this waits for all.
    Where another champion was named since the decision, that one is served, and the output says both.

    Args:
        recipe: section `deploy` counts.
        decision: pointer from `promote`.
        out: where the pointer to the deployment goes.

    Raises:
        UserError: the decision is not in this store's ledger.
        ServiceError: the champion is not served.
    """
    context = Context(step="deploy")
    decided = read_input(decision, "decision")
    entry = _entry(decided, context.store)
    served = _served(context, entry.endpoint, seconds=recipe.deploy.timeout_seconds)
    return context.publish(
        out,
        kind="deployment",
        digest=decided.digest,
        inputs={"decision": decided},
        summary={"endpoint": entry.endpoint, "decided": entry.champion.version if entry.champion else None} | served,
    )


def _entry(decided: Manifest, store: Store) -> LedgerEntry:
    """The decision, as it is in this store's ledger."""
    endpoint, number = str(decided.summary["endpoint"]), int(decided.summary["entry"])
    entry = next((one for one in Ledger(store, endpoint).entries() if one.number == number), None)
    if entry is None or not entry.is_in(store.checked(decided.files["gate.json"]).read_text()):
        found = f"is about version {entry.challenger.version}: {entry.reason}" if entry else "does not exist"
        raise UserError(
            f"decision: {decided.ref} is about version {decided.summary['version']}; entry {number} of the ledger of "
            f"{endpoint} in the store {store.url} {found}: run `rushes promote` on this store, or set RUSHES_STORE"
        )
    return entry


def _served(context: Context, endpoint: str, *, seconds: float) -> dict[str, object]:
    """Waits until the champion is served; its version and bundle, and what serves it; None for all without a champion.

    Raises:
        ServiceError: it is not served, or with other files than its bundle's.
    """
    champion = _champion(context, endpoint)
    if champion is None:
        return {"version": None, "bundle": None, "served_by": None}
    replicas = replicas_address()
    if replicas is not None:
        champion = _await_replicas(context, replicas, endpoint, champion, seconds=seconds)
        return {"version": champion.version, "bundle": champion.bundle, "served_by": "triton"}
    server = _triton(context, seconds=seconds) if can_run_triton() is None else None
    (state,) = reconcile(
        home=context.home,
        store=context.store,
        progress=context.progress,
        endpoint=endpoint,
        server=address(server) if server else None,
    )
    _check_files(context, state)
    served_by = "triton" if server else "in-process graph"
    return {"version": state.version, "bundle": state.bundle, "served_by": served_by}


def _check_files(context: Context, state: EndpointState) -> None:
    """The model repository holds the bundle's own files: an equal version number and graph are not enough."""
    if state.version is None or state.bundle is None:
        return
    made, folder = (
        context.store.find(state.bundle),
        Repository(context.home, state.endpoint).version_folder(state.version),
    )
    for name in FILES:
        expected, found = made.files[name].sha256 if made else "none", sha256_file(folder / name)
        if found != expected:
            raise ServiceError(
                f"endpoint {state.endpoint}: {folder / name} has digest {found[:12]}, in bundle {state.bundle} it is "
                f"{expected[:12]}: remove the folder and run `rushes deploy` again"
            )


def _await_replicas(context: Context, replicas: str, endpoint: str, champion: Champion, *, seconds: float) -> Champion:
    """The champion that every replica serves: the latest, where another was named meanwhile."""
    return await_replicas(
        replicas,
        endpoint=endpoint,
        wanted=lambda: _champion(context, endpoint) or champion,
        seconds=seconds,
        progress=context.progress,
    )


def _champion(context: Context, endpoint: str) -> Champion | None:
    last = Ledger(context.store, endpoint).last()
    return last.champion if last else None


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
