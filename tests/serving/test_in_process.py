"""Where Triton cannot run: the same repository, the same refusals, and answers from the routed bundle."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rushes.errors import ServiceError, UserError
from rushes.ledger import Champion
from rushes.serving.bundle import Bundle, InProcessModel
from rushes.serving.client import routed_bundle
from rushes.serving.reconciler import KEEP, EndpointState, reconcile
from rushes.serving.repository import Repository, deployed_endpoints
from rushes.store import Store
from rushes.video import reencode


@pytest.fixture
def deploy(store: Store, promote: Callable[..., Champion], tmp_path: Path) -> Callable[..., EndpointState]:
    def deployed(version: int, folder: Path) -> EndpointState:
        promote("alone", version, folder)
        (outcome,) = reconcile(home=tmp_path, store=store, server=None)
        return outcome

    return deployed


def test_the_champion_is_published_and_answers(
    deploy: Callable[..., EndpointState],
    store: Store,
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
    tmp_path: Path,
) -> None:
    outcome = deploy(1, five_actions.folder)
    assert (outcome.action, outcome.served_by) == ("deployed", "in-process")
    assert deployed_endpoints(tmp_path) == ["alone"]
    bundle, version = routed_bundle(home=tmp_path, endpoint="alone")
    answer = InProcessModel(bundle, version=version).predict(video)
    assert (answer.version, answer.labels) == (1, five_actions.contract.labels)
    (outcome,) = reconcile(home=tmp_path, store=store, server=None)
    assert outcome.action == "unchanged"
    deploy(2, three_actions.folder)
    bundle, version = routed_bundle(home=tmp_path, endpoint="alone")
    assert (version, bundle.contract.labels) == (2, three_actions.contract.labels)


def test_a_wrong_golden_answer_is_refused_and_the_old_version_stays(
    deploy: Callable[..., EndpointState], five_actions: Bundle, three_actions: Bundle, tmp_path: Path
) -> None:
    deploy(1, five_actions.folder)
    wrong = Path(shutil.copytree(three_actions.folder, tmp_path / "wrong"))
    record = json.loads((wrong / "contract.json").read_text())
    record["golden"]["probabilities"] = [0.0, 1.0, 0.0]
    (wrong / "contract.json").write_text(json.dumps(record))
    with pytest.raises(ServiceError, match=r"version 2 is not served: the golden clip failed.*; version 1 stays$"):
        deploy(2, wrong)
    assert routed_bundle(home=tmp_path, endpoint="alone")[1] == 1
    assert Repository(tmp_path, "alone").versions() == [1]


def test_where_frames_cannot_be_encoded_a_version_that_needs_it_is_not_served(
    deploy: Callable[..., EndpointState], five_actions: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reencode.ENCODERS, "h264", "libx264_left_out")
    deploy(1, five_actions.folder)
    needing = Path(shutil.copytree(five_actions.folder, tmp_path / "needing"))
    record = json.loads((needing / "contract.json").read_text())
    record["encoding"] = {"codec": "h264", "short_side": 36, "qp": 26, "gop": 12}
    (needing / "contract.json").write_text(json.dumps(record))
    with pytest.raises(
        ServiceError, match=r"version 2 is not served: encoding: .*lacks libx264_left_out.*; version 1 stays$"
    ):
        deploy(2, needing)
    assert routed_bundle(home=tmp_path, endpoint="alone")[1] == 1


def test_a_damaged_repository_is_repaired_from_the_store(
    deploy: Callable[..., EndpointState], store: Store, five_actions: Bundle, tmp_path: Path
) -> None:
    deploy(1, five_actions.folder)
    (Repository(tmp_path, "alone").version_folder(1) / "model.onnx").write_bytes(b"cut short")
    with pytest.raises(UserError, match="'alone' has not been deployed"):
        routed_bundle(home=tmp_path, endpoint="alone")
    (outcome,) = reconcile(home=tmp_path, store=store, server=None)
    assert outcome.action == "deployed"
    assert routed_bundle(home=tmp_path, endpoint="alone")[1] == 1
    (tmp_path / "triton" / "models" / "alone" / "routing.json").write_text("{")
    (outcome,) = reconcile(home=tmp_path, store=store, server=None)
    assert outcome.action == "deployed"


def test_only_the_last_versions_stay(
    deploy: Callable[..., EndpointState], five_actions: Bundle, tmp_path: Path
) -> None:
    for version in range(1, KEEP + 3):
        deploy(version, five_actions.folder)
    assert Repository(tmp_path, "alone").versions() == list(range(3, KEEP + 3))


def test_an_endpoint_that_is_not_there_is_named_with_those_that_are(
    deploy: Callable[..., EndpointState], five_actions: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"known: none yet"):
        routed_bundle(home=tmp_path, endpoint="other")
    deploy(1, five_actions.folder)
    with pytest.raises(UserError, match=r"known: alone"):
        routed_bundle(home=tmp_path, endpoint="other")


def test_the_classifiers_name_is_drawn_once_and_one_that_can_be_guessed_is_given_up(
    deploy: Callable[..., EndpointState], store: Store, five_actions: Bundle, tmp_path: Path
) -> None:
    deploy(1, five_actions.folder)
    repository = Repository(tmp_path, "alone")
    name = repository.classifier
    assert re.fullmatch(r"alone_classifier_[0-9a-f]{16}", name) and repository.versions() == [1]
    reconcile(home=tmp_path, store=store, server=None)
    assert repository.classifier == name and not repository.name_classifier()
    models = tmp_path / "triton" / "models"
    (models / name).rename(models / "alone_classifier")
    (models / "alone" / "classifier").unlink()  # as earlier versions left it
    assert repository.versions() == [1]
    (outcome,) = reconcile(home=tmp_path, store=store, server=None)
    assert (outcome.action, outcome.version) == ("deployed", 1)
    assert sorted(path.name for path in models.iterdir()) == ["alone", repository.classifier]
    assert repository.classifier not in (name, "alone_classifier")
    assert deploy(2, five_actions.folder).version == 2 and repository.versions() == [1, 2]
