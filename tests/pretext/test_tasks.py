"""Properties of every registered pretext task, found by discovery: a new task needs a test of what is special about it.

Each task is tested with its defaults and with the options of its recipes. That it can be learned is tested in
`tests/training/test_overfit.py`.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from rushes.errors import UserError
from rushes.pretext import TASKS, ClipTuple, PretextTask, Shot, make_task
from rushes.recipes import known_models, load_recipe, recipe_sizes
from rushes.training.data import mirror
from rushes.training.pretext import PretextTuples, one_channel
from rushes.video.clips import crop_i420
from tests.pretext.shots import lively, shot, still
from tests.training.stand_in import stand_in

FURTHER: list[tuple[str, dict[str, Any]]] = [
    ("shuffle_and_learn", {"tau_max": 6, "tau_min": 2, "negatives": 0.4, "hidden": 16}),
    ("opn", {"window": 10, "gap": 2, "jitter": 0, "flip": False, "split_channels": False}),
    ("clip_order", {"clips": 2, "gap": 0}),
    ("clip_order", {"clips": 4, "gap": 1}),
    ("pace", {"strides": 2}),
    ("pace", {"strides": 7}),
    ("o3n", {"elements": 4, "fusion": "differences", "stride": 2}),
    ("o3n", {"elements": 3}),
    ("arrow_of_time", {"stride": 3}),
]
"""Options beside a task's defaults and those of the recipes, which are found."""


def in_recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks of all recipes, with their options."""
    for model in known_models():
        for size in recipe_sizes(model):
            pretrain = load_recipe(model, size=size).pretrain
            yield pretrain.task, dict(pretrain.options)


def every_case() -> list[Any]:
    """Each task and options once: every registered task by its defaults and by its recipes', and further options."""
    found: dict[str, Any] = {}
    for name, options in [*((name, {}) for name in TASKS), *in_recipes(), *FURTHER]:
        task = make_task(name, options)
        found.setdefault(f"{task!r}", pytest.param(task, id="-".join([name, *map(str, options.values())])))
    return list(found.values())


every_task = pytest.mark.parametrize("task", every_case())


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def length(task: PretextTask, wanted: int) -> int:
    """Frames of an element: as many as wanted, where the task allows it."""
    shortest, longest = task.clip_lengths
    enough = max(wanted, shortest)
    return min(enough, longest) if longest else enough


def tuples(task: PretextTask, of: Shot, *, clip_frames: int, count: int) -> list[ClipTuple]:
    return [task.draw(of, clip_frames=clip_frames, crop=32, rng=rng(n)) for n in range(count)]


def assert_at_chance(task: PretextTask, labels: list[int]) -> None:
    """Labels are uniform; where they are not, the best constant answer is right as often as `chance` says."""
    counts = np.bincount(labels, minlength=task.classes)
    assert len(counts) == task.classes
    if task.chance == 1 / task.classes:
        assert stats.chisquare(counts).pvalue > 1e-4
    else:
        assert stats.binomtest(int(counts.max()), len(labels), task.chance).pvalue > 1e-4


# Tuples --------------------------------------------------------------------------------------------------------------


@every_task
@pytest.mark.parametrize("footage", [lively, still])
def test_labels_are_at_chance_also_where_nothing_moves(task: PretextTask, footage: Callable[[int], Shot]) -> None:
    clip_frames = length(task, 8)
    of = footage(task.span(clip_frames=clip_frames) + 20)
    drawn = tuples(task, of, clip_frames=clip_frames, count=200 * task.classes)
    assert_at_chance(task, [one.label for one in drawn])


@every_task
def test_on_still_footage_nothing_that_is_shown_depends_on_the_label(task: PretextTask) -> None:
    """There a tuple is its crops, its flip and its channels: these say nothing about the label."""
    clip_frames = length(task, 8)
    of = still(task.span(clip_frames=clip_frames) + 20)
    drawn = tuples(task, of, clip_frames=clip_frames, count=max(100 * task.classes, 800))
    labels = np.array([one.label for one in drawn])
    shown = [np.array([one.crops.ravel() for one in drawn]), np.array([[one.flip] for one in drawn])]
    shown += [np.array([one.channels for one in drawn])] if drawn[0].channels is not None else []
    columns = np.concatenate(shown, axis=1).T
    for column in columns:
        if len(np.unique(column)) > 1:
            p = stats.f_oneway(*(column[labels == label] for label in np.unique(labels))).pvalue
            assert p > 1e-3 / len(columns)


@every_task
@given(st.data())
def test_frames_are_inside_any_shot_that_is_long_enough(task: PretextTask, data: st.DataObject) -> None:
    clip_frames = length(task, data.draw(st.integers(2, 20)))
    frames = task.span(clip_frames=clip_frames) + data.draw(st.integers(0, 300))
    drawn = task.draw(lively(frames), clip_frames=clip_frames, crop=32, rng=rng(data.draw(st.integers(0, 2**32))))
    assert drawn.frames.shape == (task.elements, clip_frames)
    assert drawn.frames.dtype == np.int64
    assert drawn.frames.min() >= 0
    assert drawn.frames.max() < frames
    assert 0 <= drawn.label < task.classes


