"""Shots without a file behind them."""

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
