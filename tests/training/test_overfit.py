"""Every task can be learned, by every network that it fits.

Each task on its smallest network and each network on one task learn a fixed batch by heart: the loss falls tenfold.
The other pairs that fit are one step: the loss is a number and its gradient reaches every weight of the backbone.
"""

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from rushes.backbones import BACKBONES, make_backbone
from rushes.errors import UserError
from rushes.pretext import TASKS, PretextTask, make_task
from rushes.training.pretext import PretextNet, PretextTuples
from tests.training.stand_in import stand_in

SMALLEST = ("tiny_frame", "tiny_stack", "tiny_r3d", "tiny_r2plus1d")
"""Networks from small to large; a task's smallest is the first that it fits."""
STEPS = 40


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clip_frames(task: PretextTask, backbone: str) -> int | None:
    """Short clips that both take; None where one is about frames and the other about clips."""
    frames = shortest_clip(backbone)
    try:
        task.check(clip_frames=frames)
    except UserError:
        return None
    return frames


@functools.cache
def shortest_clip(backbone: str) -> int:
    with torch.device("meta"):
        net = make_backbone(backbone)
    return net.frames or max(4, net.least_frames)


def fits(task: str, backbone: str) -> bool:
    return clip_frames(make_task(task, {}), backbone) is not None


LEARNED = {
    **{(task, next(net for net in SMALLEST if fits(task, net))): None for task in TASKS},
    **{
        (min((t for t in TASKS if fits(t, net)), key=lambda t: make_task(t, {}).elements), net): None
        for net in BACKBONES
    },
}
"""Pairs that learn a batch by heart; a network does so with a task of few elements."""
OTHERS = [(task, net) for task in TASKS for net in BACKBONES if fits(task, net) and (task, net) not in LEARNED]


def made(name: str, backbone: str, *, tuples: int) -> tuple[PretextNet, Tensor, Tensor]:
    """The network without dropout, in training mode, and a batch of questions about noise: [B, E, T, S*3/2, S]."""
    task = make_task(name, {})
    frames = clip_frames(task, backbone)
    assert frames is not None
    torch.manual_seed(0)
    net = PretextNet(task, backbone=backbone).train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    side = -(-net.backbone.least_side // 2) * 2
    span = task.span(clip_frames=frames)
    footage = stand_in(lengths=[span + 20] * tuples, height=side + 8, width=side + 8)
    rows = footage.select()
    data = PretextTuples(footage, rows, task=task, clip_frames=frames, crop=side, seed=0, samples=2 * tuples)
    found = [data[0, number] for number in range(2 * tuples)]
    labels = [label for _, label in found]
    # One of each answer before another of the same.
    chosen = sorted(range(len(found)), key=lambda n: labels[:n].count(labels[n]))[:tuples]
    return net, torch.stack([found[n][0] for n in chosen]), torch.tensor([labels[n] for n in chosen])


@pytest.mark.parametrize(("task", "backbone"), LEARNED)
def test_the_loss_on_a_fixed_batch_falls_tenfold(task: str, backbone: str) -> None:
    net, clips, labels = made(task, backbone, tuples=6)
    assert len(set(labels.tolist())) > 1
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    first = 0.0
    for _ in range(STEPS):
        logits = net(clips)
        loss = net.task.loss(logits, labels)
        first = first or float(loss.detach())
        if loss < first / 10:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < first / 10
    assert (logits.argmax(1) == labels).all()
    assert first > 0.3


@pytest.mark.parametrize(("task", "backbone"), OTHERS)
def test_a_step_of_any_other_pair_reaches_every_weight_of_the_backbone(task: str, backbone: str) -> None:
    net, clips, labels = made(task, backbone, tuples=2)
    logits = net(clips)
    loss = net.task.loss(logits, labels)
    assert logits.shape == (2, net.task.classes)
    assert loss.isfinite()
    loss.backward()  # type: ignore[no-untyped-call]
    unreached = [key for key, p in net.backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert unreached == []


def test_every_task_and_every_network_is_in_some_pair() -> None:
    assert {task for task, _ in LEARNED} == set(TASKS)
    assert {net for _, net in LEARNED} == set(BACKBONES)
