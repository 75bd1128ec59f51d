"""The client of an endpoint, over gRPC or HTTP; every failure becomes one clear sentence.

prediction = predict(Path("clip.mp4"), endpoint="ut_interaction", url="127.0.0.1:8001")
"""

import socket
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rushes.errors import RushesError, ServiceError, UserError
from rushes.serving.bundle import Bundle
from rushes.serving.prediction import Prediction
from rushes.serving.repository import Repository, deployed_endpoints
from rushes.serving.request import BUSY, LIMITS, read_video

InferenceProtocol = Literal["grpc", "http"]
_NO_ROOM = "Failed to increase the shared memory pool"
"""Triton's message for a request that does not fit between it and a decoder (`rushes.serving.server`)."""
_PAUSE = 1.0
"""Seconds until a video that was put off is sent again."""
OUTPUTS = ("LABELS", "PROBABILITIES", "EMBEDDING", "VERSION", "ONNX_SHA256", "REQUEST_ID")


def predict(
    video: Path | bytes,
    *,
    endpoint: str,
    url: str,
    protocol: InferenceProtocol = "grpc",
    version: int | None = None,
    request_id: str = "",
    timeout: float = 60.0,
) -> Prediction:
    """Sends one encoded video to a Triton server.

    Args:
        video: a file, or its bytes.
        endpoint: name of the endpoint.
        url: `host:port` of the protocol.
        protocol: "grpc" or "http".
        version: a loaded version other than the routed one; for probes.
        request_id: returned with the prediction; chosen by the server if empty.
        timeout: seconds; until then, a video that the endpoint puts off is sent again.

    Raises:
        UserError: no server there, no such endpoint, or a video that the server refuses (`VideoError` if it is refused
            before it is sent).
        ServiceError: the server failed.
    """
    data = read_video(video) if isinstance(video, Path) else video
    _require_listening(url)
    module = _module(protocol)
    tensor = module.InferInput("VIDEO", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], dtype=np.object_))
    options: dict[str, Any] = {"client_timeout": timeout} if protocol == "grpc" else {}
    options |= {"request_id": request_id, "parameters": None if version is None else {"version": version}}
    outputs = [module.InferRequestedOutput(name) for name in OUTPUTS]
    until = time.monotonic() + timeout
    while True:
        try:
            with _connected(module, url, timeout, protocol) as client:
                return _answer(client.infer(endpoint, [tensor], outputs=outputs, **options))
        except Exception as error:  # tritonclient raises its own error, gevent's, and grpc's
            if BUSY not in str(error) or time.monotonic() + _PAUSE > until:
                raise _explained(error, video=video, endpoint=endpoint, url=url, timeout=timeout) from error
        time.sleep(_PAUSE)


def routed_bundle(*, home: Path, endpoint: str) -> tuple[Bundle, int]:
    """The bundle and the version that an endpoint of this home answers with: for predictions in process.

    Raises:
        UserError: nothing has been deployed under that name.
    """
    repository = Repository(home, endpoint)
    routing = repository.routing()
    bundle = repository.bundle(routing.version) if routing else None
    if routing is None or bundle is None:
        known = ", ".join(deployed_endpoints(home)) or "none yet"
        raise UserError(f"endpoint: {endpoint!r} has not been deployed to {home} (known: {known}): `rushes run` first")
    return bundle, routing.version


def _module(protocol: InferenceProtocol) -> Any:
    if protocol == "grpc":
        import tritonclient.grpc as module
    else:
        import tritonclient.http as module
    return module


def _connected(module: Any, url: str, timeout: float, protocol: InferenceProtocol) -> Any:
    if protocol == "grpc":
        return module.InferenceServerClient(url)
    return module.InferenceServerClient(url, connection_timeout=timeout, network_timeout=timeout)


def _require_listening(url: str) -> None:
    host, _, port = url.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"url: {url!r} is not host:port, e.g. 127.0.0.1:8001")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"url: no server answers at {url} ({error.strerror or error}): start it with `rushes up`"
        ) from error


def _explained(error: Exception, *, video: Path | bytes, endpoint: str, url: str, timeout: float) -> RushesError:
    status = str(getattr(error, "status", lambda: "")() or "")
    words = one_line(str(getattr(error, "message", lambda: "")() or error))
    if "unknown model" in words:
        return UserError(f"endpoint: {endpoint!r} is not served at {url}: `rushes status` lists what is")
    name = str(video) if isinstance(video, Path) else "video"
    if _NO_ROOM in words:
        return UserError(f"{name}: refused by the server: at most {LIMITS.max_bytes} bytes are allowed")
    if "INVALID_ARGUMENT" in status or status == "400":
        return UserError(f"{name}: refused by the server: {words}")
    if "NOT_FOUND" in status or status == "404":
        return UserError(f"endpoint {endpoint} at {url}: {words}")
    if "DEADLINE" in status or isinstance(error, TimeoutError) or "timed out" in words.lower():
        return ServiceError(f"endpoint {endpoint} at {url}: no answer within {timeout:g} s: see `rushes status`")
    return ServiceError(f"endpoint {endpoint} at {url}: {words}: see `rushes status`")


def one_line(words: str) -> str:
    """Triton's message on one line, without the Python traceback that a stub appends."""
    return " ".join(words.split("\nAt:")[0].split()).rstrip(" ;")


def _answer(reply: Any) -> Prediction:
    values = {name: reply.as_numpy(name) for name in OUTPUTS}
    return Prediction(
        labels=tuple(label.decode() for label in values["LABELS"]),
        probabilities=tuple(values["PROBABILITIES"].tolist()),
        embedding=tuple(values["EMBEDDING"].tolist()),
        version=int(values["VERSION"][0]),
        onnx_sha256=values["ONNX_SHA256"][0].decode(),
        request_id=values["REQUEST_ID"][0].decode(),
        served_by="triton",
    )
