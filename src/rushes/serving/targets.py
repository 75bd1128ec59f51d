"""Where the versions of an endpoint answer: a Triton server, or the calling process where Triton cannot run.

The reconciler decides which versions are served; a target loads them and checks that they answer.
"""

import contextlib
from typing import Literal, Protocol

from rushes.errors import ServiceError, UserError
from rushes.progress import Progress
from rushes.serving.bundle import Bundle, InProcessModel
from rushes.serving.probe import golden_failure, probe
from rushes.serving.repository import Repository
from rushes.serving.routing import Routing
from rushes.serving.server import key_for
from rushes.serving.triton_api import TritonApi

LOADED = 2
"""Versions that stay loaded, so that requests that began before a switch end on the version they began with."""

Repair = Literal["loaded", "healed", "overloaded"]


class ServingTarget(Protocol):
    """What the reconciler needs of a place that serves an endpoint."""

    served_by: Literal["triton", "in-process"]

    def bring_up(self, routing: Routing, bundle: Bundle) -> Repair | None:
        """Makes the routed version answer; returns what had to be done.

        Raises:
            ServiceError: it does not answer.
        """

    def bring_in(self, version: int, bundle: Bundle, *, beside: tuple[int, ...]) -> None:
        """Loads a new version beside others and probes it, before anything is routed to it.

        Raises:
            ServiceError: it does not load, or its golden clip failed.
        """

    def fall_back(self, versions: tuple[int, ...]) -> None:
        """Returns to these versions after `bring_in` failed; raises nothing, so that its error is not hidden."""

    def forget(self, model: str) -> None:
        """Unloads a model that is no longer in the repository; raises nothing."""

    def close(self) -> None:
        """Closes connections."""


class TritonTarget:
    """A Triton server at gRPC `host:port`."""

    served_by: Literal["triton", "in-process"] = "triton"

    def __init__(self, repository: Repository, server: str, progress: Progress) -> None:
        self.repository, self.progress = repository, progress
        self.api = TritonApi(server, key=key_for(server, home=repository.home))

    def bring_up(self, routing: Routing, bundle: Bundle) -> Repair | None:
        """Loads what is missing, probes it, and reloads both models if they are broken."""
        repository, api = self.repository, self.api
        repair: Repair | None = None
        wanted = self._present(routing.history[:LOADED])
        up = bool(api.ready_versions(repository.endpoint)) and wanted <= api.ready_versions(repository.classifier)
        if repository.write_endpoint() or not up:
            repository.write_classifier(tuple(wanted))
            self._load_both()
            repair = "loaded"
        result = probe(api, repository, version=routing.version, bundle=bundle)
        if result.broken:
            # A killed stub leaves its model "ready" and every request failing; only unloading first brings it back.
            api.unload(repository.endpoint)
            api.unload(repository.classifier)
            self._load_both()
            repair = "healed"
            result = probe(api, repository, version=routing.version, bundle=bundle)
        if result.broken:
            raise ServiceError(f"the golden clip failed: {result.failure}")
        if result.overloaded:
            self.progress.say(f"{repository.endpoint}: overloaded, it goes on answering: {result.failure}")
        return "overloaded" if result.overloaded else repair

    def bring_in(self, version: int, bundle: Bundle, *, beside: tuple[int, ...]) -> None:
        """Loads a new version beside the old and probes it."""
        repository, api = self.repository, self.api
        repository.write_classifier(tuple({version, *self._present(beside)}))
        api.load(repository.classifier)
        ready = api.ready_versions(repository.classifier)
        if version not in ready:
            raise ServiceError(f"it did not become ready (ready: {sorted(ready)})")
        if repository.write_endpoint() or not api.ready_versions(repository.endpoint):
            api.load(repository.endpoint)
        result = probe(api, repository, version=version, bundle=bundle)
        if result.failure is not None:
            # Also where it is overloaded: nothing is routed to a version that has not passed.
            raise ServiceError(f"the golden clip failed: {result.failure}")

    def fall_back(self, versions: tuple[int, ...]) -> None:
        """Loads only these versions again, or unloads the classifier if none of them is here."""
        present = self._present(versions)
        with contextlib.suppress(ServiceError):
            if present:
                self.repository.write_classifier(tuple(present))
                self.api.load(self.repository.classifier)
            else:
                self.api.unload(self.repository.classifier)

    def forget(self, model: str) -> None:
        """Unloads it."""
        with contextlib.suppress(ServiceError):
            self.api.unload(model)

    def close(self) -> None:
        """Closes the connection."""
        self.api.close()

    def _present(self, versions: tuple[int, ...]) -> set[int]:
        return set(versions) & set(self.repository.versions())

    def _load_both(self) -> None:
        self.api.load(self.repository.classifier)
        self.api.load(self.repository.endpoint)


class InProcessTarget:
    """No server: each caller runs the routed bundle itself."""

    served_by: Literal["triton", "in-process"] = "in-process"

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def bring_up(self, routing: Routing, bundle: Bundle) -> Repair | None:
        """Checks the routed version."""
        _check_here(bundle)
        return None

    def bring_in(self, version: int, bundle: Bundle, *, beside: tuple[int, ...]) -> None:
        """Checks the version, and writes what a Triton would need."""
        _check_here(bundle)
        self.repository.write_classifier((version, *beside))
        self.repository.write_endpoint()

    def fall_back(self, versions: tuple[int, ...]) -> None:
        """Writes the configuration of these versions again."""
        if versions:
            self.repository.write_classifier(versions)

    def forget(self, model: str) -> None:
        """Nothing is loaded."""

    def close(self) -> None:
        """Nothing to close."""


def _check_here(bundle: Bundle) -> None:
    try:
        prediction = InProcessModel(bundle).predict(bundle.golden.read_bytes())
    except UserError as error:
        raise ServiceError(str(error)) from error
    failure = golden_failure(prediction, bundle)
    if failure is not None:
        raise ServiceError(f"the golden clip failed: {failure}")
