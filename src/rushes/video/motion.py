"""How much moves, where and when: read off the vectors that the encoder has already estimated.

    motion = encoder_motion(mp4)  # of `rushes.video.encode`

The vectors of an H.264 file without B-frames are an optical flow, from each frame's predecessor, and cost one pass of
the decoder (`benchmarks/motion.md` compares them with Farneback's flow).
"""

import io
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from rushes.video.geometry import side_data
from rushes.video.grid import COLUMNS, ROWS, Floats, overlap
from rushes.video.windows import window_means

_STEPS = 16  # of the grid's bytes, per pixel
_KNOWN = 0.5  # share of the frame that must have vectors


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Motion from each frame's predecessor, in pixels per frame at the encoded size.

    Frame 0 has no predecessor and takes the value of frame 1; a single frame has none.
    """

    magnitude: Floats
    """float32 `[n]`: mean length of the vectors over the frame."""
    grid: npt.NDArray[np.uint8]
    """uint8 `[n, 4, 5]`: the mean in each cell of rows by columns, in 1/16 pixel; 255 stands for all beyond."""


def encoder_motion(mp4: bytes) -> Motion:
    """Motion of a file of `rushes.video.encode`: the encoder's vectors, each for the area of its block.

    A block without a vector (intra-coded: nothing alike in the frame before) counts as still; ignoring it, or
    counting it as several pixels, agrees no better with optical flow. A frame whose vectors cover less than half
    of its area (a key frame, a cut) says nothing about motion, and is interpolated from the frames beside it; where
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
        return motion_of(cells, height=stream.codec_context.height, width=stream.codec_context.width)


def _of_vectors(vectors: npt.NDArray[Any], height: int, width: int) -> Floats | None:
    """Motion summed over the pixels of each cell, `[4, 5]`; None where too little of the frame has vectors."""
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


def motion_of(cells: list[Floats | None], *, height: int, width: int) -> Motion:
    """Motion of frames from their sums over cells; frames without any are interpolated.

    Args:
        cells: for each frame, pixels moved summed over the pixels of each cell, `[4, 5]`; None where unknown.
        height: of the frames, pixels.
        width: likewise.
    """
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


def quantiles(magnitude: npt.ArrayLike) -> tuple[float, float, float, float, float]:
    """The .1, .25, .5, .75 and .9 quantiles of the means of all 16-frame windows, in pixels per frame."""
    low, lower, middle, upper, high = np.quantile(window_means(magnitude), (0.1, 0.25, 0.5, 0.75, 0.9)).tolist()
    return low, lower, middle, upper, high
