"""Triton's control API: load, unload, what is ready. Only the reconciler uses it."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rushes.errors import ServiceError

_TIMEOUT = 120.0


class Control:
    """One Triton server, over gRPC."""

    def __init__(self, address: str) -> None:
        import tritonclient.grpc

        self.address = address
        self._client = tritonclient.grpc.InferenceServerClient(address)

    def load(self, model: str) -> None:
        """Loads a model, or takes up what changed in its folder; returns when that is done.

        Raises:
            ServiceError: it did not load; Triton's words say why.
        """
        with self._explained(f"loading {model}"):
            self._client.load_model(model, client_timeout=_TIMEOUT)

    def unload(self, model: str) -> None:
        """Unloads a model, and waits until its requests are done and its processes gone.

        Raises:
            ServiceError: it did not go.
        """
        with self._explained(f"unloading {model}"):
            self._client.unload_model(model, client_timeout=_TIMEOUT)
        deadline = time.monotonic() + _TIMEOUT
        while any(state not in ("", "UNAVAILABLE") for state in self._states(model).values()):
            if time.monotonic() > deadline:
                raise ServiceError(f"triton at {self.address}: {model} did not unload within {_TIMEOUT:.0f} s")
            time.sleep(0.05)

    def ready_versions(self, model: str) -> set[int]:
        """Versions that Triton says it serves. A killed stub still counts: only an inference tells."""
        return {version for version, state in self._states(model).items() if state == "READY"}

    def _states(self, model: str) -> dict[int, str]:
        with self._explained("listing the models"):
            index: Any = self._client.get_model_repository_index(client_timeout=_TIMEOUT)
        return {int(entry.version or 0): entry.state for entry in index.models if entry.name == model}

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as error:
            raise ServiceError(f"triton at {self.address}: {doing}: {_one_line(error.message())}") from error


def _one_line(words: str) -> str:
    """Triton's message without the Python traceback that a stub appends."""
    return " ".join(words.split("At:")[0].split()).rstrip(" ;")
