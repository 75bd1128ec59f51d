"""When each frame is shown: a container's timestamps to seconds, and frames at any times to a constant rate."""

import math
from collections.abc import Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

from rushes.video.source import OpenVideo

Timed = tuple[float, VideoFrame]
"""Seconds since the video's first frame, and the frame shown then."""

EPSILON = 1e-3
"""Seconds: labels are written to the millisecond."""
# Containers with one clock for the whole file: frames can be found by time, and a gap is a gap.
_ONE_CLOCK = frozenset({"mov", "mp4", "matroska", "webm"})
# AVI stores no presentation times; with B-frames FFmpeg's guesses are not monotonic. Raw streams have none at all.
_NO_TIMES = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "vc1"})
_LONGEST_HOLD = 10.0  # seconds for which a frame is shown until the next; a longer gap is absent footage


def inside(t: float, start: float, end: float | None) -> bool:
    """Whether the frame at `t` belongs to `[start, end)`, times being exact to a millisecond."""
    return start - EPSILON <= t and (end is None or t < end - EPSILON)


def has_one_clock(video: OpenVideo) -> bool:
    """Whether frames can be found by time."""
    return bool(video.formats & _ONE_CLOCK)


def has_no_times(video: OpenVideo) -> bool:
    """Whether timestamps are absent or guesses, so that frames are timed by their order."""
    return bool(video.formats & _NO_TIMES)


def clocked(frames: Iterator[VideoFrame], video: OpenVideo, *, origin: int | None = None) -> Iterator[Timed]:
    """Gives each frame its time: by timestamp where the container has sane ones, else by decode order.

    Args:
        frames: in presentation order.
        video: where they come from.
        origin: timestamp of the video's first frame; None where `frames` begins with it.

    Raises:
        VideoError: the video is longer than its limits allow.
    """
    times = _Times(video, origin)
    for frame in frames:
        t = times.following(frame.pts)
        video.check_seconds(t)
        yield t, frame


class _Times:
    """Seconds since the video's first frame, frame by frame, ascending."""

    def __init__(self, video: OpenVideo, origin: int | None) -> None:
        self.step = 1.0 / video.rate
        self.by_order, self.keeps_gaps = has_no_times(video), has_one_clock(video)
        self.unit = float(video.stream.time_base or Fraction(1, 90000))
        self.zero = 0.0 if origin is None else origin * self.unit
        self.last = None if origin is None else -math.inf

    def following(self, pts: int | None) -> float:
        """The time of the next frame, whose timestamp is `pts`."""
        if self.last is None:
            self.zero = 0.0 if pts is None else pts * self.unit
            t = 0.0
        elif self.by_order or pts is None:
            t = self.last + self.step
        else:
            t = self._by_timestamp(pts, self.last)
        self.last = t
        return t

    def _by_timestamp(self, pts: int, last: float) -> float:
        t = pts * self.unit - self.zero
        step = t - last
        if not self.keeps_gaps and not -1.0 <= step <= _LONGEST_HOLD:
            # A stream that was cut, joined or wrapped: its clock restarts, the video goes on.
            self.zero = pts * self.unit - last - self.step
            return last + self.step
        return last + 1e-6 if step <= 0 else t


def at_constant_rate(frames: Iterator[Timed], *, fps: float, rate: float) -> Iterator[Timed]:
    """Frame k, at k / `fps`, is the last frame whose nearest grid point is k or earlier; a long gap is left out.

    The last frame is shown for as long as the one before it, since few containers know better.

    Args:
        frames: ascending in time.
        fps: of the grid, frames per second.
        rate: of the source, for a single frame.
    """
    held: VideoFrame | None = None
    following, shown, step = 0, 0.0, 1.0 / rate
    longest = math.ceil(_LONGEST_HOLD * fps)
    for t, frame in frames:
        slot = math.floor(t * fps + 0.5)
        if held is None:
            following = slot
        else:
            step = t - shown
            for k in range(following, min(slot, following + longest)):
                yield k / fps, held
            following = max(following, slot)
        held, shown = frame, t
    if held is not None:
        stop = math.floor((shown + min(step, 1.0)) * fps + 0.5)
        if following == 0:
            stop = max(stop, 1)
        for k in range(following, stop):
            yield k / fps, held
