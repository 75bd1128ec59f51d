"""Clips for a classifier: the one way from a video file to the input of a network.

Evaluation, serving and `predict --offline` all call `video_clips`, so that none of them can differ from another.
"""

from pathlib import Path

import numpy as np

from rushes.video.clips import centre_crop_i420, evenly_spaced_clips
from rushes.video.decode import decode_i420
from rushes.video.frames import Frames
from rushes.video.source import Limits, VideoError


def video_clips(
    source: Path | bytes,
    *,
    short_side: int,
    fps: float | None,
    clips: int,
    clip_frames: int,
    crop: int,
    limits: Limits | None = None,
) -> Frames:
    """Decodes a video once: uint8 `[clips, clip_frames, crop * 3/2, crop]`, evenly spaced, centre crop.

    Raises:
        VideoError: it cannot be decoded, or is beyond the limits.
    """
    frames = decode_i420(source, short_side=short_side, fps=fps, limits=limits)
    # Cropped one by one: a long video then takes the memory of the crops, not of whole frames.
    cropped = [centre_crop_i420(frame[None], size=crop)[0] for frame in frames]
    if not cropped:
        raise VideoError("no_frames", "the video holds no frame that decodes")
    numbers = evenly_spaced_clips(len(cropped), clips=clips, clip_frames=clip_frames)
    return np.stack(cropped)[numbers]
