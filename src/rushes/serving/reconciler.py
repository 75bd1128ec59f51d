"""Makes the served version of each endpoint the one the ledger names: `rushes reconcile`, and the end of `deploy`.

Per endpoint: stage the champion's bundle, verify its digests, rename it into the repository, load it, require exactly
that version to be ready, send the golden clip through the whole path to exactly that version, and only then replace
`routing.json`. If any of it fails, the version's folder is removed and the old version stays. A second run changes
nothing; a run after a stub was killed reloads the models. Bundles come from the store, so MLflow may be down.

Only this module writes a model repository and has models loaded and unloaded; a lock keeps two runs apart. On a cluster
it runs beside each Triton, again and again (`rushes.serving.sidecar`).
"""

import dataclasses
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rushes.errors import RushesError, ServiceError, UserError
from rushes.ledger import Champion, Ledger, endpoints
from rushes.progress import NullProgress, Progress
from rushes.serving.bundle import Bundle, fetch_bundle
from rushes.serving.model_config import CLASSIFIER_SUFFIX
from rushes.serving.probe import probe
from rushes.serving.repository import Repository, deployed_endpoints, staging_folder
from rushes.serving.routing import Routing
from rushes.serving.server import key_for
from rushes.serving.targets import LOADED, InProcessTarget, Repair, ServingTarget, TritonTarget
from rushes.serving.triton_api import TritonApi
from rushes.store import Store, locked

KEEP = 3
"""Versions whose bundles stay on disk: the routed one and those that a rollback can return to."""

Action = Repair | Literal["unchanged", "deployed", "no champion"]


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """What was done for one endpoint, and what it serves now."""

    endpoint: str
    action: Action
    version: int | None
    bundle: str | None
    """Ref of the export."""
    onnx_sha256: str | None
    served_by: Literal["triton", "in-process"]
    seconds: float


