"""Shots without a file behind them."""

import functools

import numpy as np
import numpy.typing as npt

from rushes.pretext import Shot


def shot(
    frames: int,
    *,
    height: int = 56,
    width: int = 76,
    motion: npt.ArrayLike | None = None,
    grid: npt.NDArray[np.uint8] | None = None,
    pictures: npt.NDArray[np.uint8] | None = None,
) -> Shot:
    """A shot in which nothing moves and nothing can be seen, but for what is given.

    Args:
        frames: how many.
        height: pixels.
        width: pixels.
        motion: [frames].
        grid: [frames, 4, 5].
        pictures: I420 [frames, H*3/2, W]; without them a draw that looks fails.
    """
    magnitude = np.zeros(frames, np.float32) if motion is None else np.asarray(motion, np.float32)
    cells = np.zeros((frames, 4, 5), np.uint8) if grid is None else grid

    def look(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        assert pictures is not None, "the task looked at pixels"
        return pictures[numbers]

    return Shot(frames=frames, height=height, width=width, read_motion=lambda: (magnitude, cells), read_frames=look)


@functools.cache
def _noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(16, 236, (512, height * 3 // 2, width), dtype=np.uint8)


def lively(frames: int) -> Shot:
    """A shot of at most 512 frames, each of which is noise of its own: any task finds something to draw."""
    motion = 1 + np.random.default_rng(1).random(frames)
    return shot(frames, motion=motion, grid=np.full((frames, 4, 5), 16, np.uint8), pictures=_noise(56, 76)[:frames])


def still(frames: int) -> Shot:
    """A shot in which every frame is the same."""
    return shot(frames, pictures=np.repeat(_noise(56, 76)[:1], frames, axis=0))
