"""The contrastive add-on: which clips are alike, against a loop that anyone can follow."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rushes.config import PretrainConfig
from rushes.errors import UserError
from rushes.pretext import make_task
from rushes.training.contrast import info_nce
from rushes.training.data import Batches
from rushes.training.pretext import PretextNet, PretextTuples
from tests.training.stand_in import stand_in


def reference(projected: Tensor, groups: list[int], temperature: float) -> float:
    """Pair by pair, in numbers."""

    def alike(i: int, j: int) -> float:
        return math.exp(float(F.cosine_similarity(projected[i], projected[j], dim=0)) / temperature)

    losses = []
    for i, group in enumerate(groups):
        negatives = sum(alike(i, n) for n, other in enumerate(groups) if other != group)
        for j, other in enumerate(groups):
            if j != i and other == group:
                losses.append(-math.log(alike(i, j) / (alike(i, j) + negatives)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("groups", [[0, 0, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2], [0, 1, 0, 2, 1, 0]])
def test_the_loss_is_that_of_a_plain_loop(groups: list[int]) -> None:
    torch.manual_seed(0)
    projected = 3 * torch.randn(len(groups), 5)
    for temperature in (0.07, 0.5):
        found = float(info_nce(projected, torch.tensor(groups), temperature=temperature))
        assert found == pytest.approx(reference(projected, groups, temperature), rel=1e-4)


def test_groups_apart_cost_nothing_and_groups_mixed_up_cost_much() -> None:
    projected = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    apart, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert info_nce(projected, apart) < 1e-5
    assert info_nce(projected, mixed) > 10
    # Each pair against two others: cosines 0 with its own, 1 and 0 with the others.
    expected = math.log(2 + math.exp(1 / 0.5))
    assert float(info_nce(projected, mixed, temperature=0.5)) == pytest.approx(expected, rel=1e-5)


def test_clips_without_another_of_their_group_cost_nothing() -> None:
    assert info_nce(torch.randn(3, 5), torch.arange(3)) == 0
    assert info_nce(torch.randn(3, 5), torch.zeros(3, dtype=torch.long)) == 0


def clips(tuples: int, elements: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (tuples, elements, 4, 24, 16), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("task", "draws", "groups"),
    [
        ("pace", 2, [0, 0, 1, 1]),
        ("pace", 4, [0, 0, 0, 0, 1, 1, 1, 1]),
        ("clip_order", 1, [0, 0, 0, 1, 1, 1]),
        ("clip_order", 2, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_clips_of_a_window_are_alike_within_and_between_tuples(task: str, draws: int, groups: list[int]) -> None:
    torch.manual_seed(0)
    chosen = make_task(task, {})
    net = PretextNet(chosen, backbone="tiny_r3d", contrast=0.5, draws=draws).eval()
    batch, labels = clips(2 * draws, chosen.elements), torch.zeros(2 * draws, dtype=torch.long)
    assert net.projection is not None
    with torch.no_grad():
        loss, logits = net.objective(batch, labels)
        torch.testing.assert_close(logits, net(batch))
        contrast = reference(net.projection(net.features(batch).flatten(0, 1)), groups, 0.07)
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits, labels)) + 0.5 * contrast, rel=1e-4)


def test_rows_of_a_batch_come_window_by_window_in_every_epoch() -> None:
    footage = stand_in(lengths=[60] * 9, height=16, width=16)
    task = make_task("pace", {})
    data = PretextTuples(footage, footage.select(), task=task, clip_frames=4, crop=16, seed=0, samples=25, draws=4)
    for places in Batches(samples=24, batch=8, first_step=0, last_step=9):
        stretches = [data.question(place).stretch for place in places]
        assert [stretches.index(stretch) for stretch in stretches] == [0] * 4 + [4] * 4


def test_without_contrast_there_is_neither_another_loss_nor_another_weight() -> None:
    task = make_task("clip_order", {})
    torch.manual_seed(0)
    plain = PretextNet(task, backbone="tiny_r3d").eval()
    torch.manual_seed(0)
    net = PretextNet(task, backbone="tiny_r3d", contrast=0.5).eval()
    state = net.state_dict()
    assert {key for key in state if key.split(".")[0] not in ("backbone", "head")} == {
        f"projection.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
    # The same start, so that the two can be compared.
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    batch, labels = clips(4, 3), torch.arange(4)
    with torch.no_grad():
        loss, logits = plain.objective(batch, labels)
    assert loss == F.cross_entropy(logits, labels)


def test_both_losses_reach_the_backbone_and_their_own_heads() -> None:
    torch.manual_seed(0)
    net = PretextNet(make_task("pace", {}), backbone="tiny_r3d", contrast=1.0, draws=2)
    loss, _ = net.objective(clips(8, 1), torch.arange(8) % 4)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_clip_alone_has_nothing_to_be_like() -> None:
    with pytest.raises(UserError, match=r"pretrain.contrast: 0.5 is not allowed where .*draws_per_window to 2 or more"):
        PretextNet(make_task("pace", {}), backbone="tiny_r3d", contrast=0.5)
    PretextNet(make_task("clip_order", {}), backbone="tiny_r3d", contrast=0.5)


@pytest.mark.parametrize(("batch", "draws"), [(8, 3), (4, 4), (2, 4)])
def test_a_batch_holds_whole_windows_and_more_than_one(batch: int, draws: int) -> None:
    PretrainConfig(batch=batch, draws_per_window=draws)
    with pytest.raises(UserError, match=rf"pretrain.batch: {batch} is not allowed; with contrast, a multiple of draws"):
        PretrainConfig(batch=batch, draws_per_window=draws, contrast=0.5)
    with pytest.raises(UserError, match=r"pretrain.contrast: -1.0 is not allowed"):
        PretrainConfig(contrast=-1.0)
    PretrainConfig(batch=8, draws_per_window=4, contrast=0.5)
