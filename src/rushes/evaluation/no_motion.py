"""The no-motion control: is a pretext task solved by motion, or by a shortcut (docs/methods.md#trap-7)?

A task is trained and tested from scratch on footage in which nothing moves, and for the same budget on footage in
which something does. Where nothing moves, one moment cannot be told from another: an answer that is better than always
giving the commonest one comes from a shortcut. Training and test share no group.
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
from rushes.evaluation.statistics import MIN_GROUPS, Interval, share_interval
from rushes.footage.annotation import Annotation
from rushes.footage.reader import Footage
from rushes.footage.splits import share_of
from rushes.pretext import PretextTask
from rushes.pretext.shuffle_and_learn import ShuffleAndLearn
from rushes.progress import Progress
from rushes.training.loop import fit
from rushes.training.pretext import PretextNet, PretextTuples
from rushes.video.encode import encode_h264

Integers = npt.NDArray[np.int64]
ControlVerdict = Literal["pass", "shortcut", "not solved", "too few videos"]

ENOUGH = 200
"""Test groups that the control needs; with fewer it finds only large leaks."""
_ERROR = 0.05  # of all methods together
_LOSSLESS = 0


# Footage in which nothing moves ------------------------------------------------------------------------------------


def hold_still(footage: Footage, rows: Integers, folder: Path, *, seed: int) -> list[Annotation]:
    """Writes one video per segment: a single frame of it, repeated for the length of the segment.

    Args:
        footage: where the segments are.
        rows: [n] segments.
        folder: for the files, lossless H.264, to be sampled like any others.
        seed: of the frame, which is drawn uniformly from each segment.

    Returns:
        One annotation per file, with the group of its segment.
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
    """The task for footage in which nothing moves: similar frames are not rejected, since all are alike there."""
    return dataclasses.replace(task, similarity=0.0) if isinstance(task, ShuffleAndLearn) else task


# Training and test --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HeldOutScores:
    """Right and wrong answers of a trained network about test tuples."""

    correct: npt.NDArray[np.float64]
    """[n]: 1 where the answer is right, 0 where it is wrong."""
    groups: npt.NDArray[np.str_]
    """[n]: group of the segment that the tuple is from."""


def usable_groups(footage: Footage, rows: Integers, *, span: int) -> dict[str, Integers]:
    """The segments, of `rows` [n], that have a shot of at least `span` frames, by group."""
    row, _, frames = footage.shots(rows)
    long = np.unique(row[frames >= span])
    groups = footage.texts("group")[long]
    return {str(group): long[groups == group] for group in sorted(set(groups))}


def halves(groups: list[str]) -> tuple[list[str], list[str]]:
    """Groups to train on and groups to test on, by a fixed hash of their names; an odd one is tested on."""
    order = sorted(groups, key=lambda group: share_of(f"control:{group}"))
    return order[: len(order) // 2], order[len(order) // 2 :]


def train_and_test(
    footage: Footage,
    rows: Integers,
    task: PretextTask,
    config: PretrainConfig,
    *,
    steps: int,
    tuples: int,
    seed: int,
    label: str,
    progress: Progress,
) -> HeldOutScores:
    """Trains a network from scratch on half of the groups and tests it on the others.

    Args:
        footage: where the segments are.
        rows: [n] segments of any split: the network is thrown away.
        task: the pretext task.
        config: network, clip geometry, batch and optimizer.
        steps: batches to train for.
        tuples: to test with, per group, so that each group counts alike.
        seed: of weights and tuples.
        label: of the progress bar.
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
    rows = np.concatenate([grouped[group] for group in train])
    data = _tuples(footage, rows, task, config, seed=seed, count=steps * config.batch)
    torch.manual_seed(seed)
    net = PretextNet(task, backbone=config.backbone)
    _fit(net, data, config, steps=steps, seed=seed, label=label, progress=progress)
    return score_tuples(net, footage, {group: grouped[group] for group in test}, config, tuples=tuples, seed=seed + 1)


def _tuples(
    footage: Footage, rows: Integers, task: PretextTask, config: PretrainConfig, *, seed: int, count: int
) -> PretextTuples:
    return PretextTuples(
        footage, rows, task=task, clip_frames=config.clip_frames, crop=config.crop, seed=seed, samples=count
    )


def _fit(
    net: PretextNet,
    data: PretextTuples,
    config: PretrainConfig,
    *,
    steps: int,
    seed: int,
    label: str,
    progress: Progress,
) -> None:
    """Trains for `steps` batches, without validation."""
    optimizer = dataclasses.replace(config.optimizer, warmup_steps=min(config.optimizer.warmup_steps, steps // 4))
    plan = dataclasses.replace(config, epochs=1, patience=0, optimizer=optimizer)
    fit(
        net,
        net.task.loss,
        data=data,
        validation=None,
        plan=plan,
        seed=seed,
        checkpoints=None,
        label=label,
        progress=progress,
    )


@torch.no_grad()
def score_tuples(
    net: PretextNet, footage: Footage, grouped: dict[str, Integers], config: PretrainConfig, *, tuples: int, seed: int
) -> HeldOutScores:
    """Answers of a network about `tuples` tuples of each group's segments [n]."""
    net.eval()
    device = next(net.parameters()).device
    correct: list[bool] = []
    for index, rows in enumerate(grouped.values()):
        data = _tuples(footage, rows, net.task, config, seed=seed, count=tuples)
        drawn = [data[index, number] for number in range(tuples)]
        answers = net(torch.stack([clips for clips, _ in drawn]).to(device)).argmax(1).tolist()
        correct += [answer == label for answer, (_, label) in zip(answers, drawn, strict=True)]
    return HeldOutScores(correct=np.array(correct, np.float64), groups=np.repeat(np.array(list(grouped)), tuples))


# The verdict ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """What the control found about one method."""

    chance: float
    """Accuracy of always giving the commonest answer."""
    still: Interval
    """Accuracy where nothing moves."""
    moving: Interval
    """Accuracy where something moves, after the same budget."""
    verdict: ControlVerdict


def judge(*, chance: float, still: HeldOutScores, moving: HeldOutScores, methods: int) -> ControlResult:
    """Compares accuracies with that of the commonest answer, at 5 % error for all methods together (Bonferroni).

    `shortcut`: without motion, the interval lies above it. `not solved`: with motion, the interval does not lie above
    it either, so that the first proves nothing. `pass`: neither. `too few videos`: there is no interval.
    """
    confidence = 1 - _ERROR / methods
    still_interval, moving_interval = (
        share_interval(answers.correct, answers.groups, confidence=confidence) for answers in (still, moving)
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
    """What a verdict means, in a sentence or two."""
    return {
        "pass": "Where nothing moves it cannot be solved; where something moves it can.",
        "shortcut": "It is solved where nothing moves, so by something other than motion. Look for what changes with "
        "time in still footage: a clock or counter in the picture, a flickering border or logo, quality that follows "
        "the key frames (sample.qp, sample.gop), a crop or an order that depends on the answer.",
        "not solved": "Within this budget it is not solved where something moves either, so this proves nothing: "
        "give it more steps, or look at its tuples (rushes pretext show).",
        "too few videos": f"Fewer than {MIN_GROUPS} groups of videos to test on: no interval, no verdict.",
    }[judged.verdict]
