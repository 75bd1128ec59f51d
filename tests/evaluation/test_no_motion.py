"""The no-motion control: held footage is still, sides share no group, and a planted leak is found."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rushes.commands.no_motion import NoMotionOptions, find_results, some_rows
from rushes.comparing.members import Member
from rushes.config import Optimizer, PretrainConfig, Recipe, SampleConfig
from rushes.errors import UserError
from rushes.evaluation.no_motion import (
    HeldOutScores,
    halves,
    hold_still,
    judge,
    train_and_test,
    usable_groups,
    without_rejection,
)
from rushes.footage.annotation import Annotation
from rushes.footage.reference import DataReference
from rushes.pretext import make_task
from rushes.progress import NullProgress
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from tests.decoding import decode_all
from tests.footage.conftest import Sampler, numbers, sampler, scene, write_video

# The verdict ---------------------------------------------------------------------------------------------------------


def answers(accuracy: float, *, groups: int = 200, questions: int = 8, seed: int = 0) -> HeldOutScores:
    count = groups * questions
    right = np.random.default_rng(seed).permutation(np.arange(count) < accuracy * count)
    names = np.repeat([f"g{n}" for n in range(groups)], questions)
    return HeldOutScores(correct=right.astype(np.float64), groups=names)


def verdict(still: HeldOutScores, moving: HeldOutScores, *, chance: float = 0.25, methods: int = 1) -> str:
    return judge(chance=chance, still=still, moving=moving, methods=methods).verdict


def test_solved_only_where_something_moves_passes() -> None:
    assert verdict(answers(0.25), answers(0.6)) == "pass"
    assert verdict(answers(0.05), answers(0.6)) == "pass", "worse than guessing is no shortcut"


def test_solved_where_nothing_moves_is_a_shortcut_whatever_else() -> None:
    assert verdict(answers(0.5), answers(0.9)) == "shortcut"
    assert verdict(answers(0.5), answers(0.25)) == "shortcut"


def test_solved_nowhere_proves_nothing() -> None:
    assert verdict(answers(0.25), answers(0.25, seed=1)) == "not solved"


def test_few_groups_give_no_verdict() -> None:
    assert verdict(answers(1.0, groups=9), answers(1.0)) == "too few videos"
    assert verdict(answers(0.25), answers(1.0, groups=9)) == "too few videos"


def test_accuracy_is_held_against_the_commonest_answer() -> None:
    assert verdict(answers(0.75), answers(0.9), chance=0.75) == "pass"
    assert verdict(answers(0.75), answers(0.9), chance=0.5) == "shortcut"


def test_among_many_methods_a_little_above_chance_is_no_shortcut() -> None:
    little = answers(0.28)
    assert verdict(little, answers(0.9)) == "shortcut"
    assert verdict(little, answers(0.9), methods=50) == "pass"


def test_questions_about_one_group_count_as_one() -> None:
    lucky = HeldOutScores(
        correct=np.repeat([1.0] * 6 + [0.0] * 6, 100), groups=np.repeat([f"g{n}" for n in range(12)], 100)
    )
    assert verdict(lucky, answers(0.9), chance=0.4) == "pass", "1200 independent answers would be far above"


@pytest.fixture
def sample(tmp_path: Path) -> Sampler:
    return sampler(tmp_path)


# Sides and stillness -------------------------------------------------------------------------------------------------


def test_halves_share_no_group_and_do_not_depend_on_order() -> None:
    names = [f"g{n}" for n in range(41)]
    train, test = halves(names)
    assert sorted(train + test) == sorted(names) and (len(train), len(test)) == (20, 21)
    assert halves(names[::-1]) == (train, test)


def test_a_held_video_is_one_frame_of_its_segment_all_the_time(sample: Sampler, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / "videos" / name, frames=60)
    footage, _, _ = sample(tmp_path / "videos", [Annotation(path="a.mp4", group="kitchen")])
    annotations = hold_still(footage, footage.select(), tmp_path / "held", seed=0)
    held = {a.path: decode_all(tmp_path / "held" / a.path, short_side=48, fps=25.0) for a in annotations}
    assert all(len(frames) == 60 and (frames == frames[0]).all() for frames in held.values())
    shown = [numbers(frames)[0] for frames in held.values()]
    assert len(set(shown)) == 3, "a moment of its own for each"
    for row, (frames, number) in enumerate(zip(held.values(), shown, strict=True)):
        assert (frames[0] == footage.window(row, number, number + 1)[0]).all()
    groups = dict(zip(footage.texts("source"), footage.texts("group"), strict=True))
    assert [a.group for a in annotations] == list(groups.values()) and groups["a.mp4"] == "kitchen"


def test_held_moments_are_spread_over_the_segment(sample: Sampler, tmp_path: Path) -> None:
    for n in range(12):
        write_video(tmp_path / "videos" / f"{n}.mp4", frames=60)
    footage, _, _ = sample(tmp_path / "videos")
    annotations = hold_still(footage, footage.select(), tmp_path / "held", seed=0)
    shown = [numbers(decode_all(tmp_path / "held" / a.path, short_side=48, fps=25.0))[0] for a in annotations]
    assert min(shown) < 15 and max(shown) > 45


def test_segments_without_a_long_enough_shot_are_left_out(sample: Sampler, tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "short.mp4", frames=10)
    write_video(tmp_path / "videos" / "long.mp4", frames=30)
    footage, _, _ = sample(tmp_path / "videos")
    assert list(usable_groups(footage, footage.select(), span=20)) == ["long.mp4"]
    task = make_task("pace", {"strides": 4})
    with pytest.raises(UserError, match="1 groups of videos have a shot of 29 frames"):
        train_and_test(
            footage,
            footage.select(),
            task,
            PretrainConfig(clip_frames=8, crop=32),
            steps=1,
            tuples=1,
            seed=0,
            label="",
            progress=NullProgress(),
        )


def test_looking_alike_rejects_nothing_where_nothing_moves() -> None:
    task = make_task("shuffle_and_learn", {"tau_max": 40})
    assert without_rejection(task) == make_task("shuffle_and_learn", {"tau_max": 40, "similarity": 0.0})
    pace = make_task("pace", {})
    assert without_rejection(pace) is pace


def test_some_rows_are_spread_and_the_same_each_time(sample: Sampler, tmp_path: Path) -> None:
    for n in range(9):
        write_video(tmp_path / "videos" / f"{n}.mp4", frames=10)
    footage, _, _ = sample(tmp_path / "videos")
    assert (some_rows(footage, 4) == some_rows(footage, 4)).all() and len(some_rows(footage, 4)) == 4
    assert (some_rows(footage, 99) == np.arange(9)).all()


# A planted leak ------------------------------------------------------------------------------------------------------

RECIPE = Recipe(
    name="pace",
    sample=SampleConfig(short_side=32, workers=1),
    pretrain=PretrainConfig(
        task="pace",
        options={"strides": 2},
        backbone="tiny_r3d",
        clip_frames=4,
        crop=32,
        batch=16,
        workers=0,
        device="cpu",
        optimizer=Optimizer(name="adamw", lr=3e-3),
    ),
)


def still(seed: int) -> Frames:
    return np.repeat(scene(seed, frames=1), 24, axis=0)


def counted(seed: int) -> Frames:
    """A still scene with a block in its corner that grows brighter with the frame number."""
    frames = still(seed)
    frames[:, :40, :40] = (20 + 8 * np.arange(24, dtype=np.uint8))[:, None, None]
    return frames


def moving(seed: int) -> Frames:
    return scene(seed, frames=24, speed=3.0)


def draw(folder: Path, film: Callable[[int], Frames], *, files: int = 28) -> str:
    folder.mkdir()
    for seed in range(files):
        # Square, so that every crop shows the corner.
        frames = film(seed)
        square = np.full((len(frames), 144, 96), 128, np.uint8)
        square[:, :96] = frames[:, :96, :96]
        (folder / f"{seed:02d}.mp4").write_bytes(encode_h264(square, fps=25.0, qp=4, gop=12))
    return str(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For networks so small that threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_counter_in_a_corner_is_a_shortcut_and_held_frames_are_none(tmp_path: Path) -> None:
    films = draw(tmp_path / "moving", moving)
    clock = draw(tmp_path / "clock", counted)

    def found(still: str, name: str) -> str:
        (result,) = find_results(
            [Member(name="pace", recipe=RECIPE)],
            data=DataReference(videos=films),
            still=still,
            options=NoMotionOptions(steps=30, tuples=8),
            scratch=tmp_path / name,
            progress=NullProgress(),
        )
        return result.judged.verdict

    assert found(clock, "clock") == "shortcut"
    assert found("", "held") == "pass"
