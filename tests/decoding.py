"""All frames of a video at once."""

import numpy as np

from rushes.video.decode import decode_i420
from rushes.video.frames import Frames
from rushes.video.source import Limits, VideoSource


def decode_all(source: VideoSource, *, short_side: int, fps: float | None, limits: Limits | None = None) -> Frames:
    """uint8 `[n, H * 3/2, W]`, n >= 1."""
    return np.stack(list(decode_i420(source, short_side=short_side, fps=fps, limits=limits)))
