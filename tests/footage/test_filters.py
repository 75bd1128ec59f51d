"""What is left out: footage on both sides of the test split, and what hardly moves."""

import dataclasses
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from tests.footage.conftest import SMALL, Sampler, scene


def write(path: Path, frames: Frames, *, qp: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_h264(frames, fps=25, qp=qp, gop=12))


def as_mpeg4(path: Path, frames: Frames) -> None:
    """The same frames, brighter, in another codec and container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.bit_rate = 400_000
        for frame in frames:
            brighter = frame.copy()
            brighter[:96] = np.minimum(frame[:96].astype(int) + 6, 235)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(brighter, format="yuv420p")))
        container.mux(stream.encode())


def labelled(**splits: str) -> list[Annotation]:
    """Two classes, of which each has a training file of its own beside the given ones."""
    splits = {"x": "train", "y": "train"} | splits
    return [
        Annotation(path=f"{name}.{'avi' if name.endswith('copy') else 'mp4'}", label="pq"[n % 2], split=split)
        for n, (name, split) in enumerate(splits.items())
    ]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    for seed, name in enumerate("xyab"):
        write(root / f"{name}.mp4", scene(seed))
    as_mpeg4(root / "copy.avi", scene(2))  # of a
    return root


def test_a_reencoded_copy_of_a_test_video_is_an_error_that_names_both(videos: Path, sample: Sampler) -> None:
    annotations = labelled(a="test", b="test", copy="train")
    with pytest.raises(UserError, match=r"'a\.mp4' from 0\.0 s \(test\) = 'copy\.avi' from 0\.0 s \(train\)") as error:
        sample(videos, annotations)
    assert "--sample.duplicates drop" in str(error.value)
    assert str(error.value).count(" = ") == 1, "no other pair"


@pytest.mark.parametrize("split", ["train", "val", "unlabelled"])
def test_on_demand_the_copy_outside_test_is_left_out(videos: Path, sample: Sampler, split: str) -> None:
    annotations = labelled(a="test", b="test", copy=split)
    if split == "unlabelled":
        annotations[-1] = dataclasses.replace(annotations[-1], label=None)
    footage, summary, out = sample(videos, annotations, config=dataclasses.replace(SMALL, duplicates="drop"))
    assert footage.texts("source").tolist() == ["a.mp4", "b.mp4", "x.mp4", "y.mp4"]
    assert summary["left_out"] == {"duplicate": 1}
    rows = {row["source"]: (row["status"], row["reason"]) for row in pq.read_table(out / "index.parquet").to_pylist()}
    assert rows["copy.avi"] == ("left_out", "duplicate")


def test_copies_on_one_side_are_nobodys_business(videos: Path, sample: Sampler) -> None:
    _, summary, _ = sample(videos, labelled(a="train", b="test", copy="train"))
    assert summary["left_out"] == {} and summary["segments"] == 5


def test_the_same_file_twice_is_found_though_it_shows_nothing(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    for seed, name in enumerate("xy"):
        write(root / f"{name}.mp4", scene(seed))
    black = np.full((30, 144, 128), 128, dtype=np.uint8)
    black[:, :96] = 16
    for name in "ab":
        write(root / f"{name}.mp4", black)
    with pytest.raises(UserError, match=r"'a\.mp4' from 0\.0 s \(test\) = 'b\.mp4'"):
        sample(root, labelled(a="test", b="train"))
    write(root / "b.mp4", black, qp=11)
    sample(root, labelled(a="test", b="train"))  # two black videos are not one


def test_the_share_of_highest_motion_is_kept_of_the_unlabelled(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    for n in range(10):
        write(root / f"{n}.mp4", scene(n, speed=0.1 + 0.2 * n))
    for seed, name in enumerate("xyzw"):
        write(root / f"{name}.mp4", scene(20 + seed, speed=0.0))
    annotations = labelled(z="test", w="test")
    store_config = dataclasses.replace(SMALL, val_share=0.0)
    whole, _, _ = sample(root, annotations, config=store_config, name="whole")
    footage, summary, _ = sample(root, annotations, config=dataclasses.replace(store_config, keep=0.3), name="kept")
    unlabelled = whole.select("unlabelled")
    busiest = np.argsort(-whole.motion_quantiles()[unlabelled, 2])[:3]
    assert set(footage.texts("source")) == {
        *whole.texts("source")[unlabelled][busiest],
        "x.mp4",
        "y.mp4",
        "z.mp4",
        "w.mp4",
    }
    assert summary["left_out"] == {"still": 7}
