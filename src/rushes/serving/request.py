"""Decodes the bytes of a request to the clips that the graph reads: the same code in Triton and in process.

Standard library, numpy and av only: Triton's Python backend imports this.
"""

from pathlib import Path

from rushes.serving.contract import Contract
from rushes.video.file_clips import video_clips
from rushes.video.frames import Frames
from rushes.video.source import Limits, VideoError, VideoSource

LIMITS = Limits(max_bytes=64 << 20, max_pixels=4096 * 2304, max_seconds=600.0, decode_seconds=30.0)
"""Limits of one request."""


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


def request_clips(video: bytes, contract: Contract) -> Frames:
    """Decodes a request to uint8 `[clips, T, crop * 3/2, crop]`, as the contract says.

    Raises:
        VideoError: it cannot be decoded, or exceeds the limits.
        UserError: the contract wants frames encoded, and there is no encoder here.
    """
    return _clips(video, contract, limits=LIMITS)


def segment_clips(source: VideoSource, contract: Contract, *, start: float, end: float) -> Frames:
    """The same for `[start, end)` seconds of a file that may be too large for a request.

    Raises:
        VideoError: it cannot be decoded, or the part exceeds the limits of decoding.
        UserError: as `request_clips`.
    """
    limits = Limits(max_pixels=LIMITS.max_pixels, decode_seconds=LIMITS.decode_seconds)
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
