"""`rushes pretext maps`: from pointers to a picture, and the mistakes one can make with them."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rushes.backbones import make_backbone
from rushes.cli import main, parse
from rushes.commands.maps import SHEET, _spread
from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.home import open_store
from rushes.store import Manifest
from rushes.training.calibration import random_backbone
from rushes.training.networks import Classifier
from rushes.video.encode import encode_h264
from tests.footage.conftest import sampler, scene

MODEL = {"backbone": "tiny_frame", "clip_frames": 1, "crop": 48, "short_side": 48, "fps": 25.0, "seed": 3}


def publish(folder: Path, kind: str, weights: dict[str, torch.Tensor], model: dict[str, object]) -> Path:
    """A network in the store, and its pointer."""
    save_file(weights, folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(model))
    store = open_store()
    manifest = Manifest(
        kind=kind,
        step={"backbone": "pretrain"}.get(kind, "finetune"),
        digest="0123",
        inputs={},
        config={},
        code="",
        files={name: store.put(folder / name) for name in ("weights.safetensors", "model.json")},
    )
    manifest.write(folder / f"{kind}.json")
    return folder / f"{kind}.json"


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RUSHES_STORE", raising=False)
    (tmp_path / "videos").mkdir()
    for number in range(4):
        data = encode_h264(iter(scene(number)), fps=25.0, qp=10, gop=12)
        (tmp_path / "videos" / f"v{number}.mp4").write_bytes(data)
    sampler(tmp_path)(tmp_path / "videos", store=open_store())
    found = open_store().find("sample/0123")
    assert found is not None
    found.write(tmp_path / "footage.json")
    return tmp_path / "footage.json"


def run(network: Path, footage: Path, out: Path, *more: str) -> int:
    return parse(
        ["pretext", "maps", "--backbone", str(network), "--footage", str(footage), "--out", str(out), *more]
    ).execute()


def sides(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Left and right column of a sheet, without their titles."""
    pixels = np.asarray(Image.open(path))[80:, 24:]
    return pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]


@pytest.mark.parametrize("kind", ["backbone", "classifier"])
def test_a_picture_and_a_row_a_unit(
    kind: str, tmp_path: Path, footage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    if kind == "backbone":
        network = publish(tmp_path, kind, make_backbone("tiny_frame").state_dict(), MODEL)
    else:
        weights = Classifier(backbone="tiny_frame", classes=2).state_dict()
        network = publish(tmp_path, kind, weights, MODEL | {"labels": ["a", "b"], "init": "pretrained"})
    assert run(network, footage, tmp_path / "maps", "--units", "3", "--pictures", "2") == 0
    picture = Image.open(tmp_path / "maps" / SHEET)
    assert picture.size[0] > 4 * 112 and picture.size[1] > 3 * 112
    shown = capsys.readouterr().out
    assert len([line for line in shown.splitlines() if ".mp4 0:0" in line]) == 3
    assert str(tmp_path / "maps" / SHEET) in shown


def test_the_random_side_is_the_network_as_evaluation_draws_it(tmp_path: Path, footage: Path) -> None:
    seen = Footage(Manifest.read(footage), open_store(), short_side=48)
    same = random_backbone("tiny_frame", seed=3, footage=seen, clip_frames=1, crop=48, device=torch.device("cpu"))
    network = publish(tmp_path, "backbone", same.state_dict(), MODEL)
    assert run(network, footage, tmp_path / "maps") == 0
    trained, random = sides(tmp_path / "maps" / SHEET)
    assert (trained == random).all()
    network = publish(tmp_path, "backbone", make_backbone("tiny_frame").state_dict(), MODEL)
    assert run(network, footage, tmp_path / "maps") == 0
    assert (sides(tmp_path / "maps" / SHEET)[1] == random).all()
    assert (sides(tmp_path / "maps" / SHEET)[0] != random).any()


def test_mistakes_are_said_in_a_line(tmp_path: Path, footage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = publish(tmp_path, "backbone", make_backbone("tiny_frame").state_dict(), MODEL)
    with pytest.raises(UserError, match=r"backbone: .*footage.json holds a footage"):
        run(footage, footage, tmp_path / "maps")
    with pytest.raises(UserError, match="expected 'footage'"):
        run(network, network, tmp_path / "maps")
    with pytest.raises(UserError, match="images: 0 is not allowed"):
        run(network, footage, tmp_path / "maps", "--pictures", "0")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file: give a folder"):
        run(network, footage, tmp_path / "file")
    assert main(["pretext", "maps", "--backbone", "nowhere.json", "--footage", str(footage)]) == 2
    assert "nowhere.json" in capsys.readouterr().err


def test_what_is_looked_at_is_spread_over_the_footage() -> None:
    assert _spread(np.arange(10), 3).tolist() == [0, 4, 8]
    assert _spread(np.arange(3), 200).tolist() == [0, 1, 2]
    assert _spread(np.arange(0), 5).tolist() == []
