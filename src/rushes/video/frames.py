"""I420 frames, uint8 `[H * 3/2, W]`: H rows of luma, then the bytes of two chroma planes of half the height and width.

Everywhere in this package they are BT.601, limited range, with even sides.
"""

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
"""One frame `[H * 3/2, W]`, or several `[n, H * 3/2, W]`."""


def scaled_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Even (height, width) of about the same shape, the shorter one `short_side` (even), in pixels."""
    long_side = 2 * round(max(height, width) * short_side / min(height, width) / 2)
    long_side = max(long_side, short_side)
    return (short_side, long_side) if height <= width else (long_side, short_side)