def reconcile(
    *,
    home: Path,
    store: Store,
    server: str | None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> list[EndpointState]:
    """Brings every endpoint of the ledger, or one, to its champion.

    Args:
        home: folder of the model repository.
        store: where ledger and bundles are.
        server: gRPC `host:port` of the Triton that reads that repository; None where Triton cannot run: the bundle is
            published in the same way and checked in this process.
        endpoint: only this one.
        progress: where to report to.

    Raises:
        ServiceError: a champion is not served; says which check failed and which version stays. The other endpoints
            are up to date all the same.
    """
    progress = progress or NullProgress()
    states, failures = [], []
    with locked(_lock(home)):
        for name in [endpoint] if endpoint is not None else endpoints(store):
            began = time.monotonic()
            try:
                state = _reconcile_endpoint(Repository(home, name), store, server, progress)
            except RushesError as error:
                failures.append(error)
                continue
            states.append(dataclasses.replace(state, seconds=round(time.monotonic() - began, 3)))
    if failures:
        raise failures[0]
    return states


def probe_routed(*, home: Path, server: str) -> dict[str, tuple[int, str | None]]:
    """Probes what is routed here, whatever the ledger says: endpoint to version and why its golden clip failed."""
    found: dict[str, tuple[int, str | None]] = {}
    with locked(_lock(home)):
        for name in deployed_endpoints(home):
            repository = Repository(home, name)
            try:
                found[name] = _probe_routed_version(repository, server)
            except RushesError as error:
                found[name] = (0, str(error))
    return found


def _lock(home: Path) -> Path:
    return home / "triton" / "reconcile.lock"


def _reconcile_endpoint(repository: Repository, store: Store, server: str | None, progress: Progress) -> EndpointState:
    target: ServingTarget
    target = InProcessTarget(repository) if server is None else TritonTarget(repository, server, progress)
    try:
        return _Reconciliation(repository, store, target, progress).run()
    finally:
        target.close()


def _probe_routed_version(repository: Repository, server: str) -> tuple[int, str | None]:
    routing = repository.routing()
    bundle = repository.bundle(routing.version) if routing else None
    if routing is None or bundle is None:
        return 0, "its bundle is not whole"
    api = TritonApi(server, key=key_for(server, home=repository.home))
    try:
        result = probe(api, repository, version=routing.version, bundle=bundle)
        return routing.version, result.failure if result.broken else None
    finally:
        api.close()


class _Reconciliation:
    """One run for one endpoint."""

    def __init__(self, repository: Repository, store: Store, target: ServingTarget, progress: Progress) -> None:
        self.repository, self.store, self.target, self.progress = repository, store, target, progress
        self.name = repository.endpoint

    def run(self) -> EndpointState:
        entry = Ledger(self.store, self.name).last()
        champion = entry.champion if entry else None
        if champion is None:
            return self._state("no champion", None)
        if self.repository.name_classifier():
            self.target.forget(self.name + CLASSIFIER_SUFFIX)
        routing, bundle = self._routed()
        action: Action | None = None
        if routing is not None and bundle is not None:
            action = self._bring_up(routing, bundle, needed=_is_champion(routing, champion))
        if routing is None or bundle is None or not _is_champion(routing, champion):
            self._deploy(champion, routing if bundle is not None else None)
            action = "deployed"
        return self._state(action or "unchanged", champion)

    def _routed(self) -> tuple[Routing | None, Bundle | None]:
        try:
            routing = self.repository.routing()
        except UserError:
            return None, None
        return routing, self.repository.bundle(routing.version) if routing else None

    def _bring_up(self, routing: Routing, bundle: Bundle, *, needed: bool) -> Action | None:
        """Makes the routed version answer; its failure is an error only if it is the champion."""
        try:
            return self.target.bring_up(routing, bundle)
        except ServiceError as error:
            if needed:
                raise ServiceError(f"endpoint {self.name}: version {routing.version} is routed, but {error}") from error
            return None

    def _deploy(self, champion: Champion, routing: Routing | None) -> None:
        version = champion.version
        self.progress.say(f"{self.name}: trying version {version}")
        try:
            self._switch(champion, routing)
        except RushesError as error:
            stays = f"version {routing.version} stays" if routing else "nothing is served"
            raise ServiceError(f"endpoint {self.name}: version {version} is not served: {error}; {stays}") from error
        self.progress.say(f"{self.name}: version {version} answers")

    def _switch(self, champion: Champion, routing: Routing | None) -> None:
        version, repository = champion.version, self.repository
        replaced = repository.publish(self._stage(champion), version)
        # Not the routed version, if other bytes take its number.
        others = tuple(v for v in (routing.history if routing else ()) if v != version)
        try:
            bundle = repository.bundle(version)
            assert bundle is not None, "verified when it was staged"
            self.target.bring_in(version, bundle, beside=others[: LOADED - 1])
        except BaseException:
            repository.restore(version, replaced)
            self.target.fall_back(routing.history[:LOADED] if routing else ())
            raise
        history = (version, *others)[:KEEP]
        repository.route(Routing(version=version, onnx_sha256=champion.onnx_sha256, history=history))
        repository.prune(keep=history)

    def _stage(self, champion: Champion) -> Path:
        """Fetches the champion's bundle into a folder beside the repository, verified."""
        staged = staging_folder(self.repository.home) / f"{self.name}-{champion.version}-{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            manifest = self.store.find(champion.bundle)
            if manifest is None:
                raise UserError(f"{champion.bundle} is not whole in the store {self.store.url}: export it again")
            bundle = fetch_bundle(manifest, self.store, folder=staged)
            if bundle.contract.onnx_sha256 != champion.onnx_sha256:
                raise UserError(f"{champion.bundle} holds another graph than the ledger says: promote again")
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        return staged

    def _state(self, action: Action, champion: Champion | None) -> EndpointState:
        return EndpointState(
            endpoint=self.name,
            action=action,
            version=champion.version if champion else None,
            bundle=champion.bundle if champion else None,
            onnx_sha256=champion.onnx_sha256 if champion else None,
            served_by=self.target.served_by,
            seconds=0.0,
        )


def _is_champion(routing: Routing, champion: Champion) -> bool:
    return (routing.version, routing.onnx_sha256) == (champion.version, champion.onnx_sha256)
