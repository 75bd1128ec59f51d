"""Clips for a classifier: the one way from a video file to the input of a network.

Serving, `predict --offline` and evaluation's check of the served answers all call `video_clips`, so that none of them
can differ from another.
"""

from collections.abc import Iterator

import numpy as np

from rushes.video.clips import centre_crop_i420, evenly_spaced_clips
from rushes.video.coding import Encoding
from rushes.video.decode import decode_i420
from rushes.video.frames import Frames, scaled_size
from rushes.video.reencode import Reencoder
from rushes.video.shrink import Shrinker
from rushes.video.source import Limits, VideoError, VideoSource


def video_clips(
    source: VideoSource,
    *,
    short_side: int,
    fps: float | None,
    clips: int,
    clip_frames: int,
    crop: int,
    encoding: Encoding | None = None,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
) -> Frames:
    """Decodes a video once: uint8 `[clips, clip_frames, crop * 3/2, crop]`, evenly spaced, centre crop.

    Args:
        source: the video.
        short_side: of the frames that are cropped, pixels.
        fps: frame rate to convert to; None keeps the video's.
        clips: how many.
        clip_frames: of each clip.
        crop: side of the square, pixels.
        encoding: the coding that frames get before they are scaled to `short_side`, as in footage; None for none.
        start: seconds from the video's first frame; what is before does not count.
        end: likewise; None for the video's end.
        limits: what the video may cost.

    Raises:
        VideoError: it cannot be decoded, or is beyond the limits.
        UserError: frames are to be encoded, and there is no encoder here.
    """
    side = encoding.short_side if encoding else short_side
    frames = decode_i420(source, short_side=side, fps=fps, start=start, end=end, limits=limits)
    shape = {"clips": clips, "clip_frames": clip_frames}
    if encoding is not None:
        return _encoded_clips(frames, encoding, short_side=short_side, crop=crop, shape=shape)
    # Cropped one by one: a long video then takes the memory of the crops, not of whole frames.
    cropped = [centre_crop_i420(frame[None], size=crop)[0] for frame in frames]
    numbers = _numbers(len(cropped), shape)
    return np.stack(cropped)[numbers]


def _encoded_clips(
    frames: Iterator[Frames], encoding: Encoding, *, short_side: int, crop: int, shape: dict[str, int]
) -> Frames:
    coded = Reencoder(encoding)
    for frame in frames:
        coded.add(frame)
        rows, width = frame.shape
    numbers = _numbers(coded.count, shape)
    height, width = scaled_size(rows * 2 // 3, width, short_side=short_side)
    shrink = Shrinker(height=height, width=width)
    wanted, positions = np.unique(numbers, return_inverse=True)
    cropped = [centre_crop_i420(shrink(frame)[None], size=crop)[0] for frame in coded.frames(wanted.tolist())]
    return np.stack(cropped)[positions.reshape(numbers.shape)]


def _numbers(count: int, shape: dict[str, int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    if not count:
        raise VideoError("no_frames", "the video holds no frame that decodes")
    return evenly_spaced_clips(count, **shape)