@every_task
@given(seed=st.integers(0, 2**32))
def test_an_element_has_one_crop_inside_the_frame(task: PretextTask, seed: int) -> None:
    clip_frames = length(task, 8)
    of = lively(task.span(clip_frames=clip_frames) + 5)
    drawn = task.draw(of, clip_frames=clip_frames, crop=32, rng=rng(seed))
    assert drawn.crops.shape == (task.elements, 2)
    assert (drawn.crops >= 0).all() and (drawn.crops % 2 == 0).all()
    assert (drawn.crops <= (56 - 32, 76 - 32)).all()
    assert drawn.channels is None or (drawn.channels.shape == (task.elements,) and set(drawn.channels) <= {0, 1, 2})


@every_task
def test_the_shortest_shot_serves_every_label(task: PretextTask) -> None:
    clip_frames = length(task, 5)
    span = task.span(clip_frames=clip_frames)
    drawn = tuples(task, lively(span), clip_frames=clip_frames, count=40 * task.classes)
    assert min(one.frames.min() for one in drawn) >= 0
    assert {one.label for one in drawn} == set(range(task.classes))
    # The span is not larger than need be either.
    assert max(one.frames.max() for one in drawn) == span - 1


@every_task
def test_every_frame_of_a_shot_can_be_seen(task: PretextTask) -> None:
    clip_frames = length(task, 4)
    frames = task.span(clip_frames=clip_frames) + 8
    of = shot(frames, pictures=lively(frames).read_frames(np.arange(frames)))
    drawn = tuples(task, of, clip_frames=clip_frames, count=3000)
    never = set(range(frames)) - set(np.concatenate([one.frames.ravel() for one in drawn]).tolist())
    assert not never, "a gap no longer than the slack hides no frame, nor does a stride"


@every_task
def test_a_tuple_is_a_function_of_its_generator(task: PretextTask) -> None:
    def drawn(*key: int) -> ClipTuple:
        return task.draw(lively(400), clip_frames=length(task, 8), crop=32, rng=rng(*key))

    assert (drawn(1, 2, 3).frames == drawn(1, 2, 3).frames).all()
    assert (drawn(1, 2, 3).crops == drawn(1, 2, 3).crops).all()
    assert drawn(1, 2, 3).label == drawn(1, 2, 3).label
    corners = {tuple(drawn(*key).crops.ravel()) for key in itertools.product((0, 1), repeat=3)}
    assert len(corners) == 8


@every_task
def test_a_decoded_tuple_is_a_function_of_seed_epoch_and_number(task: PretextTask) -> None:
    clip_frames = length(task, 4)

    def dataset(seed: int) -> PretextTuples:
        footage = stand_in(lengths=[task.span(clip_frames=clip_frames) + 9] * 4, height=24, width=28)
        return PretextTuples(
            footage, footage.select(), task=task, clip_frames=clip_frames, crop=16, seed=seed, samples=5
        )

    def bytes_of(found: tuple[Tensor, int]) -> tuple[bytes, int]:
        assert found[0].shape == (task.elements, clip_frames, 24, 16) and found[0].dtype == torch.uint8
        return found[0].numpy().tobytes(), found[1]

    positions = list(itertools.product(range(2), range(5)))
    one, other = dataset(seed=1), dataset(seed=1)
    in_order = {position: bytes_of(one[position]) for position in positions}
    assert {position: bytes_of(other[position]) for position in reversed(positions)} == in_order
    assert len({clips for clips, _ in in_order.values()}) == len(positions)
    assert bytes_of(dataset(seed=2)[0, 0]) != in_order[0, 0]


@every_task
def test_a_tuple_is_cut_from_the_frames_that_it_names(task: PretextTask) -> None:
    clip_frames = length(task, 4)
    footage = stand_in(lengths=[task.span(clip_frames=clip_frames) + 9] * 4, height=24, width=28, cuts={0: [5]})
    data = PretextTuples(footage, footage.select(), task=task, clip_frames=clip_frames, crop=16, seed=3, samples=6)
    for number in range(6):
        source, drawn, clips = data.decoded((0, number))
        for index, clip in enumerate(clips.numpy()):
            top, left = drawn.crops[index].tolist()
            frames = footage.frames(source.row, source.first + drawn.frames[index])
            expected = crop_i420(frames, top=top, left=left, size=16)
            expected = mirror(expected) if drawn.flip else expected
            expected = expected if drawn.channels is None else one_channel(expected, int(drawn.channels[index]))
            assert (clip == expected).all()


# Head, loss and words ------------------------------------------------------------------------------------------------


@every_task
def test_head_and_loss_fit_together(task: PretextTask) -> None:
    head = task.head(32)
    logits = head(torch.randn(5, task.elements, 32))
    assert logits.shape == (5, task.classes)
    labels = torch.arange(5) % task.classes
    loss = task.loss(logits, labels)
    assert loss.shape == ()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@every_task
def test_answers_in_words_are_one_line_and_differ(task: PretextTask) -> None:
    answers = [task.answer(label) for label in range(task.classes)]
    assert len(set(answers)) == task.classes
    assert all(answer and "\n" not in answer for answer in answers)


@every_task
def test_a_task_says_what_it_is_and_which_clips_it_takes(task: PretextTask) -> None:
    assert (type(task).__doc__ or "").strip()
    shortest, longest = task.clip_lengths
    task.check(clip_frames=shortest)
    if shortest > 1:
        with pytest.raises(UserError, match=rf"clip_frames: {shortest - 1} is not allowed; {shortest} or more"):
            task.check(clip_frames=shortest - 1)
    if longest is not None:
        with pytest.raises(UserError, match=rf"pretrain.clip_frames: {longest + 1} is not allowed"):
            task.check(clip_frames=longest + 1)


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
