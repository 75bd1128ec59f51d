"""What every pretext task must be: labels as the task says, frames inside the segment, a function of its generator."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from rushes.errors import UserError
from rushes.pretext import TASKS, ClipTuple, PretextTask, make_task
from tests.pretext.shots import shot

EVERY_TASK: list[tuple[str, dict[str, Any]]] = [
    ("shuffle_and_learn", {"similarity": 0}),
    ("shuffle_and_learn", {"similarity": 0, "tau_max": 6, "tau_min": 2, "negatives": 0.4, "hidden": 16}),
    ("opn", {}),
    ("opn", {"window": 10, "gap": 2, "jitter": 0, "flip": False, "split_channels": False}),
    ("clip_order", {"clips": 3, "gap": 8}),
    ("clip_order", {"clips": 2, "gap": 0}),
    ("clip_order", {"clips": 4, "gap": 1}),
    ("pace", {"strides": 4}),
    ("pace", {"strides": 2}),
    ("pace", {"strides": 7}),
    ("o3n", {}),
    ("o3n", {"elements": 4, "fusion": "differences", "stride": 2}),
    ("o3n", {"elements": 3}),
    ("arrow_of_time", {}),
    ("arrow_of_time", {"stride": 3}),
]
every_task = pytest.mark.parametrize(("name", "options"), EVERY_TASK)


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def length(task: PretextTask, wanted: int) -> int:
    """Frames of an element: as many as wanted, where the task allows it."""
    shortest, longest = task.clip_lengths
    enough = max(wanted, shortest)
    return min(enough, longest) if longest else enough


def draws(task: PretextTask, *, frames: int, clip_frames: int, count: int) -> list[ClipTuple]:
    return [task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=rng(n)) for n in range(count)]


def test_the_list_covers_every_task() -> None:
    assert {name for name, _ in EVERY_TASK} == set(TASKS)


@every_task
def test_labels_are_uniform_or_in_the_shares_asked_for(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, options)
    labels = [d.label for d in draws(task, frames=200, clip_frames=length(task, 8), count=200 * task.classes)]
    counts = np.bincount(labels, minlength=task.classes)
    assert len(counts) == task.classes
    shares = np.full(task.classes, 1 / task.classes)
    if name == "shuffle_and_learn":
        negatives = options.get("negatives", 0.75)
        shares = np.array([negatives, 1 - negatives])
    assert stats.chisquare(counts, shares * counts.sum()).pvalue > 1e-4
    assert task.chance == shares.max()


@every_task
@given(st.data())
def test_frames_are_inside_any_segment_that_is_long_enough(
    name: str, options: dict[str, Any], data: st.DataObject
) -> None:
    task = make_task(name, options)
    clip_frames = length(task, data.draw(st.integers(2, 20)))
    span = task.span(clip_frames=clip_frames)
    frames = span + data.draw(st.integers(0, 300))
    draw = task.draw(shot(frames), clip_frames=clip_frames, crop=32, rng=rng(data.draw(st.integers(0, 2**32))))
    assert draw.frames.shape == (task.elements, clip_frames)
    assert draw.frames.dtype == np.int64
    assert draw.frames.min() >= 0
    assert draw.frames.max() < frames
    assert 0 <= draw.label < task.classes
    assert draw.crops.shape == (task.elements, 2)
    assert (draw.crops >= 0).all() and (draw.crops % 2 == 0).all()
    assert (draw.crops <= (56 - 32, 76 - 32)).all()


@every_task
def test_the_smallest_segment_serves_every_label(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, options)
    clip_frames = length(task, 5)
    span = task.span(clip_frames=clip_frames)
    seen = set()
    highest = 0
    for draw in draws(task, frames=span, clip_frames=clip_frames, count=40 * task.classes):
        assert draw.frames.min() >= 0
        highest = max(highest, int(draw.frames.max()))
        seen.add(draw.label)
    assert seen == set(range(task.classes))
    # The span is not larger than need be either.
    assert highest == span - 1


@every_task
def test_every_frame_of_a_segment_can_be_seen(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, options)
    clip_frames = length(task, 4)
    frames = task.span(clip_frames=clip_frames) + 8
    seen = np.concatenate([d.frames.ravel() for d in draws(task, frames=frames, clip_frames=clip_frames, count=3000)])
    never = set(range(frames)) - set(seen.tolist())
    assert not never, "a gap no longer than the slack hides no frame, nor does a stride"


@every_task
def test_a_draw_is_a_function_of_its_generator(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, options)

    def draw(*key: int) -> ClipTuple:
        return task.draw(shot(400), clip_frames=length(task, 8), crop=32, rng=rng(*key))

    assert (draw(1, 2, 3).frames == draw(1, 2, 3).frames).all()
    assert (draw(1, 2, 3).crops == draw(1, 2, 3).crops).all()
    assert draw(1, 2, 3).label == draw(1, 2, 3).label
    places = {tuple(draw(*key).crops.ravel()) for key in itertools.product((0, 1), repeat=3)}
    assert len(places) == 8


@every_task
def test_head_and_loss_fit_together(name: str, options: dict[str, Any]) -> None:
    task = make_task(name, options)
    head = task.head(32)
    logits = head(torch.randn(5, task.elements, 32))
    assert logits.shape == (5, task.classes)
    labels = torch.arange(5) % task.classes
    loss = task.loss(logits, labels)
    assert loss.shape == ()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_the_answer_of_clip_orders_head_depends_on_the_order_of_the_clips() -> None:
    task = make_task("clip_order", {})
    head = task.head(16).eval()
    features = torch.randn(1, task.elements, 16)
    assert not torch.allclose(head(features), head(features.flip(1)))


def test_the_published_head_of_clip_order() -> None:
    head = make_task("clip_order", {"clips": 3, "gap": 8}).head(512)
    shapes = [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(512, 1024), (6, 1536)]
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.5]


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("clip_ordr", {}, r"'clip_ordr' is not known; one of .*clip_order, o3n"),
        ("shuffle_and_learn", {"tau_max": 1}, r"tau_max: 1 is not allowed; 2 or more"),
        ("shuffle_and_learn", {"tau_min": 0}, r"tau_min: 0 is not allowed; 1 or more"),
        ("shuffle_and_learn", {"negatives": 1.0}, r"negatives: 1.0 is not allowed; between 0 and 1"),
        ("shuffle_and_learn", {"similarity": -1.0}, r"similarity: -1.0 is not allowed; 0 \(off\) or more"),
        ("shuffle_and_learn", {"hidden": -1}, r"hidden: -1 is not allowed; 0 \(none\) or more"),
        ("opn", {"window": 15}, r"window: 15 is not allowed; 16 or more, for 4 frames and the gaps of 4 between"),
        ("opn", {"gap": -1}, r"gap: -1 is not allowed; 0 or more"),
        ("opn", {"jitter": -1}, r"jitter: -1 is not allowed; 0 \(none\) or more"),
        ("opn", {"flip": 1}, r"flip: 1 is not a bool"),
        ("clip_order", {"clips": 1}, r"clips: 1 is not allowed; 2 to 5"),
        ("clip_order", {"clips": 6}, r"clips: 6 is not allowed"),
        ("clip_order", {"gap": -1}, r"gap: -1 is not allowed"),
        ("clip_order", {"clips": 2.5}, r"clips: 2.5 is not an int"),
        ("clip_order", {"strides": 4}, r"clip_order: unknown key 'strides' \(known: clips, gap\)"),
        ("pace", {"strides": 1}, r"strides: 1 is not allowed; 2 to 16"),
        ("pace", {"strides": 17}, r"strides: 17 is not allowed"),
        ("pace", {"stride": 4}, r"unknown key 'stride'; did you mean 'strides'"),
        ("pace", {"strides": True}, r"strides: True is not an int"),
        ("o3n", {"elements": 1}, r"elements: 1 is not allowed; 2 to 16"),
        ("o3n", {"elements": 5, "fusion": "differences"}, r"elements: 5 .* take an even number, or fusion concat"),
        ("o3n", {"fusion": "sum"}, r"fusion: 'sum' is not allowed; one of concat, differences"),
        ("o3n", {"stride": 0}, r"stride: 0 is not allowed; 1 or more"),
        ("arrow_of_time", {"stride": 0}, r"stride: 0 is not allowed; 1 or more"),
    ],
)
def test_a_mistake_in_the_recipe_is_refused(name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make_task(name, options)
