"""Triton's API for model control and statistics: load, unload, ready versions, requests answered."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from rushes.errors import ServiceError
from rushes.serving.client import one_line
from rushes.serving.control_key import GRPC_PREFIX, HEADER, KEY_VARIABLE
from rushes.serving.model_config import CLASSIFIER_SUFFIX

_TIMEOUT = 120.0
_SECRET = re.compile(rf"{CLASSIFIER_SUFFIX}_[0-9a-f]{{16}}")


class TritonApi:
    """One Triton server, over gRPC.

    Args:
        address: its `host:port`.
        key: of its control, or None where it demands none.
    """

    def __init__(self, address: str, *, key: str | None) -> None:
        import tritonclient.grpc

        self.address = address
        self._client = tritonclient.grpc.InferenceServerClient(address)
        self._headers = {f"{GRPC_PREFIX}{HEADER}": key} if key else None

    def load(self, model: str) -> None:
        """Loads a model, or applies what changed in its folder; returns when that is done.

        Raises:
            ServiceError: it did not load; the message is Triton's.
        """
        with self._translated(f"loading {model}"):
            self._client.load_model(model, self._headers, client_timeout=_TIMEOUT)

    def unload(self, model: str) -> None:
        """Begins to unload a model, without waiting: one with a killed stub stays "unloading" forever.

        A following load takes effect all the same.

        Raises:
            ServiceError: the server refused.
        """
        with self._translated(f"unloading {model}"):
            self._client.unload_model(model, self._headers, client_timeout=_TIMEOUT)

    def ready_versions(self, model: str) -> set[int]:
        """Versions that Triton reports as ready. A version with a killed stub still is: only a request shows it."""
        return {version for version, state in self._states(model).items() if state == "READY"}

    def answer_count(self, model: str) -> int:
        """Requests that all versions of a model together have answered since it was loaded.

        Raises:
            ServiceError: it is not loaded.
        """
        with self._translated(f"counting the answers of {model}"):
            statistics: Any = self._client.get_inference_statistics(
                model, headers=self._headers, client_timeout=_TIMEOUT
            )
        return sum(int(version.inference_count) for version in statistics.model_stats)

    def _states(self, model: str) -> dict[int, str]:
        with self._translated("listing the models"):
            index: Any = self._client.get_model_repository_index(self._headers, client_timeout=_TIMEOUT)
        return {int(entry.version or 0): entry.state for entry in index.models if entry.name == model}

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as error:
            words = one_line(error.message())
            if "restricted" in words:
                words += f" ({KEY_VARIABLE} holds the key of a Triton that this home did not start)"
            # Messages travel further than the classifier's name may: into /ready, logs and reports.
            words = _SECRET.sub("_classifier", f"{doing}: {words}")
            raise ServiceError(f"triton at {self.address}: {words}") from error
