"""Bundles: verified when opened, answered in process, carried whole through the store."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rushes.errors import UserError
from rushes.ledger import Champion
from rushes.serving.bundle import (
    CONTRACT,
    FILES,
    Bundle,
    InProcessModel,
    fetch_bundle,
    golden_difference,
    read_bundle,
    session,
)
from rushes.serving.contract import Contract
from rushes.serving.prediction import Prediction
from rushes.serving.request import LIMITS, read_video, request_clips
from rushes.store import Store
from rushes.video.source import VideoError


@pytest.fixture
def copy(five_actions: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(five_actions.folder, tmp_path / "copy"))


def test_the_golden_answer_is_what_the_bundle_answers(five_actions: Bundle) -> None:
    answer = InProcessModel(five_actions, version=4).predict(five_actions.golden.read_bytes())
    assert golden_difference(answer, five_actions.contract) == 0
    assert (answer.version, answer.served_by) == (4, "in-process")
    assert answer.onnx_sha256 == five_actions.contract.onnx_sha256
    assert len(answer.embedding) == five_actions.contract.embedding


def test_the_answer_is_the_graphs_on_the_clips_of_the_contract(five_actions: Bundle, video: bytes) -> None:
    clips = request_clips(video, five_actions.contract)
    assert clips.shape == (3, 8, 48, 32)
    (expected,) = session(five_actions.onnx).run(["probabilities"], {"clips": clips[None]})
    assert InProcessModel(five_actions).predict(video).probabilities == tuple(expected[0].tolist())


def test_the_best_labels_come_first() -> None:
    answer = Prediction(
        labels=("b", "a", "c"),
        probabilities=(0.25, 0.25, 0.5),
        embedding=(),
        version=1,
        onnx_sha256="",
        request_id="",
        served_by="triton",
    )
    assert answer.top(2) == [("c", 0.5), ("a", 0.25)]
    assert json.loads(json.dumps(answer.to_record()))["probabilities"] == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("name", ["model.onnx", "golden.mp4"])
def test_a_changed_file_is_found_out(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: digest .* the contract says"):
        read_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found_out(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: .*export again"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("labels", [], "labels"),
        ("labels", ["a", "a", "b", "c", "d"], "labels"),
        ("labels", ["a"], "5 probabilities for 1 labels"),
        ("crop", 64, "crop: 64"),
        ("schema", 9, r"schema 9, this version reads \(1, 2\)"),
        ("unknown", 1, "not a contract"),
    ],
)
def test_a_contract_that_cannot_be_is_refused(copy: Path, field: str, value: object, words: str) -> None:
    record = json.loads((copy / "contract.json").read_text())
    (copy / "contract.json").write_text(json.dumps(record | {field: value}))
    with pytest.raises(UserError, match=words):
        Contract.read(copy / "contract.json")


def test_a_bundle_goes_through_the_store_unchanged(
    five_actions: Bundle, store: Store, promote: Callable[..., Champion], tmp_path: Path
) -> None:
    champion = promote("toy", 1, five_actions.folder)
    manifest = store.find(champion.bundle)
    assert manifest is not None
    fetched = fetch_bundle(manifest, store, folder=tmp_path / "fetched")
    assert fetched.contract == five_actions.contract
    assert all((fetched.folder / name).read_bytes() == (five_actions.folder / name).read_bytes() for name in FILES)


def encoded_copy(bundle: Bundle, folder: Path, **fields: object) -> Path:
    """The bundle as a model that learned from encoded footage."""
    shutil.copytree(bundle.folder, folder)
    record = json.loads((folder / CONTRACT).read_text())
    side = bundle.contract.short_side
    record["encoding"] = {"codec": "h264", "short_side": side, "qp": 40, "gop": 12} | fields
    (folder / CONTRACT).write_text(json.dumps(record))
    return folder


def test_a_contract_of_the_first_schema_has_no_encoding(five_actions: Bundle, copy: Path, video: bytes) -> None:
    record = json.loads((copy / CONTRACT).read_text())
    assert record.pop("encoding") is None
    (copy / CONTRACT).write_text(json.dumps(record | {"schema": 1}))
    earlier = read_bundle(copy)
    assert earlier.contract.encoding is None
    assert (
        InProcessModel(earlier).predict(video).probabilities
        == InProcessModel(five_actions).predict(video).probabilities
    )


def test_frames_are_encoded_as_the_contract_says(five_actions: Bundle, tmp_path: Path, video: bytes) -> None:
    clips = {
        qp: request_clips(video, read_bundle(encoded_copy(five_actions, tmp_path / str(qp), qp=qp)).contract)
        for qp in (0, 40)
    }
    plain = request_clips(video, five_actions.contract)
    assert np.array_equal(clips[0], plain), "lossless"
    assert clips[40].shape == plain.shape and not np.array_equal(clips[40], plain)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codec": "av1"}, "encoding.codec: 'av1' is not known here"),
        ({"qp": 99}, "encoding.qp: 99"),
        ({"short_side": 2}, "encoding.short_side: 2: at least the model's 36"),
        ({"speed": 1}, "not a contract"),
    ],
)
def test_an_encoding_that_is_not_known_here_is_refused(
    five_actions: Bundle, tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_bundle(encoded_copy(five_actions, tmp_path / "other", **fields))


def test_a_request_beyond_the_limit_is_refused_unread(tmp_path: Path, five_actions: Bundle) -> None:
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(LIMITS.max_bytes + 1)
    with pytest.raises(VideoError, match="at most 67108864 are allowed"):
        read_video(huge)
    with pytest.raises(VideoError, match="cannot be read"):
        read_video(tmp_path / "absent.mp4")
    with pytest.raises(VideoError, match="at most 67108864 are allowed"):
        InProcessModel(five_actions).predict(bytes(LIMITS.max_bytes + 1))


def test_probabilities_differ_between_videos(five_actions: Bundle, make_video: Callable[..., bytes]) -> None:
    """Else no test of answers here would mean anything."""
    answers = [InProcessModel(five_actions).predict(make_video(seed=seed, frames=20 + seed)) for seed in (3, 4)]
    assert np.abs(np.subtract(answers[0].probabilities, answers[1].probabilities)).max() > 1e-3
