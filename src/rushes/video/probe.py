"""What a video file says about itself: size, rate, length and codec.

    probe(Path("clip.avi")).seconds

The length is counted where the header gives none or one that cannot be true.
"""

from dataclasses import dataclass

import av

from rushes.video.clock import has_no_times
from rushes.video.decode import decoded
from rushes.video.geometry import display_size
from rushes.video.source import Limits, OpenVideo, VideoSource, open_video

_LEAST_RATE = 500  # bytes per second of video; a slide that is shown for an hour takes more


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a file says about itself; width and height as displayed, after rotation and sample aspect ratio."""

    width: int
    height: int
    fps: float
    frames: int
    """0 when unknown."""
    seconds: float
    """By the header; counted where it gives none, or more than the file's size can hold."""
    codec: str


def probe(source: VideoSource, *, limits: Limits | None = None) -> Probe:
    """Opens `source` and decodes its first frame.

    Raises:
        VideoError: it cannot be used, or is beyond the limits.
    """
    with open_video(source, limits) as video:
        frame = next(decoded(video), None)
        if frame is None:
            raise video.error("no_frames", "no frame decodes")
        height, width = display_size(frame, video.stream)
        seconds = _header_seconds(video)
        if not seconds or 0 < video.container.size < _LEAST_RATE * seconds:
            seconds = _counted_seconds(video)
        video.check_seconds(seconds)
        return Probe(
            width=width,
            height=height,
            fps=video.rate,
            frames=max(0, video.stream.frames),
            seconds=seconds,
            codec=video.stream.codec_context.codec.name,
        )


def _header_seconds(video: OpenVideo) -> float:
    """0 where the header says nothing."""
    stream, container = video.stream, video.container
    if has_no_times(video) and stream.frames > 0:
        return stream.frames / video.rate
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, container.duration / av.time_base) if container.duration else 0.0


def _counted_seconds(video: OpenVideo) -> float:
    """Reads every packet without decoding it: a recorded live stream has no length, a broken file a wrong one."""
    rate, count, stamps = video.rate, 0, []
    try:
        video.container.seek(0)
        for packet in video.container.demux(video.stream):
            if packet.size:
                count += 1
                stamps += [] if packet.pts is None else [packet.pts]
    except av.FFmpegError:
        pass  # counted up to here
    if len(stamps) < 2 or video.stream.time_base is None or has_no_times(video):
        return max(1, count) / rate
    return float((max(stamps) - min(stamps)) * video.stream.time_base) + 1 / rate
