"""Weights that training begins with: every key loaded or dropped on purpose, and whatever is no weights says so."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rushes.backbones import Backbone, make_backbone
from rushes.errors import UserError
from rushes.training.networks import Classifier
from rushes.training.weights import load_start, renamed


def torchvisions(name: str) -> torch.nn.Module:
    """Torchvision's network of this name, with random weights."""
    from torchvision import models  # here: it takes seconds, in every process that collects this file

    return getattr(models if name == "alexnet" else models.video, name)(weights=None)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def r3d_18() -> dict[str, Tensor]:
    return dict(torchvisions("r3d_18").state_dict())


def written(folder: Path, weights: Any, name: str = "weights.pth", **options: Any) -> Path:
    torch.save(weights, folder / name, **options)
    return folder / name


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_video_weights_give_its_very_features(name: str, zipped: bool, tmp_path: Path) -> None:
    theirs = torchvisions(name).eval()
    file = written(tmp_path, theirs.state_dict(), _use_new_zipfile_serialization=zipped)
    net = make_backbone(name).eval()
    load_start(net, file, source="init")
    theirs.fc = torch.nn.Identity()
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(clips), theirs(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_our_own_weights_come_back_with_or_without_a_head(suffix: str, tmp_path: Path) -> None:
    earlier = Classifier(backbone="tiny_r3d", classes=3)
    for number, weights in enumerate((earlier.backbone.state_dict(), earlier.state_dict())):
        file = tmp_path / f"{number}.{suffix}"
        if suffix == "pth":
            torch.save(weights, file)
        else:
            save_file({key: value.contiguous() for key, value in weights.items()}, file)
        net = make_backbone("tiny_r3d")
        load_start(net, file, source="init")
        assert same(net.state_dict(), earlier.backbone.state_dict())


def test_without_a_file_the_weights_stay() -> None:
    net = make_backbone("tiny_r3d")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_start(net, None, source="init")
    assert same(net.state_dict(), before)


def caffe_weights(net: Backbone) -> dict[str, Tensor]:
    """Weights of CaffeNet's shapes under AlexNet's names."""
    assert net.torchvision is not None
    own, names = net.state_dict(), net.torchvision
    back = {ours: theirs for theirs, ours in names.ours.items()}
    found = {}
    for key, value in own.items():
        begin = next((ours for ours in back if key.startswith(ours)), None)
        if begin is not None:
            found[back[begin] + key.removeprefix(begin)] = torch.randn_like(value)
    return found | {f"features.{n}.bias": torch.zeros(1) for n in (6, 8, 10)} | {"classifier.6.bias": torch.zeros(1000)}


def test_caffenets_convolutions_are_loaded_and_the_rest_stays_random(tmp_path: Path) -> None:
    net = make_backbone("caffenet_opn")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    theirs = caffe_weights(net)
    load_start(net, written(tmp_path, theirs), source="init")
    after = net.state_dict()
    assert net.torchvision is not None
    loaded = {key for key in after if not torch.equal(after[key], before[key])}
    assert loaded == set(renamed(theirs, net.torchvision)) and len(loaded) == 7
    assert torch.equal(after["convolutions.9.weight"], theirs["features.6.weight"])


def test_torchvisions_alexnet_is_not_caffenet_and_the_layers_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, torchvisions("alexnet").state_dict())
    with pytest.raises(UserError) as caught:
        load_start(make_backbone("caffenet_opn"), file, source="pretrain.init alexnet.pth")
    assert "of another shape" in str(caught.value)
    assert "convolutions.1.weight is [64, 3, 11, 11], not [96, 3, 11, 11]" in str(caught.value)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda w: w | {"layer5.weight": torch.zeros(1)}, "1 unknown (layer5.weight)"),
        (lambda w: {k: v for k, v in w.items() if k != "layer1.0.conv1.0.weight"}, "1 missing (layer1.0.conv1.0.w"),
        (lambda w: w | {"stem.0.weight": torch.zeros(1, 2)}, "stem.0.weight is [1, 2], not [64, 3, 3, 7, 7]"),
        (lambda w: w | {"fc": torch.zeros(1)}, "1 unknown (fc)"),
    ],
)
def test_no_key_is_passed_over(mistake: Any, words: str, r3d_18: dict[str, Tensor], tmp_path: Path) -> None:
    file = written(tmp_path, mistake(r3d_18))
    net = make_backbone("r3d_18")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_start(net, file, source="pretrain.init mine.pth")
    assert words in str(caught.value)
    assert str(caught.value).startswith("pretrain.init mine.pth: weights of another network")
    assert same(net.state_dict(), before)


def test_a_checkpoint_of_another_architecture_names_its_keys(r3d_18: dict[str, Tensor], tmp_path: Path) -> None:
    file = written(tmp_path, r3d_18)
    with pytest.raises(UserError, match=r"missing \(stem\.0\.0\.weight, .*unknown \(stem\.0\.weight, .*check pretr"):
        load_start(make_backbone("r2plus1d"), file, source="init")


class Trap:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no state dict"),
        (b"not weights at all", "no state dict"),
        (b"\x10\0\0\0\0\0\0\0{broken header...", "no state dict"),
        (pickle.dumps(Trap(), protocol=2), "no state dict"),
        ({"epoch": 3, "model": {}}, "holds other things than tensors (epoch, model); expected a state dict"),
        ({}, "holds nothing"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_a_file_that_is_no_state_dict_says_what_it_is(
    content: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError) as caught:
        load_start(make_backbone("tiny_r3d"), file, source="init file.pth")
    assert str(caught.value).startswith("init file.pth: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_run").exists()
