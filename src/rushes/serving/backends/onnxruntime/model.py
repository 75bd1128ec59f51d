"""Triton's `onnxruntime` backend in Python, for installations without the C++ one.

Triton loads a folder `<backend directory>/onnxruntime/model.py` in place of `libtriton_onnxruntime.so`. The model
repository is the same: NVIDIA's container serves its `config.pbtxt` and `model.onnx` with the C++ backend.
Runs in Triton's environment (numpy, onnxruntime), once per version and instance.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One version of one ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads `<repository>/<version>/model.onnx`; an error here is Triton's "failed to load"."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", "0")
        options.intra_op_num_threads = int(threads)
        # Spinning threads of several versions and instances would starve the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        missing = set(self.inputs) ^ {entry.name for entry in self.session.get_inputs()}
        missing |= set(self.outputs) - {entry.name for entry in self.session.get_outputs()}
        if missing:
            raise ValueError(f"{path}: inputs and outputs are not those of config.pbtxt ({', '.join(sorted(missing))})")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs all requests of a batch at once; a failure fails each of them."""
        try:
            feeds = {name: self._stacked(requests, name) for name in self.inputs}
            results = self.session.run(self.outputs, feeds)
        except Exception as error:
            # One error object per response: sharing one between responses crashes the server.
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(f"onnxruntime: {error}")) for _ in requests]
        sizes = [pb_utils.get_input_tensor_by_name(request, self.inputs[0]).shape()[0] for request in requests]
        cuts = np.cumsum(sizes)[:-1]
        split = [np.split(result, cuts) for result in results]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, parts[index]) for name, parts in zip(self.outputs, split, strict=True)]
            )
            for index in range(len(requests))
        ]

    def _stacked(self, requests: list[Any], name: str) -> Any:
        arrays = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
