"""Networks over I420 clips, and weights that load whole or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.pretext import TASKS, make_task
from rushes.store import Manifest, Store
from rushes.training.networks import MEAN, STD, Classifier, normalise
from rushes.training.pretext import PretextNet
from rushes.training.weights import load_backbone, load_classifier


def i420(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_tuple_of_stored_clips_becomes_an_answer(name: str) -> None:
    task = make_task(name, {})
    net = PretextNet(task, backbone="tiny_r3d")
    logits = net(i420(3, task.elements, 8, 24, 16))
    assert logits.shape == (3, task.classes)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_batch_norm_sees_the_elements_of_a_tuple_together() -> None:
    task = make_task("clip_order", {"clips": 2})
    torch.manual_seed(0)
    net = PretextNet(task, backbone="tiny_r3d")
    seen: list[int] = []
    norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm3d))
    norm.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    net(i420(3, 2, 4, 24, 16))
    assert seen == [6]


def test_elements_keep_their_place_in_their_tuple() -> None:
    net = PretextNet(make_task("clip_order", {"clips": 2}), backbone="tiny_r3d").eval()
    tuples = i420(2, 2, 4, 24, 16)
    with torch.no_grad():
        both = net(tuples)
        torch.testing.assert_close(net(tuples[1:]), both[1:], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(net(tuples.flip(1)), both)


def test_a_classifier_is_its_features_and_a_linear_layer() -> None:
    net = Classifier(backbone="tiny_r2plus1d", classes=5, dropout=0.5).eval()
    clips = i420(2, 8, 60, 40)
    with torch.no_grad():
        assert net.features(clips).shape == (2, 128)
        torch.testing.assert_close(net(clips), net.head(net.features(clips)))


def test_normalising_is_undone_by_mean_and_std() -> None:
    rgb = torch.rand(2, 3, 4, 6, 6)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(normalise(rgb) * std + mean, rgb)


def stored(store: Store, weights: dict[str, Tensor], folder: Path, model: str = "{}") -> Manifest:
    folder.mkdir(exist_ok=True)
    whole = {key: value.contiguous() for key, value in weights.items()}  # safetensors refuses other layouts
    save_file(whole, folder / "weights.safetensors")
    (folder / "model.json").write_text(model)
    files = {path.name: store.put(path) for path in folder.iterdir()}
    return Manifest(kind="backbone", step="pretrain", digest="d", inputs={}, config={}, code="", files=files)


def test_a_backbone_loads_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    source, target = (Classifier(backbone="tiny_r3d", classes=2).backbone for _ in range(2))
    weights = source.state_dict()
    load_backbone(target, stored(store, weights, tmp_path / "a"), store)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in weights.items())
    before = {key: value.clone() for key, value in target.state_dict().items()}
    first = next(iter(weights))
    without = {key: value for key, value in weights.items() if key != first}
    wrong = [
        (without, f"of {len(weights)} keys 1 missing \\({first}\\)"),
        ({**weights, "extra": torch.zeros(1)}, "1 unknown \\(extra\\)"),
        ({**weights, first: torch.zeros(2)}, f"1 of another shape \\({first} is \\[2\\], not"),
        (Classifier(backbone="tiny_r2plus1d", classes=2).backbone.state_dict(), "check pretrain.backbone"),
        ({}, f"{len(weights)} missing"),
    ]
    for number, (bad, complaint) in enumerate(wrong):
        with pytest.raises(UserError, match=complaint):
            load_backbone(target, stored(store, bad, tmp_path / f"b{number}"), store)
        assert all(torch.equal(value, target.state_dict()[key]) for key, value in before.items())


def test_a_classifier_is_rebuilt_from_its_manifest(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    net = Classifier(backbone="tiny_r3d", classes=3).eval()
    model = '{"backbone": "tiny_r3d", "labels": ["a", "b", "c"]}'
    rebuilt, read = load_classifier(stored(store, net.state_dict(), tmp_path / "c", model), store)
    assert read["labels"] == ["a", "b", "c"]
    assert not rebuilt.training
    clips = i420(2, 8, 24, 16)
    with torch.no_grad():
        assert torch.equal(rebuilt(clips), net(clips))
