"""Triton's control API: load, unload, what is ready, how much was answered. Only the reconciler uses it."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from rushes.errors import ServiceError
from rushes.serving.client import one_line

KEY_VARIABLE = "RUSHES_TRITON_KEY"
"""Names what Triton expects of who may load and unload, where others can reach it too:
`--grpc-restricted-protocol=model-repository:rushes-key=<key>`. Loading a model is running code.
"""
_TIMEOUT = 120.0


class TritonApi:
    """One Triton server, over gRPC."""

    def __init__(self, address: str) -> None:
        import tritonclient.grpc

        self.address = address
        self._client = tritonclient.grpc.InferenceServerClient(address)
        key = os.environ.get(KEY_VARIABLE)
        self._headers = {"triton-grpc-protocol-rushes-key": key} if key else None

    def load(self, model: str) -> None:
        """Loads a model, or takes up what changed in its folder; returns when that is done.

        Raises:
            ServiceError: it did not load; Triton's words say why.
        """
        with self._explained(f"loading {model}"):
            self._client.load_model(model, self._headers, client_timeout=_TIMEOUT)

    def unload(self, model: str) -> None:
        """Begins to unload a model; does not wait, since one with a killed stub stays "unloading" for good.

        A load that follows takes effect all the same.

        Raises:
            ServiceError: the server refused.
        """
        with self._explained(f"unloading {model}"):
            self._client.unload_model(model, self._headers, client_timeout=_TIMEOUT)

    def ready_versions(self, model: str) -> set[int]:
        """Versions that Triton says it serves. A killed stub still counts: only an inference tells."""
        return {version for version, state in self._states(model).items() if state == "READY"}

    def answered(self, model: str) -> int:
        """Requests that a model has answered since it was loaded, its versions together.

        Raises:
            ServiceError: it is not loaded.
        """
        with self._explained(f"counting the answers of {model}"):
            statistics: Any = self._client.get_inference_statistics(
                model, headers=self._headers, client_timeout=_TIMEOUT
            )
        return sum(int(version.inference_count) for version in statistics.model_stats)

    def _states(self, model: str) -> dict[int, str]:
        with self._explained("listing the models"):
            index: Any = self._client.get_model_repository_index(self._headers, client_timeout=_TIMEOUT)
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
            raise ServiceError(f"triton at {self.address}: {doing}: {one_line(error.message())}") from error
