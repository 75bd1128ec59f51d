"""Footage read smaller than it was sampled: as if it had been sampled so."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rushes.errors import UserError
from rushes.footage.reader import Footage
from rushes.store import Manifest, Store
from tests.decoding import decode_all
from tests.footage.conftest import SMALL, Sampler, scene
from tests.footage.test_reader import write_frames


@pytest.fixture
def sampled(tmp_path: Path, sample: Sampler) -> tuple[Path, Manifest, Store]:
    root = tmp_path / "videos"
    write_frames(root / "wide.mp4", scene(1, frames=30))
    write_frames(root / "tall.mp4", scene(2, frames=30)[:, :, :64].copy())
    sample(root, config=dataclasses.replace(SMALL, short_side=64))
    store = Store(str(tmp_path / "store-a"))
    found = store.find("sample/0123")
    assert found is not None
    return root, found, store


def test_frames_are_those_of_the_segment_scaled(sampled: tuple[Path, Manifest, Store]) -> None:
    _, manifest, store = sampled
    small = Footage(manifest, store, short_side=48)
    assert small.short_side == 48
    for row in range(len(small.segments)):
        height, width = int(small.segments.height[row]), int(small.segments.width[row])
        assert min(height, width) == 48
        found = small.frames(row, [7, 3, 3])
        assert found.shape == (3, height * 3 // 2, width)
        assert np.array_equal(found, decode_all(small.mp4(row), short_side=48, fps=None)[[7, 3, 3]])


def test_motion_is_in_pixels_of_what_is_read(sampled: tuple[Path, Manifest, Store]) -> None:
    _, manifest, store = sampled
    large, small = Footage(manifest, store), Footage(manifest, store, short_side=48)
    for row in range(len(large.segments)):
        (magnitude, grid), (less, coarser) = large.motion(row), small.motion(row)
        assert less == pytest.approx(magnitude * 0.75)
        assert coarser == pytest.approx(grid * 0.75, abs=0.5)
        assert less.max() > 0
    assert small.motion_quantiles() == pytest.approx(large.motion_quantiles() * 0.75)


@pytest.mark.parametrize("short_side", [0, 64])
def test_its_own_size_changes_nothing(sampled: tuple[Path, Manifest, Store], short_side: int) -> None:
    _, manifest, store = sampled
    plain, same = Footage(manifest, store), Footage(manifest, store, short_side=short_side)
    for row in range(len(plain.segments)):
        assert np.array_equal(same.window(row, 0, 30), plain.window(row, 0, 30))
        assert np.array_equal(same.motion(row)[1], plain.motion(row)[1])
    assert np.array_equal(same.segments.width, plain.segments.width)
    assert same.short_side == 64


def test_a_larger_size_is_a_mistake(sampled: tuple[Path, Manifest, Store]) -> None:
    _, manifest, store = sampled
    with pytest.raises(UserError, match=r"pretrain\.short_side: 80 .* the footage has 64"):
        Footage(manifest, store, short_side=80)
