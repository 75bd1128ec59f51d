"""The no-motion control: is a pretext task solved by what moves, or by something else (facts: methods.md, trap 7)?

A task is trained and tested from scratch on footage in which nothing moves, and for the same budget on footage in
which something does. Where nothing moves nobody can tell one moment from another: an answer that is better than the
commonest one comes from a shortcut. Training and test share no group.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from rushes.config import PretrainConfig
from rushes.errors import UserError
from rushes.evaluation.statistics import MIN_GROUPS, Interval, group_interval
from rushes.footage.labels import Annotation
from rushes.footage.reader import Footage
from rushes.footage.splits import share_of
from rushes.pretext import PretextTask
from rushes.pretext.shuffle_and_learn import ShuffleAndLearn
from rushes.progress import Progress
from rushes.store import Store
from rushes.training.loop import Checkpoints, TrainingSettings, fit
from rushes.training.pretext import PretextNet, PretextTuples
from rushes.video.encode import encode_h264

Integers = npt.NDArray[np.int64]
ControlVerdict = Literal["pass", "shortcut", "not solved", "too few videos"]

ENOUGH = 200
"""Test groups that the control is made for; with fewer it sees large leaks only."""
_ERROR = 0.05  # of all methods together
_LOSSLESS = 0


# Footage in which nothing moves ------------------------------------------------------------------------------------


def hold_still(footage: Footage, rows: Integers, folder: Path, *, seed: int) -> list[Annotation]:
    """Writes a video of each segment that shows one frame of it all the time, as long as the segment.

    Args:
        footage: where the segments are.
        rows: [n] segments.
        folder: of the files, lossless H.264, to be sampled like any others.
        seed: the moment that is held is drawn uniformly from each segment.

    Returns:
        An annotation of each file: its group is that of the segment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups, segments = footage.texts("group"), footage.segments
    annotations = []
    for row in rows.tolist():
        length = int(segments.frames[row])
        held = footage.frames(row, [int(np.random.default_rng([seed, 5, row]).integers(length))])[0]
        name = f"{row:06d}.mp4"
        video = encode_h264((held for _ in range(length)), fps=float(segments.fps[row]), qp=_LOSSLESS, gop=length)
        (folder / name).write_bytes(video)
        annotations.append(Annotation(path=name, group=str(groups[row])))
    return annotations


def without_rejection(task: PretextTask) -> PretextTask:
    """The task as it is asked where nothing moves: no candidate is left out for looking like another."""
    return dataclasses.replace(task, similarity=0.0) if isinstance(task, ShuffleAndLearn) else task


# Training and test --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HeldOutScores:
    """A trained network's answers to test questions."""

    correct: npt.NDArray[np.float64]
    """[n]: 1 where the answer is right, 0 where it is wrong."""
    groups: npt.NDArray[np.str_]
    """[n]: the group of the footage asked about."""


def usable_groups(footage: Footage, rows: Integers, *, span: int) -> dict[str, Integers]:
    """Those of some segments [n] that have a shot of at least `span` frames, by group."""
    row, _, frames = footage.shots(rows)
    long = np.unique(row[frames >= span])
    groups = footage.texts("group")[long]
    return {str(group): long[groups == group] for group in sorted(set(groups))}


