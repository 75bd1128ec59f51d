"""Makes what is served what the ledger says: `rushes reconcile`, and the end of every `deploy` on one machine.

For each endpoint: stage the champion's bundle, verify its digests, rename it into the repository, load it, require
exactly that version ready, send the golden clip through the whole path to exactly that version, and only then replace
`routing.json`. If anything fails the version's folder goes and the old version stays. Run again, it changes nothing;
run after a stub was killed, it unloads and loads. Bundles come from the store, so MLflow may be away.

The golden clip waits in the clients' queue. Where it gets no answer in time but clients do, the model is overloaded:
that is said, and nothing is unloaded, since a reload turns clients away just when most of them ask.

Only this module writes a model repository, and loads and unloads. A lock keeps two of them apart. On a cluster it runs
beside each Triton, again and again (`rushes.serving.sidecar`).
"""

import contextlib
import dataclasses
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rushes.errors import RushesError, ServiceError, UserError
from rushes.ledger import Champion, Ledger, endpoints
from rushes.progress import NullProgress, Progress
from rushes.serving.bundle import Bundle, InProcessModel, fetch_bundle, golden_difference
from rushes.serving.client import predict
from rushes.serving.model_config import decoder_count
from rushes.serving.repository import Repository, deployed_endpoints, staging_folder
from rushes.serving.routing import Routing
from rushes.serving.triton_api import TritonApi
from rushes.store import Store, locked

KEEP = 3
"""Versions whose bundles stay on disk: the one that answers and those one can go back to."""
LOADED = 2
"""Of those, how many stay loaded: requests that began before a switch end on the version they began with."""
_PROBE_SECONDS = 120.0
_UNANSWERED = ("no answer within", "Exceeds maximum queue size", "Request timeout expired")
"""The client's words for its deadline, and Triton's for a request that its queue refuses."""

