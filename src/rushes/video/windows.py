"""Windows and patches drawn by motion.

    start = draw_window(motion.magnitude, span=64, rng=rng)   # likelier where more moves
    top, left = busiest_patch(motion.grid[start : start + 64], height=0.6, width=0.5)

The published methods draw windows and patches by the magnitude of optical flow; here `rushes.video.motion` measures it.
"""

import numpy as np
import numpy.typing as npt

from rushes.video.grid import COLUMNS, ROWS, Doubles, overlap

WINDOW = 16
"""Frames over which motion is averaged where magnitudes are compared: the shortest clip of the methods."""


def window_means(magnitude: npt.ArrayLike, *, span: int = WINDOW) -> Doubles:
    """Mean motion of every window of `span` frames, one per start: `[n]` to `[n - span + 1]`.

    Fewer frames than `span` are one window.
    """
    values = np.asarray(magnitude, dtype=np.float64)
    span = min(span, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Doubles = np.maximum(sums[span:] - sums[:-span], 0) / span
    return means


def draw_window(magnitude: npt.ArrayLike, *, span: int, rng: "np.random.Generator") -> int:
    """Start of a window of `span` frames, drawn in proportion to its mean motion; uniformly where nothing moves.

    Raises:
        ValueError: there are fewer than `span` frames.
    """
    frames = len(np.asarray(magnitude))
    if not 1 <= span <= frames:
        raise ValueError(f"span: {span} is not possible among {frames} frames")
    means = window_means(magnitude, span=span)
    total = means.sum()
    return int(rng.choice(len(means), p=means / total if total > 0 else None))


def busiest_patch(grid: npt.NDArray[np.uint8], *, height: float, width: float) -> tuple[float, float]:
    """Where the patch with the most motion begins: (top, left), each a share 0 to 1 of the room there is for it.

    Multiply by the frame's side minus the patch's. Of patches with the same motion the one nearest to the middle is
    taken, so that a still window gives (.5, .5).

    Args:
        grid: uint8 `[n, 4, 5]`, the frames of one window.
        height: of the patch, as a share above 0 and up to 1 of the frame's height.
        width: likewise.
    """
    if not (0 < height <= 1 and 0 < width <= 1):
        raise ValueError(f"height {height}, width {width}: shares of the frame, above 0 and up to 1")
    tops, lefts = _candidates(ROWS, height), _candidates(COLUMNS, width)
    rows = overlap(tops, tops + height, cells=ROWS, length=1)
    columns = overlap(lefts, lefts + width, cells=COLUMNS, length=1)
    inside = rows.T @ grid.sum(0, dtype=np.float64) @ columns
    top, left = _shares(tops, height), _shares(lefts, width)
    off_centre = np.hypot(top[:, None] - 0.5, left - 0.5)
    best = np.where(inside >= inside.max() * (1 - 1e-9), off_centre, np.inf).argmin()
    row, column = np.unravel_index(best, inside.shape)
    return float(top[row]), float(left[column])


def _candidates(cells: int, size: float) -> Doubles:
    """Starts at which a patch of `size` may hold the most: with an edge on a cell's, at the ends or in the middle.

    Between those, what it holds changes linearly.
    """
    edges = np.arange(cells + 1) / cells
    starts = np.concatenate([edges, edges - size, [(1 - size) / 2, 1 - size]])
    return np.unique(starts[(starts >= 0) & (starts <= 1 - size)])


def _shares(starts: Doubles, size: float) -> Doubles:
    shares: Doubles = starts / (1 - size) if size < 1 else np.full(len(starts), 0.5)
    return shares
