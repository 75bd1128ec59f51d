"""Clips for a classifier: the one way from a video file to what a network sees.

Evaluation, serving and `predict --offline` all call `video_clips`, so none of them can differ from another.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rushes.video.decode import decode_i420
from rushes.video.frames import Frames
from rushes.video.source import Limits, VideoError


def evenly_spaced_clips(frames: int, *, clips: int, clip_frames: int) -> npt.NDArray[np.int64]:
    """Frame numbers int64 `[clips, clip_frames]` of consecutive frames.

    The first clip begins at the first frame, the last ends at the last one (a single clip lies in the middle). A video
    shorter than a clip repeats its last frame.
    """
    if frames < 1 or clips < 1 or clip_frames < 1:
        raise ValueError(f"frames {frames}, clips {clips}, clip_frames {clip_frames}: each must be at least 1")
    room = max(0, frames - clip_frames)
    steps = np.arange(clips, dtype=np.int64)
    # Integer arithmetic: the same clips on every machine.
    starts = (2 * steps * room + clips - 1) // (2 * (clips - 1)) if clips > 1 else np.array([room // 2])
    numbers: npt.NDArray[np.int64] = np.minimum(starts[:, None] + np.arange(clip_frames), frames - 1)
    return numbers


def crop_i420(frames: Frames, *, top: int, left: int, size: int) -> Frames:
    """Square crop: `[n, H * 3/2, W]` to `[n, size * 3/2, size]`; `top`, `left` and `size` even."""
    count, rows, width = frames.shape
    height = rows * 2 // 3
    if top % 2 or left % 2 or size % 2:
        raise ValueError(f"top {top}, left {left}, size {size}: must be even, since chroma has half the resolution")
    if not (0 <= top <= height - size and 0 <= left <= width - size):
        raise ValueError(f"crop of {size} at ({top}, {left}) is outside a frame of {width} x {height}")
    out = np.empty((count, size * 3 // 2, size), dtype=np.uint8)
    out[:, :size] = frames[:, top : top + size, left : left + size]
    chroma = frames[:, height:].reshape(count, 2, height // 2, width // 2)
    half = chroma[:, :, top // 2 : (top + size) // 2, left // 2 : (left + size) // 2]
    out[:, size:] = half.reshape(count, size // 2, size)
    return out


def centre_crop_i420(frames: Frames, *, size: int) -> Frames:
    """The square crop in the middle, rounded to even offsets."""
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    return crop_i420(frames, top=(height - size) // 4 * 2, left=(width - size) // 4 * 2, size=size)


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
    # Cropped as they come: a long video then costs the crop's memory, not the frame's.
    cropped = [centre_crop_i420(frame[None], size=crop)[0] for frame in frames]
    if not cropped:
        raise VideoError("no_frames", "the video holds no frame that decodes")
    numbers = evenly_spaced_clips(len(cropped), clips=clips, clip_frames=clip_frames)
    return np.stack(cropped)[numbers]
