"""Which frames make a clip, and crops of them; no decoder, so that training does not depend on one."""

import numpy as np
import numpy.typing as npt

from rushes.video.frames import Frames


def evenly_spaced_clips(frames: int, *, clips: int, clip_frames: int) -> npt.NDArray[np.int64]:
    """Frame numbers int64 `[clips, clip_frames]` of consecutive frames.

    The first clip begins at the first frame, the last ends at the last one (a single clip is in the middle). A video
    shorter than a clip repeats its last frame.

    Args:
        frames: of the video.
        clips: how many.
        clip_frames: of each clip.
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
