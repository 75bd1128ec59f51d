"""What is measured of some segments is what the step makes of all of them."""

from pathlib import Path

import pytest

from rushes.config import SampleConfig
from rushes.footage.archive import list_archive
from rushes.footage.reader import Footage
from rushes.footage.rows import EncodingStats, Shard
from rushes.footage.sample import Archive, sample_footage
from rushes.footage.sources import Source
from rushes.forecast.measured_sampling import OpenedSegment, SamplingCost, footage_of, open_files, sample_some
from rushes.progress import NullProgress
from rushes.store import Store
from tests.integration.conftest import write_videos

CONFIG = SampleConfig(short_side=32, segment_seconds=1.0, workers=2)


def test_segments_measured_alone_add_up_to_the_whole(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    write_videos(videos, files=6)
    (videos / "broken.mp4").write_bytes(b"nothing" * 40)
    root, listed = str(videos), list_archive(str(videos)).files
    opened = open_files(root, listed, annotations=[], config=CONFIG, progress=NullProgress())
    assert list(opened.failures) == ["broken.mp4"]
    assert set(opened.seconds) == {file.path for file in listed}
    costs = sample_some(root, opened.segments, config=CONFIG, scratch=tmp_path / "scratch", progress=NullProgress())
    made = [cost for cost in costs if cost]
    assert len(made) == len(opened.segments) == 24 and all(cost.seconds > 0 for cost in made)
    sources = [Source(path=file.path, sha256=f"{n:016x}" * 4, size=file.size) for n, file in enumerate(listed)]
    whole = sample_footage(
        archive=Archive(root=root, sources=sources, pinned=False),
        config=CONFIG,
        store=Store(str(tmp_path / "store")),
        digest="d",
        out=tmp_path,
        progress=NullProgress(),
    )
    assert sum(cost.measured.frames for cost in made) == whole["frames"]
    # A tar's last block is the shard's, not the segments'.
    assert sum(cost.size for cost in made) == pytest.approx(whole["new_bytes"], rel=0.05)
    manifest, store = footage_of(made, config=CONFIG, scratch=tmp_path / "scratch")
    reader = Footage(manifest, store)
    assert int(reader.segments.frames.sum()) == whole["frames"]
    assert len(reader.window(0, 0, 8)) == 8


def test_windows_do_not_cross_cuts() -> None:
    shard = Shard(shard=0, sha256="", size=0, segments=1, frames=50, motion_sha256="", motion_size=0, sources=())
    segment = OpenedSegment(planned=None, probe=None, work=1.0)  # type: ignore[arg-type]
    cost = SamplingCost(segment=segment, seconds=1.0, measured=EncodingStats(frames=50, cuts=(20, 29)), shard=shard)
    assert [cost.windows(span) for span in (50, 21, 20, 10, 1)] == [0, 1, 2, 4, 50]
