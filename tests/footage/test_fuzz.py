"""Damaged videos: whatever the bytes, a file is sampled or quarantined with its reason, and costs no more than it may.

Real videos are damaged by a seeded hand; a batch that fails is made again from its seed.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from benchmarks._watch import watching
from rushes.config import SampleConfig
from rushes.footage import encoding, shard_writer, shards
from rushes.footage.annotation import Annotation
from rushes.footage.archive import list_archive
from rushes.footage.index import read_index
from rushes.footage.reader import Footage
from rushes.footage.rows import QUARANTINED, SAMPLED
from rushes.footage.shards import ShardRecord, ShardTask
from rushes.video.decode import decode_i420
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from tests.damage import drawn_videos, write_damaged
from tests.footage.conftest import Sampler, write_video

CONFIG = SampleConfig(short_side=32, workers=2, shard_segments=5, decode_seconds=10.0, max_memory_gb=1.0)
MEMORY = round(1.25 * 2**30)
"""Bytes that a process may come to hold: its limit, and the libraries that it maps."""
LARGEST = 1 << 20
REASONS = {
    "decode_error",
    "decoder_crash",
    "empty",
    "encode_error",
    "impossible_table",
    "no_frames",
    "no_video_stream",
    "not_a_video",
    "odd_shape",
    "timeout",
    "too_long",
    "too_many_pixels",
    "truncated",
}
"""What damage may make of a file."""


class Watch:
    """The most memory that any process started from here has held, looked up again and again."""

    def __init__(self) -> None:
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                self.peak = max(self.peak, _peak_memory(child.pid))


def _peak_memory(pid: int) -> int:
    """Bytes; the kernel keeps a process's high water mark, so that none is missed while it lives."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def check_damaged(videos: list[Path], sample: Sampler, folder: Path, *, seed: int, count: int) -> Counter[str]:
    """Samples a batch of damaged videos; returns how often each reason occurred, "" for none."""
    write_damaged(videos, folder, seed=seed, count=count)
    with watching(Watch()) as watch:
        footage, _, out = sample(folder, _intervals(folder), config=CONFIG, name=folder.name)
    table, _ = read_index(out / "index.parquet")
    outcomes = Counter(zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert set(table["source"].to_pylist()) == set(list_archive(str(folder)).paths), f"seed {seed}"
    assert set(outcomes) <= {(SAMPLED, "")} | {(QUARANTINED, reason) for reason in REASONS}, f"seed {seed}"
    assert 0 < watch.peak < MEMORY, f"seed {seed}: {watch.peak >> 20} MiB"
    read_in_full(footage)
    return Counter({reason: count for (_, reason), count in outcomes.items()})


def _intervals(folder: Path) -> list[Annotation]:
    """Three segments a file, so that many a shard begins in the middle of one, where the decoder has to seek."""
    return [Annotation(path=path, start=1.0, end=2.0) for path in list_archive(str(folder)).paths]


def read_in_full(footage: Footage) -> None:
    """Every frame that the index names is there, and no other; and so is its motion."""
    segments = footage.segments
    assert (segments.frames > 0).all() and np.isfinite(segments.end).all()
    assert np.isfinite(footage.motion_quantiles()).all()
    for row, (source, frames) in enumerate(zip(footage.texts("source"), segments.frames, strict=True)):
        height, width = segments.height[row], segments.width[row]
        assert footage.window(row, 0, frames).shape == (frames, height * 3 // 2, width), source
        assert sum(1 for _ in decode_i420(footage.mp4(row), short_side=32, fps=None)) == frames, source
        magnitude, grid = footage.motion(row)
        assert len(magnitude) == len(grid) == frames and np.isfinite(magnitude).all(), source


@pytest.fixture(scope="session")
def videos(shared_data: Path) -> list[Path]:
    """Small videos of every kind of container, and three of UT-Interaction's."""
    odd = [path for path in (shared_data / "odd_videos").rglob("*.*") if 1000 < path.stat().st_size < LARGEST]
    usual = [shared_data / "ut_interaction" / path for path in list_archive(str(shared_data / "ut_interaction")).paths]
    return sorted(odd) + sorted(usual, key=lambda path: (path.stat().st_size, path.name))[:3]


@pytest.mark.timeout(300)
def test_damaged_drawn_videos_are_sampled_or_quarantined(sample: Sampler, tmp_path: Path) -> None:
    found = check_damaged(drawn_videos(tmp_path / "drawn"), sample, tmp_path / "damaged", seed=0, count=40)
    assert found[""] > 0 and found["impossible_table"] > 0


@pytest.mark.real
@pytest.mark.timeout(300)
def test_damaged_videos_are_sampled_or_quarantined(videos: list[Path], sample: Sampler, tmp_path: Path) -> None:
    found = check_damaged(videos, sample, tmp_path / "damaged", seed=0, count=50)
    assert found[""] > 0 and found["not_a_video"] > 0, "some damage is harmless, and some is not"


@pytest.mark.real
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(1, 21))
def test_many_damaged_videos(videos: list[Path], sample: Sampler, tmp_path: Path, seed: int) -> None:
    check_damaged([*videos, *drawn_videos(tmp_path / "drawn")], sample, tmp_path / "damaged", seed=seed, count=100)


def starved_write(task: ShardTask) -> ShardRecord:
    """Writes a shard whose first two segments leave the encoder no memory, by FFmpeg's error and by Python's."""
    errors: list[Exception] = [MemoryError(), av.error.ExternalError(1, "Generic error in an external library")]

    def encode(frames: Iterable[Frames], *, fps: float, qp: int, gop: int) -> bytes:
        if errors:
            raise errors.pop()
        return encode_h264(frames, fps=fps, qp=qp, gop=gop)

    vars(encoding)["encode_h264"] = encode
    return shards.write_shard(task)


def test_an_encoder_without_memory_costs_its_file_only(
    tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=30, first=ord(name))
    monkeypatch.setattr(shard_writer, "write_shard", starved_write)
    footage, summary, _ = sample(tmp_path / "videos")
    assert footage.texts("source").tolist() == ["c.mp4"]
    assert {(bad["source"], bad["reason"]) for bad in summary["quarantine"]} == {
        ("a.mp4", "encode_error"),
        ("b.mp4", "encode_error"),
    }
    assert "sample.max_memory_gb" in summary["quarantine"][0]["message"]
