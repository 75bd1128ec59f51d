"""How much moves, where and when: read off the vectors that the encoder has already estimated.

    motion = encoder_motion(mp4)                              # of `rushes.video.encode`
    start = draw_window(motion.magnitude, span=64, rng=rng)   # likelier where more moves
    top, left = busiest_patch(motion.grid[start : start + 64], height=0.6, width=0.5)

The published methods draw windows, frames and patches by the magnitude of optical flow. The vectors of an H.264 file
without B-frames are a flow too, from each frame's predecessor, and cost one pass of the decoder
(`benchmarks/motion.md` compares the two). Farneback's flow is here as the reference.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import av
import numpy as np
import numpy.typing as npt

from rushes.errors import UserError
from rushes.video.decode import Frames, side_data

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

_Float = TypeVar("_Float", np.float32, np.float64)

ROWS, COLUMNS = 4, 5
"""Cells of the coarse grid."""
WINDOW = 16
"""Frames over which motion is averaged where magnitudes are compared: the shortest clip that the methods see."""
_STEPS = 16  # of the grid's bytes, to a pixel
_KNOWN = 0.5  # share of the picture that must have vectors


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Motion from each frame's predecessor, in pixels per frame of the size that was encoded.

    Frame 0 has no predecessor and takes the value of frame 1; a single frame has none.
    """

    magnitude: Floats
    """float32 `[n]`: mean length of the vectors over the picture."""
    grid: npt.NDArray[np.uint8]
    """uint8 `[n, 4, 5]`: the mean in each cell of rows by columns, in 1/16 pixel; 255 stands for all beyond."""


