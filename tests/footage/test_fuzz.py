"""Damaged videos: whatever the bytes, a file is sampled or quarantined with its reason, and costs no more than it may.

Real videos are damaged by a seeded hand; a batch that fails is made again from its seed.
"""

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

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
STRUCTURE = re.compile(
    rb"moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|avc1|avcC|hvcC|stts|ctts|stss|stsc|stsz|stco|moof|"
    rb"mdat|RIFF|LIST|avih|strl|strh|strf|movi|idx1|\x1a\x45\xdf\xa3|\x16\x54\xae\x6b|\x1c\x53\xbb\x6b|\x1f\x43\xb6\x75"
)
"""Names of what containers are built of: boxes of MP4, chunks of AVI, elements of Matroska."""
EXTREMES = (0, 1, 7, 8, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)

Hand = random.Random
Damage = Callable[[Hand, bytes, bytes], bytes]
"""(hand, a video, another one) to damaged bytes."""


def flip_bytes(hand: Hand, data: bytes, other: bytes) -> bytes:
    """From a single byte to one in twenty."""
    return _flipped(hand, data, 0, len(data), count=round(len(data) ** hand.uniform(0, 0.8)))


def flip_header(hand: Hand, data: bytes, other: bytes) -> bytes:
    """A few bytes round the container's structure, wherever in the file it lies."""
    found = [match.start() for match in STRUCTURE.finditer(data)] or [0]
    middle = hand.choice(found)
    return _flipped(hand, data, max(0, middle - 64), min(len(data), middle + 256), count=hand.randint(1, 24))


def _flipped(hand: Hand, data: bytes, begin: int, end: int, *, count: int) -> bytes:
    damaged = bytearray(data)
    for _ in range(max(1, count)):
        damaged[hand.randrange(begin, end)] = hand.randrange(256)
    return bytes(damaged)


def truncate(hand: Hand, data: bytes, other: bytes) -> bytes:
    return data[: hand.randrange(len(data))]


def _block(hand: Hand, data: bytes) -> tuple[int, int]:
    begin = hand.randrange(len(data))
    return begin, min(len(data), begin + round(2 ** hand.uniform(4, 16)))


def zero_block(hand: Hand, data: bytes, other: bytes) -> bytes:
    begin, end = _block(hand, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def repeat_block(hand: Hand, data: bytes, other: bytes) -> bytes:
    begin, end = _block(hand, data)
    return data[:end] + data[begin:end] * hand.randint(1, 4) + data[end:]


def swap_blocks(hand: Hand, data: bytes, other: bytes) -> bytes:
    cuts = sorted(hand.randrange(len(data)) for _ in range(4))
    a, b, c, d = cuts
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def set_extremes(hand: Hand, data: bytes, other: bytes) -> bytes:
    """Sizes, counts and durations of the container at the ends of their ranges."""
    damaged = bytearray(data)
    found = [match.start() for match in STRUCTURE.finditer(data)] or [0]
    for _ in range(hand.randint(1, 3)):
        place = max(0, hand.choice(found) + hand.choice((-4, 4, 8, 12, 16, 20, 24)))
        damaged[place : place + 4] = hand.choice(EXTREMES).to_bytes(4, hand.choice(("big", "little")))
    return bytes(damaged)


def splice(hand: Hand, data: bytes, other: bytes) -> bytes:
    return data[: hand.randrange(len(data))] + other[hand.randrange(len(other)) :]


DAMAGES: tuple[Damage, ...] = (
    flip_bytes,
    flip_header,
    truncate,
    zero_block,
    repeat_block,
    swap_blocks,
    set_extremes,
    splice,
)


def write_damaged(videos: list[Path], folder: Path, *, seed: int, count: int) -> None:
    """Writes `count` damaged videos, each named by its number, what was done to it, and what it was."""
    hand = Hand(seed)
    folder.mkdir()
    for n in range(count):
        one, other = hand.sample(videos, 2)
        damage = DAMAGES[n % len(DAMAGES)]
        name = f"{n:03d}-{damage.__name__}-{one.name}"
        (folder / name).write_bytes(damage(hand, one.read_bytes(), other.read_bytes()))


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


@contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.over.set()
        thread.join()


def check_damaged(videos: list[Path], sample: Sampler, folder: Path, *, seed: int, count: int) -> Counter[str]:
    """Samples a batch of damaged videos; returns how often each reason occurred, "" for none."""
    write_damaged(videos, folder, seed=seed, count=count)
    with watched() as watch:
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
    check_damaged(videos, sample, tmp_path / "damaged", seed=seed, count=100)


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