def halves(groups: list[str]) -> tuple[list[str], list[str]]:
    """Groups to train on and groups to test on, by a fixed hash of their names; of an odd number, more to test on."""
    order = sorted(groups, key=lambda group: share_of(f"control:{group}"))
    return order[: len(order) // 2], order[len(order) // 2 :]


def train_and_test(
    footage: Footage,
    rows: Integers,
    task: PretextTask,
    config: PretrainConfig,
    *,
    steps: int,
    questions: int,
    seed: int,
    store: Store,
    label: str,
    progress: Progress,
) -> HeldOutScores:
    """Trains a network from scratch on half of the groups and asks it about the others.

    Args:
        footage: where the segments are.
        rows: [n] segments, whatever their split: the network is thrown away.
        task: what is asked.
        config: network, clip geometry, batch and optimizer.
        steps: batches to train for.
        questions: about each test group, so that each counts alike.
        seed: of weights and draws.
        store: for the loop's states.
        label: what the progress bar says.
        progress: where to report to.

    Raises:
        UserError: fewer than two groups have footage that is long enough for the task.
    """
    span = task.span(clip_frames=config.clip_frames)
    grouped = usable_groups(footage, rows, span=span)
    if len(grouped) < 2:
        raise UserError(
            f"footage: {len(grouped)} groups of videos have a shot of {span} frames; the control needs 2 or more, to "
            "train on and to test on: use more or longer videos"
        )
    train, test = halves(list(grouped))
    data = PretextTuples(
        footage,
        np.concatenate([grouped[group] for group in train]),
        task=task,
        clip_frames=config.clip_frames,
        crop=config.crop,
        seed=seed,
        samples=steps * config.batch,
    )
    torch.manual_seed(seed)
    net = PretextNet(task, backbone=config.backbone)
    optimizer = dataclasses.replace(config.optimizer, warmup_steps=min(config.optimizer.warmup_steps, steps // 4))
    plan = TrainingSettings(
        epochs=1,
        batch=config.batch,
        seed=seed,
        optimizer=optimizer,
        checkpoint_steps=steps,
        device=config.device,
        workers=config.workers,
    )
    fit(
        net,
        task.loss,
        data=data,
        validation=None,
        plan=plan,
        checkpoints=Checkpoints(store, "control"),
        label=label,
        progress=progress,
    )
    return ask(net, footage, {group: grouped[group] for group in test}, config, questions=questions, seed=seed + 1)


@torch.no_grad()
def ask(
    net: PretextNet, footage: Footage, rows: dict[str, Integers], config: PretrainConfig, *, questions: int, seed: int
) -> HeldOutScores:
    """Asks a network as many questions about each group's segments, [n] of them each."""
    net.eval()
    device = next(net.parameters()).device
    correct: list[bool] = []
    for place, chosen in enumerate(rows.values()):
        tuples = PretextTuples(
            footage,
            chosen,
            task=net.task,
            clip_frames=config.clip_frames,
            crop=config.crop,
            seed=seed,
            samples=questions,
        )
        asked = [tuples.question((place, number)) for number in range(questions)]
        answers = net(torch.stack([question.clips for question in asked]).to(device)).argmax(1).tolist()
        correct += [answer == question.draw.label for answer, question in zip(answers, asked, strict=True)]
    return HeldOutScores(correct=np.array(correct, np.float64), groups=np.repeat(np.array(list(rows)), questions))


# The verdict ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """What the control says of one method."""

    chance: float
    """Accuracy of always giving the commonest answer."""
    still: Interval
    """Accuracy where nothing moves."""
    moving: Interval
    """Accuracy where something does, after the same budget."""
    verdict: ControlVerdict


def judge(
    *, chance: float, still: HeldOutScores, moving: HeldOutScores, methods: int, resamples: int, seed: int
) -> ControlResult:
    """Holds accuracies against the commonest answer's, at 5 % error for all methods together (Bonferroni).

    `shortcut`: the interval without motion lies above it. `not solved`: the interval with motion does not, so that the
    other says nothing about the task. `pass`: neither. Without intervals there are too few videos to say.
    """
    confidence = 1 - _ERROR / methods
    still_interval, moving_interval = (
        group_interval(answers.correct, answers.groups, resamples=resamples, seed=seed, confidence=confidence)
        for answers in (still, moving)
    )
    verdict: ControlVerdict = "pass"
    if still_interval.low is None or moving_interval.low is None:
        verdict = "too few videos"
    elif still_interval.low > chance:
        verdict = "shortcut"
    elif not moving_interval.low > chance:
        verdict = "not solved"
    return ControlResult(chance=chance, still=still_interval, moving=moving_interval, verdict=verdict)


def explain(judged: ControlResult) -> str:
    """What follows from a verdict, in a sentence or two."""
    return {
        "pass": "Where nothing moves it cannot be solved; where something moves it can.",
        "shortcut": "It is solved where nothing moves, so by something other than motion. Look for what changes with "
        "time in still footage: a clock or counter in the picture, a flickering border or logo, quality that follows "
        "the key frames (sample.qp, sample.gop), a crop or an order that depends on the answer.",
        "not solved": "Within this budget it is not solved where something moves either, so that this is no proof: "
        "give it more steps, or look at its questions (rushes pretext show).",
        "too few videos": f"Fewer than {MIN_GROUPS} groups of videos to test on: no interval, no verdict.",
    }[judged.verdict]
