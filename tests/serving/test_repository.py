"""The model repository: what Triton's own parser makes of the configs, and folders that change hands whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from rushes.errors import UserError
from rushes.serving.bundle import Bundle
from rushes.serving.repository import (
    GPU_VARIABLE,
    Repository,
    classifier_config,
    endpoint_config,
    staging_folder,
)
from rushes.serving.routing import Routing


def parsed(text: str) -> Any:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.Parse(text, ModelConfig())


def test_tritons_parser_reads_the_classifier_config() -> None:
    config = parsed(classifier_config("jumps", versions=(7, 2)).to_pbtxt())
    assert (config.name, config.backend, config.max_batch_size) == ("jumps_classifier", "onnxruntime", 8)
    assert list(config.version_policy.specific.versions) == [2, 7]
    assert [(t.name, list(t.dims)) for t in config.input] == [("clips", [-1, -1, -1, -1])]
    assert [(t.name, list(t.dims)) for t in config.output] == [("probabilities", [-1]), ("embedding", [-1])]
    assert all(not t.label_filename for t in config.output)
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert policy.default_timeout_microseconds > 0 and policy.max_queue_size > 0 and policy.allow_timeout_override
    assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU


def test_on_a_gpu_run_the_graphs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_VARIABLE, "1")
    graphs, decoder = (
        parsed(config.to_pbtxt()).instance_group[0]
        for config in (classifier_config("jumps", versions=(1,)), endpoint_config("jumps"))
    )
    assert (graphs.kind, decoder.kind) == (graphs.KIND_GPU, graphs.KIND_CPU)


def test_tritons_parser_reads_the_endpoint_config() -> None:
    config = parsed(endpoint_config("jumps", instances=3).to_pbtxt())
    assert (config.name, config.backend, config.max_batch_size) == ("jumps", "python", 0)
    assert config.instance_group[0].count == 3
    assert [(t.name, list(t.dims)) for t in config.input] == [("VIDEO", [1])]
    outputs = ["LABELS", "PROBABILITIES", "EMBEDDING", "VERSION", "ONNX_SHA256", "REQUEST_ID"]
    assert [t.name for t in config.output] == outputs


@pytest.mark.parametrize("name", ["", "Jumps", "a-b", "../x", "a b", "x_classifier", "_x", "x" * 65])
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
