"""The endpoint: an encoded video in, actions out. A Triton Python model that calls the classifier (BLS).

Has the video decoded (`rushes.serving.decoder`) by the contract of the version that `routing.json` names, runs exactly
that version of the classifier, and returns its number with every prediction. The request parameter `version` selects
another loaded version: so the reconciler probes a candidate before it routes to it.
Runs in Triton's environment (numpy, av and this package, which a local server finds by the link `<home>/triton/lib`).
"""

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# Names of pb_utils.TritonError's codes; the class itself is not there yet while this module is imported.
INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, INTERNAL = "INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "INTERNAL"


class Refused(Exception):  # noqa: N818
    """A request that is answered with an error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class TritonPythonModel:
    """One instance; it decodes one video at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Finds the repository; there may be no version yet."""
        self.folder = Path(args["model_repository"])
        self.classifier = (self.folder / "classifier").read_text().strip()
        library = self.folder.parents[1] / "lib"
        if library.is_dir():
            sys.path.insert(0, str(library))
        from rushes.serving.decoder import Decoder

        decoders = int(json.loads(args["model_config"])["instance_group"][0]["count"])
        self.decoder = Decoder(name=str(self.folder), long_videos=max(1, decoders // 2))
        self._routing: tuple[Any, Any] = (None, None)
        self._contracts: dict[tuple[int, int], Any] = {}

    def finalize(self) -> None:
        """Ends the decoder."""
        self.decoder.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request on its own: a bad video fails no other request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            return self._answer(request)
        except Refused as error:
            return _failed(str(error), error.code)
        except Exception as error:
            return _failed(f"{type(error).__name__}: {error}", INTERNAL)

    def _answer(self, request: Any) -> Any:
        video = pb_utils.get_input_tensor_by_name(request, "VIDEO").as_numpy()
        if video.size != 1:
            raise Refused(f"VIDEO: {video.size} values: send the bytes of one encoded video", INVALID_ARGUMENT)
        data = bytes(video.reshape(-1)[0])
        pinned = self._pinned(request)
        version = pinned or self._routed()
        try:
            contract, outputs = self._classify(data, version)
        except Refused as error:
            # The version may have been unloaded while this video was decoded: then the new one answers.
            if error.code == INVALID_ARGUMENT or pinned or version == (version := self._routed()):
                raise
            contract, outputs = self._classify(data, version)
        return pb_utils.InferenceResponse(
            [
                _strings("LABELS", contract.labels),
                pb_utils.Tensor("PROBABILITIES", outputs["probabilities"][0].astype(np.float32)),
                pb_utils.Tensor("EMBEDDING", outputs["embedding"][0].astype(np.float32)),
                pb_utils.Tensor("VERSION", np.array([version], dtype=np.int64)),
                _strings("ONNX_SHA256", [contract.onnx_sha256]),
                _strings("REQUEST_ID", [request.request_id() or uuid.uuid4().hex]),
            ]
        )

    def _pinned(self, request: Any) -> int | None:
        parameters = json.loads(request.parameters() or "{}")
        if any(name.lower() == "origin" for name in parameters):
            raise Refused("a page in a browser may not ask", INVALID_ARGUMENT)
        if "version" not in parameters:
            return None
        try:
            return int(parameters["version"])
        except (TypeError, ValueError):
            raise Refused(f"version: {parameters['version']!r}: send a version number", INVALID_ARGUMENT) from None

    def _routed(self) -> int:
        from rushes.errors import UserError
        from rushes.serving.routing import FILE, Routing

        path = self.folder / FILE
        try:
            stat = path.stat()
            key = (stat.st_mtime_ns, stat.st_ino)
            if self._routing[0] != key:
                self._routing = (key, Routing.read(path))
        except (OSError, UserError):
            raise Refused(f"{self.folder.name}: no version is routed yet", UNAVAILABLE) from None
        return int(self._routing[1].version)

    def _contract(self, version: int) -> Any:
        from rushes.errors import UserError
        from rushes.serving.contract import Contract

        path = self._contract_path(version)
        try:
            key = (version, path.stat().st_mtime_ns)
            if key not in self._contracts:
                self._contracts = {**dict(list(self._contracts.items())[-3:]), key: Contract.read(path)}
        except (OSError, UserError):
            raise Refused(f"version {version} is not here", NOT_FOUND) from None
        return self._contracts[key]

    def _contract_path(self, version: int) -> Path:
        return self.folder.parent / self.classifier / str(version) / "contract.json"

    def _classify(self, data: bytes, version: int) -> tuple[Any, dict[str, Any]]:
        from rushes.errors import UserError
        from rushes.serving.decoder import BusyError
        from rushes.video.source import VideoError

        contract = self._contract(version)
        try:
            clips = self.decoder.clips(data, self._contract_path(version))
        except VideoError as error:
            raise Refused(str(error), INVALID_ARGUMENT) from None
        except UserError as error:  # what the contract asks for cannot be done here
            raise Refused(f"version {version}: {error}", UNAVAILABLE) from None
        except BusyError as error:
            raise Refused(str(error), UNAVAILABLE) from None
        names = ["probabilities", "embedding"]
        response = pb_utils.InferenceRequest(
            model_name=self.classifier,
            model_version=version,
            requested_output_names=names,
            inputs=[pb_utils.Tensor("clips", clips[None])],
        ).exec()
        if response.has_error():
            raise Refused(f"version {version}: {self._public(response.error().message())}", UNAVAILABLE)
        return contract, {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in names}

    def _public(self, message: str) -> str:
        """The message without the classifier's name, which clients must not know."""
        return message.replace(self.classifier, "the classifier")


def _failed(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))


def _strings(name: str, values: Any) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode() for value in values], dtype=np.object_))
