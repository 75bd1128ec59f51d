"""The model repository: what Triton's own parser makes of the configs, and folders that change hands whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from rushes.errors import UserError
from rushes.serving.bundle import Bundle
from rushes.serving.model_config import (
    DECODERS_VARIABLE,
    GPU_VARIABLE,
    classifier_config,
    config_text,
    decoder_count,
    endpoint_config,
)
from rushes.serving.repository import Repository, staging_folder
from rushes.serving.routing import Routing

# What these wrote before protobuf did, by string formatting (with one decoder per core).
ENDPOINT = """
name: "jumps"
backend: "python"
max_batch_size: 0
input [
  { name: "VIDEO" data_type: TYPE_STRING dims: [1] }
]
output [
  { name: "LABELS" data_type: TYPE_STRING dims: [-1] },
  { name: "PROBABILITIES" data_type: TYPE_FP32 dims: [-1] },
  { name: "EMBEDDING" data_type: TYPE_FP32 dims: [-1] },
  { name: "VERSION" data_type: TYPE_INT64 dims: [1] },
  { name: "ONNX_SHA256" data_type: TYPE_STRING dims: [1] },
  { name: "REQUEST_ID" data_type: TYPE_STRING dims: [1] }
]
version_policy { specific { versions: [1] } }
instance_group [ { count: 6 kind: KIND_CPU } ]
"""
CLASSIFIER = """
name: "jumps_classifier"
backend: "onnxruntime"
max_batch_size: 8
input [
  { name: "clips" data_type: TYPE_UINT8 dims: [-1, -1, -1, -1] }
]
output [
  { name: "probabilities" data_type: TYPE_FP32 dims: [-1] },
  { name: "embedding" data_type: TYPE_FP32 dims: [-1] }
]
version_policy { specific { versions: [2, 7] } }
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching {
  max_queue_delay_microseconds: 2000
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 20000000
    allow_timeout_override: true
    max_queue_size: 128
  }
}
"""


def parsed(text: str) -> Any:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.Parse(text, ModelConfig())


def test_what_is_written_is_what_earlier_versions_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DECODERS_VARIABLE, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert parsed(config_text(endpoint_config("jumps"))) == parsed(ENDPOINT)
    assert parsed(config_text(classifier_config("jumps_classifier", versions=(7, 2)))) == parsed(CLASSIFIER)


def test_decoders_are_two_per_core_four_to_eight_or_as_many_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DECODERS_VARIABLE, raising=False)
    for cores, decoders in ((None, 4), (1, 4), (3, 6), (4, 8), (64, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert endpoint_config("jumps").instance_group[0].count == decoder_count() == decoders
    for text in ("2", "12", "64"):
        monkeypatch.setenv(DECODERS_VARIABLE, text)
        assert decoder_count() == int(text)
    for text in ("0", "1", "65", "-1", "2.5", "many"):
        monkeypatch.setenv(DECODERS_VARIABLE, text)
        with pytest.raises(UserError, match=f"{DECODERS_VARIABLE}: '{text}' is not allowed: 2 to 64"):
            decoder_count()


def test_no_output_has_labels_and_a_full_queue_refuses() -> None:
    config = classifier_config("jumps_classifier", versions=(7, 2))
    assert list(config.version_policy.specific.versions) == [2, 7]
    assert all(not tensor.label_filename for tensor in config.output)
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert policy.default_timeout_microseconds > 0 and policy.max_queue_size > 0 and policy.allow_timeout_override


def test_on_a_gpu_run_the_graphs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = classifier_config("jumps_classifier", versions=(1,)).instance_group[0]
    assert graphs.kind == graphs.KIND_CPU
    monkeypatch.setenv(GPU_VARIABLE, "1")
    graphs, decoder = (
        config.instance_group[0]
        for config in (classifier_config("jumps_classifier", versions=(1,)), endpoint_config("jumps"))
    )
    assert (graphs.kind, decoder.kind) == (graphs.KIND_GPU, graphs.KIND_CPU)


@pytest.mark.parametrize("name", ["", "Jumps", "a-b", "../x", "a b", "x_classifier", "x_classifier_y", "_x", "x" * 65])
def test_a_name_that_cannot_be_a_folder_and_a_model_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"endpoint: .* is not allowed"):
        Repository(tmp_path, name)


def staged(five_actions: Bundle, repository: Repository) -> Path:
    return Path(shutil.copytree(five_actions.folder, staging_folder(repository.home) / f"{repository.endpoint}-new"))


def test_a_version_appears_whole_and_other_bytes_under_its_number_can_come_back(
    five_actions: Bundle, tmp_path: Path
) -> None:
    repository = Repository(tmp_path, "jumps")
    assert repository.publish(staged(five_actions, repository), 3) is None
    bundle = repository.bundle(3)
    assert bundle is not None and bundle.contract == five_actions.contract
    (repository.version_folder(3) / "mark").touch()
    replaced = repository.publish(staged(five_actions, repository), 3)
    assert replaced is not None and not (repository.version_folder(3) / "mark").exists()
    repository.restore(3, replaced)
    assert (repository.version_folder(3) / "mark").exists()


def test_only_the_versions_to_keep_stay(five_actions: Bundle, tmp_path: Path) -> None:
    repository = Repository(tmp_path, "jumps")
    for version in (1, 2, 10):
        repository.publish(staged(five_actions, repository), version)
    staged(five_actions, repository)
    assert repository.versions() == [1, 2, 10]
    repository.prune(keep=(10, 2))
    assert repository.versions() == [2, 10]
    assert list(staging_folder(tmp_path).iterdir()) == []


def test_a_damaged_version_counts_as_absent(five_actions: Bundle, tmp_path: Path) -> None:
    repository = Repository(tmp_path, "jumps")
    repository.publish(staged(five_actions, repository), 1)
    (repository.version_folder(1) / "model.onnx").write_bytes(b"cut short")
    assert repository.bundle(1) is None


def test_routing_is_replaced_and_read_back(tmp_path: Path) -> None:
    repository = Repository(tmp_path, "jumps")
    assert repository.routing() is None
    for version in (1, 2):
        routing = Routing(version=version, onnx_sha256="ab", history=(version, 9))
        repository.route(routing)
        assert repository.routing() == routing


def test_equal_configs_do_not_look_new_to_triton(tmp_path: Path) -> None:
    repository = Repository(tmp_path, "jumps")
    assert repository.write_endpoint()
    path = tmp_path / "triton" / "models" / "jumps" / "1" / "model.py"
    before = path.stat().st_mtime_ns
    assert not repository.write_endpoint()
    assert path.stat().st_mtime_ns == before
