"""When each frame is shown: seconds from the container's start, and frames at any times to a constant rate.

The container's start is the earliest start of any of its streams, as players and annotation tools count: where sound
begins a second before the film, the film's first frame is shown at 1 s.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rushes.video.source import OpenVideo

Timed = tuple[float, VideoFrame]
"""Seconds from the container's start, and the frame shown then."""

EPSILON = 1e-3
"""Seconds: labels are written to the millisecond."""
STANDING = 1.0
"""Seconds: a last frame that the container shows for longer is held; a shorter length is often made up."""
# Containers in which frames can be found by time.
_SOUGHT = frozenset({"mov", "mp4", "matroska", "webm"})
# Containers with one table of times for the whole file: their clock cannot begin anew.
_ONE_TABLE = frozenset({"mov", "mp4"})
# Transport and program streams, and what servers write without an end: recordings are joined byte by byte.
_JOINED = frozenset({"mpegts", "mpeg", "flv", "ogg", "asf", "wtv", "rm"})
# AVI stores no presentation times, but a chunk for each frame interval. Raw streams have no times at all.
_CHUNKS = "avi"
_RAW = frozenset({"h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "vc1"})
_LONGEST_HOLD = 3600.0  # seconds for which a frame is shown until the next; a longer gap is absent footage
_LONGEST_GAP = 10.0  # seconds between frames of a joined recording; a longer step is another clock, as for FFmpeg
_TURN = 1 << 33  # ticks after which the clock of a transport or program stream begins at 0 again
_MOST_REORDERED = 17  # frames: one more than H.264 and HEVC reorder


def inside(t: float, start: float, end: float | None) -> bool:
    """Whether the frame at `t` belongs to `[start, end)`, times being exact to a millisecond."""
    return start - EPSILON <= t and (end is None or t < end - EPSILON)


def can_seek(video: OpenVideo) -> bool:
    """Whether frames can be found by time; a live recording has no length, and joined ones mislead the search."""
    return bool(video.formats & _SOUGHT) and bool(video.container.duration)


def in_chunks(video: OpenVideo) -> bool:
    """Whether the container (AVI) stores one chunk per frame interval instead of times."""
    return _CHUNKS in video.formats


def is_raw(video: OpenVideo) -> bool:
    """Whether there are no times at all, so that frames are timed by their order."""
    return bool(video.formats & _RAW)


def origin(video: OpenVideo) -> int | None:
    """Timestamp, in the stream's time base, of the container's start; None where it is unknown."""
    unit, start, own = video.stream.time_base, video.container.start_time, video.stream.start_time
    if not unit or start is None:  # an unset time base is None, from PyAV 19 on 0/1
        return None
    found = round(Fraction(start, av.time_base) / unit)
    if own is not None and video.formats & _JOINED and (own - found) * unit > _LONGEST_GAP:
        return own  # of another programme with another clock
    return found


class PacketClock:
    """Puts a stream's packets on one clock as they are read, so that frames come out with true times.

    A recording joined from several, or one that wraps around, begins its clock anew: what follows is moved to where the
    part before ends. In AVI a packet's time is its position among the chunks, where empty ones repeat a frame.
    """

    def __init__(self, video: OpenVideo) -> None:
        self.unit = video.stream.time_base or Fraction(1, 90000)
        self.count = 0
        """Packets read."""
        self.end: int | None = None
        """Timestamp at which the last frame ends."""
        self.moved = False
        """Whether times differ from those stored, or from the order of AVI's packets."""
        self.sent: deque[int] = deque()
        """AVI: times of the packets whose frames have not come out yet, ascending."""
        self._video, self._chunks, self._raw = video, in_chunks(video), is_raw(video)
        self._fixed, self._joined = bool(video.formats & _ONE_TABLE), bool(video.formats & _JOINED)
        self._frame = max(1, round(1 / (video.rate * self.unit)))
        self._shift, self._latest, self._longest = 0, 0, 0
        self._decoded_at: int | None = None
        self._after_key = False

    @property
    def reorders(self) -> bool:
        """Whether frames come out in another order than their packets."""
        return self._video.stream.codec_context.reorder_depth > 0

    @property
    def end_seconds(self) -> float:
        """Seconds from the container's start to the end of the last packet's frame."""
        if self.end is None or self._raw:
            return self.count / self._video.rate
        zero = 0 if self._chunks else origin(self._video) or 0
        return float((self.end - zero) * self.unit)

    def place(self, packet: "Packet[VideoStream]") -> None:
        """Rewrites the packet's timestamps; call it for each packet of the stream, in order."""
        if not packet.size:
            return
        self.count += 1
        if self._chunks:
            self._place_chunk(packet)
        elif not self._raw:
            self._place_timed(packet)

    def _place_chunk(self, packet: "Packet[VideoStream]") -> None:
        following = self.end or 0
        at = following if packet.dts is None else max(following, packet.dts + self._shift)
        if packet.size == 1:  # DivX's placeholder for the delay of its decoder, shown by nobody
            self._shift -= 1
            return
        self.moved |= at > following
        packet.pts = at
        self.sent.append(at)
        self.end = at + 1

    def _place_timed(self, packet: "Packet[VideoStream]") -> None:
        self._undo_turns(packet)
        if self._joined and self.end is not None and self._is_guessed(packet):
            packet.pts = self.end - self._shift
        at = packet.dts if packet.pts is None else packet.pts
        if at is None:
            return
        if self.end is not None and not self._fixed and self._begins_anew(packet):
            self._shift, self._decoded_at, self.moved = self.end - at, None, True
        if packet.pts is not None:
            packet.pts += self._shift
        if packet.dts is not None:
            packet.dts += self._shift
            if self._decoded_at is not None:
                self._longest = max(self._longest, packet.dts - self._decoded_at)
            # Where another recording begins, FFmpeg may give a frame one time by each clock.
            self._decoded_at = None if self._is_of_two_clocks(packet) else packet.dts
        at += self._shift
        self._latest = max(self._latest, at) if self.end is not None else at
        self.end = max(self.end or at, at + (packet.duration or self._frame))
        self._after_key = packet.is_keyframe

    def _undo_turns(self, packet: "Packet[VideoStream]") -> None:
        """Follows a clock of 33 bits beyond its end; FFmpeg may also add a turn in the middle of a recording."""
        if self._joined and packet.dts is not None and self._decoded_at is not None:
            turns = round((packet.dts + self._shift - self._decoded_at) / _TURN)
            self._shift -= turns * _TURN
            self.moved |= turns != 0

    def _is_guessed(self, packet: "Packet[VideoStream]") -> bool:
        """Whether FFmpeg took the time of a part's last frame from the next part's first."""
        return not packet.is_keyframe and self._is_of_two_clocks(packet)

    def _is_of_two_clocks(self, packet: "Packet[VideoStream]") -> bool:
        """Whether the frame is shown too long after it is decoded, or before."""
        if packet.pts is None or packet.dts is None:
            return False
        second = round(1 / self.unit)
        delay = packet.pts - packet.dts
        return delay > max(second, _MOST_REORDERED * self._longest) or delay < -4 * self._longest

    def _begins_anew(self, packet: "Packet[VideoStream]") -> bool:
        """Whether another recording's clock begins here.

        A key frame is shown after all frames before it, so that one which is not tells of any step back.
        """
        second = round(1 / self.unit)
        if packet.is_keyframe and packet.pts is not None:
            step = packet.pts + self._shift - self._latest
            ahead = max(second, 4 * self._longest)
            return step < 0 or (step == 0 and not self._after_key) or (self._joined and step > ahead)
        if packet.dts is None or self._decoded_at is None:
            return False
        step = packet.dts + self._shift - self._decoded_at
        return step < -second or (self._joined and step > _LONGEST_GAP * second)


def in_chunk_order(frames: Iterator[VideoFrame], clock: PacketClock) -> Iterator[VideoFrame]:
    """AVI's frames with their times: the n-th shown is at the n-th chunk that holds a frame.

    A frame is held back until every chunk before it has given its frame, or has been waited for in vain.

    Args:
        frames: in presentation order; the timestamp of each is the chunk that it was decoded from.
        clock: that placed the packets.
    """
    sent, waiting, given = clock.sent, deque[VideoFrame](), set[int]()
    last = -1
    for frame in itertools.chain(frames, [None]):
        patience = 0 if frame is None or not clock.reorders else _MOST_REORDERED
        if frame is not None:
            waiting.append(frame)
            free = [at for at in sent if at not in given]
            given.add(frame.pts if frame.pts is not None and frame.pts in free else next(iter(free), last))
        while waiting:
            if sent and sent[0] not in given:
                if len(waiting) <= patience:
                    break
                sent.popleft()  # a chunk without a frame
                continue
            last = sent.popleft() if sent else last + 1
            given.discard(last)
            shown = waiting.popleft()
            shown.pts = last
            yield shown


def clocked(frames: Iterator[VideoFrame], video: OpenVideo) -> Iterator[Timed]:
    """Gives each frame its time: by timestamp where there are any, else by order.

    Args:
        frames: in presentation order, their packets placed by a `PacketClock`.
        video: where they come from.

    Raises:
        VideoError: the video is longer than its limits allow.
    """
    times = _Times(video)
    for frame in frames:
        t = times.following(frame.pts)
        video.check_seconds(t)
        yield t, frame


class _Times:
    """Seconds from the container's start, frame by frame, ascending."""

    def __init__(self, video: OpenVideo) -> None:
        self.step = 1.0 / video.rate
        self.by_order, self.chunks = is_raw(video), in_chunks(video)
        self.unit = float(video.stream.time_base or Fraction(1, 90000))
        if self.chunks:
            self.step = 1.0 / float(1 / (video.stream.time_base or Fraction(1, 25)))
        start = origin(video)
        self.zero = None if start is None else start * self.unit
        self.last: float | None = None
        self.chunk = 0  # of the last frame

    def following(self, pts: int | None) -> float:
        """The time of the next frame, whose timestamp is `pts`."""
        if self.chunks and pts is not None:
            # Summed up, as by order: where no chunk is empty, both give the same times to the last bit.
            t = pts * self.step if self.last is None else self.last + (pts - self.chunk) * self.step
            self.chunk = pts
        elif self.last is None:
            t = self._first(pts)
        elif self.by_order or pts is None or self.zero is None:
            t = self.last + self.step
        else:
            t = pts * self.unit - self.zero
            t = self.last + 1e-6 if t <= self.last else t
        self.last = t
        return t

    def _first(self, pts: int | None) -> float:
        if self.by_order or pts is None:
            return 0.0
        if self.zero is None or pts * self.unit < self.zero:
            self.zero = pts * self.unit
        return pts * self.unit - self.zero


def at_constant_rate(frames: Iterator[Timed], *, fps: float, video: OpenVideo) -> Iterator[Timed]:
    """Frame k, at k / `fps`, is the last frame whose nearest grid point is k or earlier; a gap of hours is left out.

    The last frame is shown for as long as the one before it, since few containers know better, unless they say that it
    stands.

    Args:
        frames: ascending in time.
        fps: of the grid, frames per second.
        video: where they come from.
    """
    held: VideoFrame | None = None
    following, shown, step = 0, 0.0, 1.0 / video.rate
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
        stop = math.floor((shown + max(min(step, STANDING), _standing(held, video))) * fps + 0.5)
        if following == 0:
            stop = max(stop, 1)
        for k in range(following, stop):
            yield k / fps, held


def _standing(frame: VideoFrame, video: OpenVideo) -> float:
    """Seconds for which the container says that a frame stands; 0 where that is no longer than a frame may be shown."""
    seconds = float((frame.duration or 0) * (video.stream.time_base or 0))
    return min(seconds, _LONGEST_HOLD) if seconds > STANDING else 0.0
