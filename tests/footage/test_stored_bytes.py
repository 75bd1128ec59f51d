"""Footage that an earlier version made (tests/data/store_0.1) is made again, byte for byte."""

import platform
from pathlib import Path

import av
import pytest

from rushes.config import SampleConfig
from rushes.footage.archive import list_videos
from rushes.footage.index import read_shards
from rushes.footage.labels import read_annotations
from rushes.store import File, Manifest, sha256_file
from rushes.strict import build
from tests.footage.conftest import Sampler

OLD = Path(__file__).parents[1] / "data" / "store_0.1"


def test_the_videos_of_an_earlier_version_are_encoded_to_the_same_bytes(sample: Sampler) -> None:
    manifest = Manifest.read(OLD / "sample.json")
    if (manifest.versions["av"], manifest.versions["machine"]) != (av.__version__, platform.machine()):
        pytest.skip(f"the bytes are those of PyAV {manifest.versions['av']}")
    fields = {name: value for name, value in manifest.config.items() if name != "motion"}  # a field of then
    videos = OLD / "videos"
    config = build(SampleConfig, fields | {"workers": 1}, where="sample")
    _, summary, out = sample(videos, read_annotations(videos, list_videos(videos)), config=config)
    (shard,) = read_shards(out / "shards.parquet")
    (old,) = read_shards(stored(manifest.files["shards.parquet"]))
    assert (shard.sha256, shard.motion_sha256) == (old.sha256, old.motion_sha256)
    assert stored(File(sha256=old.sha256, size=old.size)).stat().st_size == shard.size
    for name, file in manifest.files.items():
        assert sha256_file(out / name) == file.sha256, name
    assert summary == manifest.summary


def stored(file: File) -> Path:
    return OLD / "store" / "objects" / file.sha256[:2] / file.sha256