Action = Literal["unchanged", "deployed", "loaded", "healed", "overloaded", "no champion"]


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """What was done for one endpoint, and what it serves now."""

    endpoint: str
    action: Action
    version: int | None
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
            published in the same way and tried in process.
        endpoint: only this one.
        progress: told what is done.

    Raises:
        ServiceError: a champion is not served; says which check failed and which version stays. The other endpoints
            have been brought up to date all the same.
    """
    progress = progress or NullProgress()
    outcomes, failures = [], []
    with locked(_lock(home)):
        for name in [endpoint] if endpoint is not None else endpoints(store):
            began = time.monotonic()
            try:
                outcome = _Endpoint(Repository(home, name), store, server, progress).reconcile()
            except RushesError as error:
                failures.append(error)
                continue
            outcomes.append(dataclasses.replace(outcome, seconds=round(time.monotonic() - began, 3)))
    if failures:
        raise failures[0]
    return outcomes


def probe_routed(*, home: Path, server: str) -> dict[str, tuple[int, str | None]]:
    """What is routed here, whatever the ledger says: endpoint to version, and what its golden clip failed with."""
    found: dict[str, tuple[int, str | None]] = {}
    with locked(_lock(home)):
        for name in deployed_endpoints(home):
            repository = Repository(home, name)
            try:
                found[name] = _tried(repository, server)
            except RushesError as error:
                found[name] = (0, str(error))
    return found


def _tried(repository: Repository, server: str) -> tuple[int, str | None]:
    routing = repository.routing()
    bundle = repository.bundle(routing.version) if routing else None
    if routing is None or bundle is None:
        return 0, "its bundle is not whole"
    triton = _Triton(repository, server, NullProgress())
    try:
        trial = triton.probe(routing.version, bundle)
        return routing.version, trial.failure if trial.broken else None
    finally:
        triton.close()


class _Endpoint:
    """One endpoint, for the length of one reconciliation."""

    def __init__(self, repository: Repository, store: Store, server: str | None, progress: Progress) -> None:
        self.repository, self.store, self.progress = repository, store, progress
        self.name = repository.endpoint
        self.backend = _Triton(repository, server, progress) if server is not None else _InThisProcess(repository)

    def reconcile(self) -> EndpointState:
        try:
            entry = Ledger(self.store, self.name).last()
            champion = entry.champion if entry else None
            if champion is None:
                return self._outcome("no champion", None)
            routing, bundle = self._routed()
            action: Action | None = None
            if routing is not None and bundle is not None:
                action = self._brought_up(routing, bundle, needed=_serves(routing, champion))
            if routing is None or bundle is None or not _serves(routing, champion):
                self._deploy(champion, routing if bundle is not None else None)
                action = "deployed"
            return self._outcome(action or "unchanged", champion)
        finally:
            self.backend.close()

    def _routed(self) -> tuple[Routing | None, Bundle | None]:
        try:
            routing = self.repository.routing()
        except UserError:
            return None, None
        return routing, self.repository.bundle(routing.version) if routing else None

    def _brought_up(self, routing: Routing, bundle: Bundle, *, needed: bool) -> Action | None:
        """Sees to it that the routed version answers; a failure matters only if it is the champion."""
        try:
            return self.backend.bring_up(routing, bundle)
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
        replaced = repository.publish(self._staged(champion), version)
        # Without the present version if its number is to mean other bytes from now on.
        others = tuple(v for v in (routing.history if routing else ()) if v != version)
        try:
            bundle = repository.bundle(version)
            assert bundle is not None, "verified when it was staged"
            self.backend.bring_in(version, bundle, beside=others[: LOADED - 1])
        except BaseException:
            repository.restore(version, replaced)
            self.backend.fall_back(routing.history[:LOADED] if routing else ())
            raise
        history = (version, *others)[:KEEP]
        repository.route(Routing(version=version, onnx_sha256=champion.onnx_sha256, history=history))
        repository.prune(keep=history)

    def _staged(self, champion: Champion) -> Path:
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

    def _outcome(self, action: Action, champion: Champion | None) -> EndpointState:
        return EndpointState(
            endpoint=self.name,
            action=action,
            version=champion.version if champion else None,
            onnx_sha256=champion.onnx_sha256 if champion else None,
            served_by=self.backend.served_by,
            seconds=0.0,
        )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """What became of the golden clip."""

    failure: str | None
    overloaded: bool = False
    """It failed for want of time alone, while others got their answers."""

    @property
    def broken(self) -> bool:
        """Whether only a reload can help."""
        return self.failure is not None and not self.overloaded


class _Triton:
    """Where the versions answer: a Triton server."""

    served_by: Literal["triton", "in-process"] = "triton"

    def __init__(self, repository: Repository, server: str, progress: Progress) -> None:
        self.repository, self.server, self.progress = repository, server, progress
        self.api = TritonApi(server)

    def bring_up(self, routing: Routing, bundle: Bundle) -> Action | None:
        """Loads what should be loaded, tries it, and heals it; None if there was nothing to do."""
        repository, api = self.repository, self.api
        action: Action | None = None
        wanted = self._present(routing.history[:LOADED])
        up = bool(api.ready_versions(repository.endpoint)) and wanted <= api.ready_versions(repository.classifier)
        if repository.write_endpoint() or not up:
            repository.write_classifier(tuple(wanted))
            self._load_both()
            action = "loaded"
        trial = self.probe(routing.version, bundle)
        if trial.broken:
            # A killed stub leaves its model "ready" and every request failing; only this brings it back.
            api.unload(repository.endpoint)
            api.unload(repository.classifier)
            self._load_both()
            action = "healed"
            trial = self.probe(routing.version, bundle)
        if trial.broken:
            raise ServiceError(f"the golden clip failed: {trial.failure}")
        if trial.overloaded:
            self.progress.say(f"{repository.endpoint}: overloaded, it goes on answering: {trial.failure}")
        return "overloaded" if trial.overloaded else action

    def bring_in(self, version: int, bundle: Bundle, *, beside: tuple[int, ...]) -> None:
        """Loads a new version beside the old and tries it, before anything is routed to it."""
        self.repository.write_classifier(tuple({version, *self._present(beside)}))
        self.api.load(self.repository.classifier)
        ready = self.api.ready_versions(self.repository.classifier)
        if version not in ready:
            raise ServiceError(f"it did not become ready (ready: {sorted(ready)})")
        if self.repository.write_endpoint() or not self.api.ready_versions(self.repository.endpoint):
            self.api.load(self.repository.endpoint)
        self._require(version, bundle)

    def fall_back(self, versions: tuple[int, ...]) -> None:
        """Back to these versions, after a failure that is about to be raised: further ones must not hide it."""
        present = self._present(versions)
        with contextlib.suppress(ServiceError):
            if present:
                self.repository.write_classifier(tuple(present))
                self.api.load(self.repository.classifier)
            else:
                self.api.unload(self.repository.classifier)

    def close(self) -> None:
        self.api.close()

    def _present(self, versions: tuple[int, ...]) -> set[int]:
        return set(versions) & set(self.repository.versions())

    def _load_both(self) -> None:
        self.api.load(self.repository.classifier)
        self.api.load(self.repository.endpoint)

    def _require(self, version: int, bundle: Bundle) -> None:
        failure = self.probe(version, bundle).failure
        if failure is not None:
            # Also where it is overloaded: what has not been tried is not routed to.
            raise ServiceError(f"the golden clip failed: {failure}")

    def probe(self, version: int, bundle: Bundle) -> _Trial:
        """Sends the golden clip through the whole path to one version.

        Twice as many at once as there are decoders: one dead among several must not hide behind the others.
        """
        golden = bundle.golden.read_bytes()
        count = 2 * decoder_count()
        before, began = self._answered(), time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(lambda _: self._probe_once(golden, version, bundle), range(count)))
        failures = [result for result in results if result is not None]
        wrong = [failure for failure in failures if not any(words in failure for words in _UNANSWERED)]
        if wrong or not failures:
            return _Trial(failure=next(iter(wrong), None))
        own = len(results) - len(failures)
        overloaded = self._answers_others(before, own=own, until=began + _PROBE_SECONDS)
        return _Trial(failure=failures[0], overloaded=overloaded)

    def _answers_others(self, before: tuple[int, int], *, own: int, until: float) -> bool:
        """Whether more was answered than the probe's own requests; if not, something hangs.

        Waits for it, since a full queue refuses at once. Both models must have answered: a decoder whose classifier
        hangs still ends its requests, with errors.
        """
        while True:
            after = self._answered()
            if all(now - earlier > own for earlier, now in zip(before, after, strict=True)):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.5)

    def _answered(self) -> tuple[int, int]:
        return self.api.answered(self.repository.endpoint), self.api.answered(self.repository.classifier)

    def _probe_once(self, golden: bytes, version: int, bundle: Bundle) -> str | None:
        try:
            answer = predict(
                golden,
                endpoint=self.repository.endpoint,
                url=self.server,
                version=version,
                timeout=_PROBE_SECONDS,
            )
        except RushesError as error:
            return str(error)
        if (answer.version, answer.onnx_sha256) != (version, bundle.contract.onnx_sha256):
            return f"version {answer.version} ({answer.onnx_sha256[:12]}) answered instead"
        return _golden_failure(golden_difference(answer, bundle.contract), bundle)


class _InThisProcess:
    """Where the versions answer when Triton cannot run: whoever asks, with the routed bundle."""

    served_by: Literal["triton", "in-process"] = "in-process"

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def bring_up(self, routing: Routing, bundle: Bundle) -> Action | None:
        """Tries the routed version."""
        self._require(bundle)
        return None

    def bring_in(self, version: int, bundle: Bundle, *, beside: tuple[int, ...]) -> None:
        """Writes what a Triton would need, and tries the version."""
        self._require(bundle)
        self.repository.write_classifier((version, *beside))
        self.repository.write_endpoint()

    def fall_back(self, versions: tuple[int, ...]) -> None:
        if versions:
            self.repository.write_classifier(versions)

    def close(self) -> None:
        pass

    def _require(self, bundle: Bundle) -> None:
        try:
            answer = InProcessModel(bundle).predict(bundle.golden.read_bytes())
        except UserError as error:
            raise ServiceError(str(error)) from error
        failure = _golden_failure(golden_difference(answer, bundle.contract), bundle)
        if failure is not None:
            raise ServiceError(f"the golden clip failed: {failure}")


def _golden_failure(difference: float, bundle: Bundle) -> str | None:
    tolerance = bundle.contract.golden.tolerance
    if difference <= tolerance:
        return None
    return f"a probability is {difference:.2g} off the known answer, {tolerance:g} is allowed"


def _serves(routing: Routing, champion: Champion) -> bool:
    return (routing.version, routing.onnx_sha256) == (champion.version, champion.onnx_sha256)


def _lock(home: Path) -> Path:
    return home / "triton" / "reconcile.lock"
