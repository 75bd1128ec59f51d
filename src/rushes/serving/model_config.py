"""The `config.pbtxt` of the two Triton models of an endpoint, as Triton's own protobuf messages.

Dimensions are -1 and there is no label file, because both belong to the Triton model and not to a version: a version
with other classes or clip lengths must not break the version that a rollback returns to.
"""

import os
from typing import Any

from rushes.errors import UserError

CLASSIFIER_SUFFIX = "_classifier"
GPU_VARIABLE = "RUSHES_TRITON_GPU"
"""Set to 1 where Triton has a GPU: the ONNX graphs run on it, videos are still decoded on the CPU."""
DECODERS_VARIABLE = "RUSHES_DECODERS"
_DECODERS = (4, 8)
_DECODERS_ALLOWED = (2, 64)
"""One alone could not answer others while it decodes a long video."""
_MAX_BATCH = 8
_BATCHING_MICROSECONDS = 2_000
"""How long a request waits for others to join its batch."""
_QUEUE_MICROSECONDS = 20_000_000
"""A request that has waited longer is refused."""
_QUEUE_LENGTH = 128
"""Requests beyond this many waiting are refused."""


def decoder_count() -> int:
    """Processes that decode the videos of an endpoint, half of them long ones: two per core, four to eight.

    Raises:
        UserError: RUSHES_DECODERS, which sets another number, is not one from 2 to 64.
    """
    least, most = _DECODERS
    text = os.environ.get(DECODERS_VARIABLE, "").strip()
    if not text:
        return max(least, min(most, 2 * (os.cpu_count() or 1)))
    fewest, largest = _DECODERS_ALLOWED
    if not (text.isdecimal() and fewest <= int(text) <= largest):
        allowed = f"{fewest} to {largest} (or unset: two per core, {least} to {most})"
        raise UserError(f"{DECODERS_VARIABLE}: {text!r} is not allowed: {allowed}")
    return int(text)


def endpoint_config(endpoint: str) -> Any:
    """`inference.ModelConfig` of the model that clients call: an encoded video in, a prediction out."""
    from tritonclient.grpc import model_config_pb2 as pb

    outputs = (
        ("LABELS", pb.TYPE_STRING, -1),
        ("PROBABILITIES", pb.TYPE_FP32, -1),
        ("EMBEDDING", pb.TYPE_FP32, -1),
        ("VERSION", pb.TYPE_INT64, 1),
        ("ONNX_SHA256", pb.TYPE_STRING, 1),
        ("REQUEST_ID", pb.TYPE_STRING, 1),
    )
    return pb.ModelConfig(
        name=endpoint,
        backend="python",
        input=[pb.ModelInput(name="VIDEO", data_type=pb.TYPE_STRING, dims=[1])],
        output=[pb.ModelOutput(name=name, data_type=kind, dims=[length]) for name, kind, length in outputs],
        version_policy=_version_policy((1,)),
        instance_group=[pb.ModelInstanceGroup(count=decoder_count(), kind=pb.ModelInstanceGroup.KIND_CPU)],
    )


def classifier_config(name: str, *, versions: tuple[int, ...]) -> Any:
    """`inference.ModelConfig` of the ONNX graphs: I420 clips in, probabilities and embedding out.

    Args:
        name: of the model.
        versions: that a load brings up; no other.
    """
    from tritonclient.grpc import model_config_pb2 as pb

    group = pb.ModelInstanceGroup
    return pb.ModelConfig(
        name=name,
        backend="onnxruntime",
        max_batch_size=_MAX_BATCH,
        input=[pb.ModelInput(name="clips", data_type=pb.TYPE_UINT8, dims=[-1, -1, -1, -1])],
        output=[
            pb.ModelOutput(name="probabilities", data_type=pb.TYPE_FP32, dims=[-1]),
            pb.ModelOutput(name="embedding", data_type=pb.TYPE_FP32, dims=[-1]),
        ],
        version_policy=_version_policy(versions),
        instance_group=[group(count=1, kind=group.KIND_GPU if _on_gpu() else group.KIND_CPU)],
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=_BATCHING_MICROSECONDS,
            default_queue_policy=pb.ModelQueuePolicy(
                timeout_action=pb.ModelQueuePolicy.REJECT,
                default_timeout_microseconds=_QUEUE_MICROSECONDS,
                allow_timeout_override=True,
                max_queue_size=_QUEUE_LENGTH,
            ),
        ),
    )


def config_text(config: Any) -> str:
    """The text of `config.pbtxt`; equal messages give equal text."""
    from google.protobuf import text_format

    return text_format.MessageToString(config)


def _version_policy(versions: tuple[int, ...]) -> Any:
    from tritonclient.grpc import model_config_pb2 as pb

    return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=sorted(versions)))


def _on_gpu() -> bool:
    return os.environ.get(GPU_VARIABLE) == "1"
