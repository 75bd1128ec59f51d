"""The reader gives exactly the frames of the segment's mp4, from any place, in any order, in any process."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.reader import Footage
from rushes.pretext import make_task
from rushes.training.data import Windows
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from rushes.video.motion import encoder_motion
from tests.decoding import decode_all
from tests.footage.conftest import numbers, sampler, scene, write_video
from tests.pretext.shots import shot


def write_frames(path: Path, frames: Frames) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_h264(frames, fps=25, qp=4, gop=12))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def footage(place: Path) -> Footage:
    root = place / "videos"
    for n, frames in enumerate((5, 40, 100)):
        write_video(root / f"{n}.mp4", frames=frames, first=30 * n)
    annotations = [
        Annotation(path="0.mp4", label="run", split="test"),
        Annotation(path="1.mp4", label="run", split="train"),
        Annotation(path="2.mp4", start=1.0, end=3.0, label="jump", split="train"),
    ]
    return sampler(place)(root, annotations)[0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_frames_in_any_order_equal_the_whole_decode(footage: Footage, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(footage.segments) - 1))
    count = int(footage.segments.frames[row])
    whole = decode_all(footage.mp4(row), short_side=48, fps=None)
    assert len(whole) == count
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=12))
    assert np.array_equal(footage.frames(row, np.array(indices, dtype=np.int64)), whole[np.array(indices, dtype=int)])
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start, count))
    assert np.array_equal(footage.window(row, start, stop), whole[start:stop])


def test_windows_show_the_frames_of_the_source(footage: Footage) -> None:
    row = int(np.flatnonzero(footage.segments.label == "jump")[0])
    assert numbers(footage.window(row, 0, 50)) == [60 + n for n in range(25, 75)]
    assert numbers(footage.frames(row, np.array([[49, 0], [13, 13]]).ravel())) == [134, 85, 98, 98]


def test_shots_lie_between_the_cuts(tmp_path: Path) -> None:
    scenes = [scene(seed, frames=count) for seed, count in enumerate((40, 61, 30, 50))]
    write_frames(tmp_path / "videos" / "cut.mp4", np.concatenate(scenes))
    write_video(tmp_path / "videos" / "whole.mp4", frames=33)
    write_frames(tmp_path / "videos" / "last.mp4", np.concatenate(scenes[:2]))
    found, summary, _ = sampler(tmp_path)(tmp_path / "videos")
    row, first, frames = (column.tolist() for column in found.shots([0, 2, 1, 0]))
    assert row == [0, 0, 0, 0, 2, 1, 1, 0, 0, 0, 0]
    assert first == [0, 40, 101, 131, 0, 0, 40, 0, 40, 101, 131]
    assert frames == [40, 61, 30, 50, 33, 40, 61, 40, 61, 30, 50]
    assert summary["cuts"] == 4
    assert [len(column) for column in found.shots([])] == [0, 0, 0]


def test_ten_thousand_draws_cross_no_planted_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 90, 40)
    planted = set(np.cumsum(lengths)[:-1].tolist())
    scenes = [scene(seed, frames=int(count)) for seed, count in enumerate(lengths)]
    write_frames(tmp_path / "videos" / "long.mp4", np.concatenate(scenes))
    found, _, _ = sampler(tmp_path)(tmp_path / "videos")
    starts = np.round(found.segments.start * 25).astype(int)
    windows = Windows.of(found, found.select(), span=16, seed=3)
    task = make_task("pace", {"strides": 2})
    drawn = 0
    for number in range(10_000):
        window, generator = windows[divmod(number, windows.samples)]
        if window.frames < task.span(clip_frames=8):
            continue
        draw = task.draw(shot(window.frames), clip_frames=8, crop=32, rng=generator)
        numbers_ = starts[window.row] + window.first + draw.frames.ravel()
        assert not any(numbers_.min() < cut <= numbers_.max() for cut in planted)
        drawn += 1
    assert drawn == 10_000


def test_motion_comes_with_the_frames(footage: Footage) -> None:
    for row in range(len(footage.segments)):
        magnitude, grid = footage.motion(row)
        expected = encoder_motion(footage.mp4(row))
        assert np.allclose(magnitude, expected.magnitude, rtol=1e-3) and np.array_equal(grid, expected.grid)


@pytest.mark.parametrize("bad", [(-1, 3), (0, 6), (5, 6)])
def test_frames_beyond_the_segment_are_an_error(footage: Footage, bad: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="of a segment of 5"):
        footage.window(0, *bad)


def test_selection_by_split_and_label(footage: Footage) -> None:
    segments = footage.segments
    assert footage.labels == ("jump", "run")
    assert segments.label[footage.select("train", labelled=True)].tolist() == ["run", "jump"]
    assert footage.texts("source")[footage.select("test")].tolist() == ["0.mp4"]
    assert segments.label[footage.select("unlabelled", "val")].tolist() == ["", ""]
    assert len(footage.select()) == len(segments) == 5
    with pytest.raises(UserError, match="split: 'tets' is not allowed"):
        footage.select("tets")


def read_one(footage: Footage) -> list[int]:
    return numbers(footage.window(1, 10, 13))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_travels_to_worker_processes_before_and_after_use(footage: Footage, method: str) -> None:
    footage.window(0, 0, 1)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(read_one, (footage,)) == [40, 41, 42]
    assert len(pickle.dumps(footage)) < 20_000, "frames and maps stay behind"


def test_a_shard_that_is_cut_short_is_named(footage: Footage, place: Path) -> None:
    fresh = pickle.loads(pickle.dumps(footage))
    for path in (place / "store-a" / "objects").rglob("*"):
        if path.is_file():
            path.rename(path.with_suffix(".whole"))
            path.write_bytes(path.with_suffix(".whole").read_bytes()[:-1])
    with pytest.raises(UserError, match="missing or cut short"):
        fresh.window(0, 0, 1)
    for path in (place / "store-a" / "objects").rglob("*.whole"):
        path.rename(path.with_suffix(""))


@settings(max_examples=25, deadline=None)
@given(part=st.sampled_from(["tar", "motion"]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_shard_is_noticed_when_it_is_opened(
    footage: Footage, place: Path, part: str, where: float, bit: int
) -> None:
    """Also where what is read decodes: H.264 shows another frame rather than fail."""
    sha256 = getattr(footage._shards[0], part).sha256
    path = place / "store-a" / "objects" / sha256[:2] / sha256
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[int(where * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    fresh = pickle.loads(pickle.dumps(footage))
    try:
        with pytest.raises(UserError, match=f"object {sha256[:12]} is not what was stored"):
            fresh.window(0, 0, 1) if part == "tar" else fresh.motion(0)
    finally:
        path.write_bytes(whole)
        path.with_name(f"{path.name}.damaged").unlink(missing_ok=True)
    assert read_one(pickle.loads(pickle.dumps(footage))) == [40, 41, 42]
