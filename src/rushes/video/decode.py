"""Any video file in, upright I420 frames of one size and one frame rate out.

    for frame in decode_i420(Path("clip.avi"), short_side=128, fps=25.0):
        ...  # uint8 [H * 3/2, W], BT.601, limited range, deinterlaced

A file that cannot be used raises `VideoError` (`rushes.video.source`). A file that decodes in part yields that part;
the caller compares its length with the one that `rushes.video.probe` found.
"""

import time
from collections.abc import Iterator

import av
from av.video.frame import VideoFrame

from rushes.video.clock import (
    EPSILON,
    PacketClock,
    Timed,
    at_constant_rate,
    can_seek,
    clocked,
    in_chunk_order,
    in_chunks,
    origin,
)
from rushes.video.deinterlace import deinterlaced
from rushes.video.frames import Frames
from rushes.video.geometry import Scaler, colour_matrix
from rushes.video.source import Limits, OpenVideo, VideoError, VideoSource, open_video


def decode_i420(
    source: VideoSource,
    *,
    short_side: int,
    fps: float | None,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
) -> Iterator[Frames]:
    """Yields the frames of `[start, end)` seconds, uint8 `[H * 3/2, W]` with the shorter of H and W `short_side`.

    Seconds count from the container's start (`rushes.video.clock`). Frame k of a constant `fps` shows what the source
    shows at k / fps, so two adjoining spans together are exactly the frames of the whole. With `fps` None every decoded
    frame is yielded.

    Raises:
        VideoError: it cannot be used, or is beyond the limits. Errors inside the stream end it or are skipped.
    """
    for _, frame in decode_timed(source, short_side=short_side, fps=fps, start=start, end=end, limits=limits):
        yield frame


def decode_timed(
    source: VideoSource,
    *,
    short_side: int,
    fps: float | None,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
) -> Iterator[tuple[float, Frames]]:
    """As `decode_i420`, with each frame's time in seconds from the container's start."""
    with open_video(source, limits) as video:
        frames = deinterlaced(_timed_from(start, video))
        if fps is not None:
            frames = at_constant_rate(frames, fps=fps, video=video)
        scale = Scaler(video, short_side=short_side)
        for t, frame in frames:
            if end is not None and t >= end - EPSILON:
                break
            if t >= start - EPSILON:
                yield t, scale(frame)


def decoded(video: OpenVideo, clock: PacketClock) -> Iterator[VideoFrame]:
    """Frames in presentation order, on the clock; a packet that does not decode is skipped, a broken container ends it.

    Args:
        video: from where it stands on.
        clock: a new one, to place the packets.

    Raises:
        VideoError: no packet decodes, decoding takes too long, or the frames are too large, one or all together.
    """
    frames = _decoded(video, clock)
    return in_chunk_order(frames, clock) if in_chunks(video) else frames


def _decoded(video: OpenVideo, clock: PacketClock) -> Iterator[VideoFrame]:
    spent, failures, count, pixels = 0.0, 0, 0, 0
    began = time.monotonic()
    for frames in _packets(video, clock):
        failures += frames is None
        for frame in frames or ():
            video.check_pixels(frame.width, frame.height)
            frame.colorspace = colour_matrix(frame)
            count, pixels = count + 1, pixels + frame.width * frame.height
            video.check_decoded_pixels(pixels)
            spent += time.monotonic() - began
            yield frame
            began = time.monotonic()
        if spent + time.monotonic() - began > video.limits.decode_seconds:
            raise video.error("timeout", f"decoding took more than {video.limits.decode_seconds:.0f} s")
    if count == 0 and failures:
        raise video.error("decode_error", f"none of its {failures} packets decodes")


def _packets(video: OpenVideo, clock: PacketClock) -> Iterator[list[VideoFrame] | None]:
    """The frames of each packet, None where it does not decode."""
    try:
        for packet in video.packets():
            clock.place(packet)
            try:
                yield packet.decode()
            except av.FFmpegError:
                yield None
    except av.FFmpegError:
        yield None


def _timed_from(start: float, video: OpenVideo) -> Iterator[Timed]:
    """Frames in order of time, from a key frame at or before `start`."""
    if start > EPSILON and can_seek(video) and not _seek(video, start):
        video.container.seek(0)
    yield from clocked(decoded(video, PacketClock(video)), video)


def _seek(video: OpenVideo, start: float) -> bool:
    """Goes to a key frame shown before `start`; returns whether decoding from there does show one."""
    zero = origin(video)
    if zero is None or not video.stream.time_base:
        return False
    target = zero + int((start - 0.5) / video.stream.time_base)
    if target <= (video.stream.start_time or zero):
        return False
    try:
        next(decoded(video, PacketClock(video)), None)  # x264's first frame says what its decoder must know
        video.container.seek(target, stream=video.stream)
        first = next(decoded(video, PacketClock(video)), None)
        if first is None or first.pts is None or first.pts > target or not first.key_frame:
            return False
        video.container.seek(target, stream=video.stream)
    except (av.FFmpegError, VideoError):
        return False
    return True
