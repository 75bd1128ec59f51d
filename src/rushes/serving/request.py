"""Decodes the bytes of a request to the clips that the graph reads: the same code in Triton and in process.

Standard library, numpy and av only: Triton's Python backend imports this.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from rushes.errors import UserError
from rushes.serving.contract import Contract
from rushes.video.file_clips import video_clips
from rushes.video.frames import Frames
from rushes.video.source import Limits, VideoError, VideoSource

LIMITS = Limits(
    max_bytes=64 << 20,
    max_pixels=4096 * 2304,
    max_seconds=600.0,
    decode_seconds=30.0,
    max_decoded_pixels=4 * 10**9,
    probe_bytes=1 << 17,
)
"""Limits of one request where the environment sets no others; the pixels are those of a minute of 1080p.

FFmpeg looks for a format in ever more of a file, which takes 40 ms of a core per megabyte of garbage.
"""
BUSY = "long videos are being decoded already: send it again later"
"""End of the message by which an endpoint puts off a long video."""
PIXELS_VARIABLE = "RUSHES_REQUEST_GIGAPIXELS"
SECONDS_VARIABLE = "RUSHES_REQUEST_SECONDS"
MEMORY_VARIABLE = "RUSHES_DECODER_GB"


def request_limits() -> Limits:
    """Limits of one request.

    Raises:
        UserError: a variable is not a number above 0.
    """
    return dataclasses.replace(
        LIMITS,
        max_decoded_pixels=round(_setting(PIXELS_VARIABLE, LIMITS.max_decoded_pixels / 1e9) * 1e9),
        decode_seconds=_setting(SECONDS_VARIABLE, LIMITS.decode_seconds),
    )


def decoder_memory() -> int:
    """Bytes that the process of an endpoint's decoder may hold.

    Raises:
        UserError: the variable is not a number above 0.
    """
    return round(_setting(MEMORY_VARIABLE, 1.0) * 2**30)


def _setting(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UserError(f"{variable}: {text!r} is not allowed: a number above 0 (or unset: {default:g})")
    return value


def read_video(path: Path) -> bytes:
    """Reads a file for a request; a file above the size limit is not read.

    Raises:
        VideoError: it cannot be read, or is too large.
    """
    try:
        size = path.stat().st_size
        if size > LIMITS.max_bytes:
            raise VideoError("too_large", f"{path}: {size} bytes, at most {LIMITS.max_bytes} are allowed in a request")
        return path.read_bytes()
    except OSError as error:
        raise VideoError("unreadable", f"{path}: cannot be read ({error.strerror})") from error


def request_clips(video: bytes, contract: Contract, *, admit: Callable[[int], None] | None = None) -> Frames:
    """Decodes a request to uint8 `[clips, T, crop * 3/2, crop]`, as the contract says.

    Args:
        video: a file's bytes.
        contract: of the model that answers.
        admit: called before decoding with the pixels of all frames together; it may raise.

    Raises:
        VideoError: it cannot be decoded, or exceeds the limits.
        UserError: the contract wants frames encoded, and there is no encoder here.
    """
    return _clips(video, contract, limits=dataclasses.replace(request_limits(), admit=admit))


def segment_clips(source: VideoSource, contract: Contract, *, start: float, end: float) -> Frames:
    """The same for `[start, end)` seconds of a file that may be too large for a request.

    Raises:
        VideoError: it cannot be decoded, or the part exceeds the limits of decoding.
        UserError: as `request_clips`.
    """
    limits = Limits(
        max_pixels=LIMITS.max_pixels, decode_seconds=request_limits().decode_seconds, probe_bytes=LIMITS.probe_bytes
    )
    return _clips(source, contract, limits=limits, start=start, end=end)


def _clips(
    source: VideoSource, contract: Contract, *, limits: Limits, start: float = 0.0, end: float | None = None
) -> Frames:
    return video_clips(
        source,
        short_side=contract.short_side,
        fps=contract.fps,
        clips=contract.clips,
        clip_frames=contract.clip_frames,
        crop=contract.crop,
        encoding=contract.encoding,
        start=start,
        end=end,
        limits=limits,
    )
