"""The reference for motion: Farneback's dense optical flow, about 30 times the cost of the encoder's vectors."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from rushes.video.frames import Frames
from rushes.video.grid import COLUMNS, ROWS, Floats, overlap
from rushes.video.motion import Motion, motion_of


def farneback_motion(frames: Iterable[Frames]) -> Motion:
    """Motion of I420 frames, uint8 `[H * 3/2, W]`, at least one: the flow of their luma."""
    cells: list[Floats | None] = []
    before: Frames | None = None
    for frame in frames:
        height, width = frame.shape[0] * 2 // 3, frame.shape[1]
        luma = frame[:height]
        if before is None:
            cells.append(None)
        else:
            flow: Any = cv2.calcOpticalFlowFarneback(before, luma, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
            cells.append(_sums(np.hypot(flow[..., 0], flow[..., 1])))
        before = luma
    return motion_of(cells, height=height, width=width)


def _sums(lengths: Floats) -> Floats:
    """A dense flow `[H, W]`, summed over the pixels of each cell: `[4, 5]`."""
    height, width = lengths.shape
    top, left = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    rows = overlap(top, top + 1, cells=ROWS, length=height)
    columns = overlap(left, left + 1, cells=COLUMNS, length=width)
    sums: Floats = np.matmul(rows @ lengths, columns.T)
    return sums