def encoder_motion(mp4: bytes) -> Motion:
    """Motion of a file of `rushes.video.encode`: the encoder's vectors, each for the area of its block.

    A block without a vector (intra-coded: nothing alike in the frame before) counts as still; ignoring it, or
    counting it as several pixels, agrees no better with optical flow. A frame whose vectors cover less than half
    of the picture (a key frame, a cut) says nothing about motion, and is interpolated from the frames beside it; where
    no frame says anything, nothing moves.

    Raises:
        av.FFmpegError: the file does not decode.
    """
    cells: list[Floats | None] = []
    with av.open(io.BytesIO(mp4), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        # Vectors are coded, not computed from pixels: without the loop filter they are the same.
        stream.codec_context.options = {"flags2": "+export_mvs", "skip_loop_filter": "all"}
        for frame in container.decode(stream):
            vectors = side_data(frame, "MOTION_VECTORS")
            cells.append(None if vectors is None else _of_vectors(vectors.to_ndarray(), frame.height, frame.width))
        return _interpolated(cells, stream.codec_context.height, stream.codec_context.width)


def farneback_motion(frames: Iterable[Frames]) -> Motion:
    """The reference: Farneback's dense optical flow on luma, about 30 times the cost.

    Args:
        frames: uint8 `[H * 3/2, W]`, I420; at least one.

    Raises:
        UserError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("Farneback's flow needs the package opencv-python-headless, which is not installed") from error
    cells: list[Floats | None] = []
    before: Frames | None = None
    for frame in frames:
        height, width = frame.shape[0] * 2 // 3, frame.shape[1]
        luma = frame[:height]
        if before is None:
            cells.append(None)
        else:
            flow: Any = cv2.calcOpticalFlowFarneback(before, luma, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
            cells.append(_of_pixels(np.hypot(flow[..., 0], flow[..., 1])))
        before = luma
    return _interpolated(cells, height, width)


def _of_vectors(vectors: npt.NDArray[Any], height: int, width: int) -> Floats | None:
    """Motion summed over the pixels of each cell, `[4, 5]`; None where too little of the picture has vectors."""
    wide, high = vectors["w"].astype(np.float32), vectors["h"].astype(np.float32)
    if wide @ high < _KNOWN * height * width:
        return None
    half = np.float32(0.5)
    left, top = vectors["dst_x"] - half * wide, vectors["dst_y"] - half * high
    rows = overlap(top, top + high, cells=ROWS, length=height)
    columns = overlap(left, left + wide, cells=COLUMNS, length=width)
    lengths = (np.hypot(vectors["motion_x"], vectors["motion_y"]) / vectors["motion_scale"]).astype(np.float32)
    sums: Floats = np.matmul(rows * lengths, columns.T)
    return sums


def _of_pixels(lengths: Floats) -> Floats:
    """As `_of_vectors`, of a dense flow `[H, W]`."""
    height, width = lengths.shape
    top, left = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    rows = overlap(top, top + 1, cells=ROWS, length=height)
    columns = overlap(left, left + 1, cells=COLUMNS, length=width)
    sums: Floats = np.matmul(rows @ lengths, columns.T)
    return sums


def overlap(start: npt.NDArray[_Float], stop: npt.NDArray[_Float], *, cells: int, length: float) -> npt.NDArray[_Float]:
    """How much of each span `[start, stop)` lies in each of the equal cells of `length`: `[cells, spans]`."""
    edges: npt.NDArray[_Float] = _edges(cells, length, start.dtype.str)
    inside: npt.NDArray[_Float] = np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1])
    return np.maximum(inside, 0, out=inside)


@lru_cache(64)
def _edges(cells: int, length: float, kind: str) -> npt.NDArray[Any]:
    """Where equal cells of a length begin and end: `[cells + 1, 1]`."""
    return np.linspace(0, length, cells + 1, dtype=kind)[:, None]


def _interpolated(cells: list[Floats | None], height: int, width: int) -> Motion:
    known = [k for k, cell in enumerate(cells) if cell is not None]
    sums = np.zeros((len(cells), ROWS * COLUMNS))
    if known:
        found = np.stack([cell.ravel() for cell in cells if cell is not None])
        for cell in range(ROWS * COLUMNS):
            sums[:, cell] = np.interp(np.arange(len(cells)), known, found[:, cell])
    magnitude = sums.sum(1) / (height * width)
    steps = np.rint(sums * (_STEPS * ROWS * COLUMNS / (height * width)))
    grid = np.minimum(steps, 255).astype(np.uint8).reshape(-1, ROWS, COLUMNS)
    return Motion(magnitude=magnitude.astype(np.float32), grid=grid)


# Windows -------------------------------------------------------------------------------------------------------------


def window_means(magnitude: npt.ArrayLike, *, span: int = WINDOW) -> Doubles:
    """Mean motion of every window of `span` frames, one a start: `[n]` to `[n - span + 1]`.

    Fewer frames than `span` are one window.
    """
    values = np.asarray(magnitude, dtype=np.float64)
    span = min(span, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Doubles = np.maximum(sums[span:] - sums[:-span], 0) / span
    return means


def quantiles(magnitude: npt.ArrayLike) -> tuple[float, float, float, float, float]:
    """The .1, .25, .5, .75 and .9 quantiles of the means of all 16-frame windows, in pixels per frame."""
    low, lower, middle, upper, high = np.quantile(window_means(magnitude), (0.1, 0.25, 0.5, 0.75, 0.9)).tolist()
    return low, lower, middle, upper, high


# Draws ---------------------------------------------------------------------------------------------------------------


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


def draw_frames(magnitude: npt.ArrayLike, *, count: int, rng: "np.random.Generator") -> Numbers:
    """Numbers of `count` distinct frames, sorted, int64 `[count]`: drawn one after another in proportion to motion.

    Frames without motion are drawn, uniformly, when no others are left.

    Raises:
        ValueError: there are fewer than `count` frames.
    """
    values = np.asarray(magnitude, dtype=np.float64)
    if not 1 <= count <= len(values):
        raise ValueError(f"count: {count} is not possible among {len(values)} frames")
    # The largest of log weight + Gumbel noise are a draw without replacement.
    keys = np.log(np.maximum(values, np.finfo(np.float64).tiny)) + rng.gumbel(size=len(values))
    return np.sort(np.argpartition(-keys, count - 1)[:count]).astype(np.int64)


def busiest_patch(grid: npt.NDArray[np.uint8], *, height: float, width: float) -> tuple[float, float]:
    """Where the patch with the most motion begins: (top, left), each a share 0 to 1 of the room there is for it.

    Multiply by the picture's side less the patch's. Of patches with the same motion the one nearest to the middle is
    taken, so that a still window gives (.5, .5).

    Args:
        grid: uint8 `[n, 4, 5]`, the frames of one window.
        height: of the patch, as a share above 0 and up to 1 of the picture's height.
        width: likewise.
    """
    if not (0 < height <= 1 and 0 < width <= 1):
        raise ValueError(f"height {height}, width {width}: shares of the picture, above 0 and up to 1")
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
