"""What a video file holds: size, rate, length and codec.

    probe(Path("clip.avi")).seconds

The length is measured: in its table of chunks, behind its last key frame, or by reading every packet. What the header
says counts only where that agrees, or where the file is shorter than its own header says: then it was cut off.
"""

from dataclasses import dataclass

import av

from rushes.video.clock import PacketClock, can_seek, clocked, in_chunks, is_raw
from rushes.video.decode import decoded
from rushes.video.geometry import display_size
from rushes.video.source import Limits, OpenVideo, VideoSource, open_video

_LEAST_RATE = 500  # bytes per second of video; a slide that is shown for an hour takes more
_CUT = 1.02  # a file that should be larger than this many times its size was cut off; less may be sloppy writing
_AGREES = (0.5, 0.1)  # seconds, share: the header is believed where it differs by no more than either


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a file holds; width and height as displayed, after rotation and sample aspect ratio."""

    width: int
    height: int
    fps: float
    frames: int
    """By the header; 0 when unknown."""
    seconds: float
    """Length of the film."""
    codec: str
    start: float = 0.0
    """Seconds from the container's start to the first frame."""
    moved: bool = False
    """Whether the times of its frames differ from what version 0.1 made of them."""

    @property
    def end(self) -> float:
        """Seconds from the container's start to the end of the film."""
        return self.start + self.seconds


def probe(source: VideoSource, *, limits: Limits | None = None) -> Probe:
    """Opens `source`, decodes its first frame and measures its length.

    Raises:
        VideoError: it cannot be used, or is beyond the limits.
    """
    with open_video(source, limits) as video:
        clock = PacketClock(video)
        start, frame = next(clocked(decoded(video, clock), video), (0.0, None))
        if frame is None:
            raise video.error("no_frames", "no frame decodes")
        height, width = display_size(frame, video.stream)
        seconds = _seconds(video, clock, start)
        moved = clock.moved or start > 0
        # AVI's rate is that of its chunks, of which some may hold no frame.
        fps = len(video.stream.index_entries) / seconds if moved and in_chunks(video) else video.rate
        video.check_seconds(start + seconds)
        return Probe(
            width=width,
            height=height,
            fps=fps,
            frames=max(0, video.stream.frames),
            seconds=seconds,
            codec=video.stream.codec_context.codec.name,
            start=start,
            moved=moved,
        )


def _seconds(video: OpenVideo, clock: PacketClock, start: float) -> float:
    """Length of the film, of which `clock` has placed the first packets."""
    header = _header_seconds(video, start)
    if header and _was_cut(video) and video.size > _LEAST_RATE * header:
        return header
    measured = max(_measured_end(video, clock) - start, 1 / video.rate)
    seconds, share = _AGREES
    # A header may say when the sound ends that began before the film, and knows nothing of joints.
    joined = clock.moved and not in_chunks(video)
    agrees = start == 0 and not joined and abs(measured - header) <= min(seconds, share * header)
    return header if agrees else measured


def _header_seconds(video: OpenVideo, start: float) -> float:
    """0 where the header says nothing."""
    stream, container = video.stream, video.container
    if (in_chunks(video) or is_raw(video)) and stream.frames > 0:
        return stream.frames / video.rate
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, container.duration / av.time_base - start) if container.duration else 0.0


def _measured_end(video: OpenVideo, clock: PacketClock) -> float:
    """Seconds from the container's start to the end of the last frame; `clock` learns whether times are moved."""
    chunks = video.stream.index_entries
    if in_chunks(video) and len(chunks):
        last = chunks[-1].timestamp + 1
        clock.moved |= last != len(chunks)
        return float(last * clock.unit)
    try:
        if not can_seek(video):
            return _read_on(video, clock)
        tail = PacketClock(video)
        video.container.seek(1 << 62, stream=video.stream)  # to the last key frame
        end = _read_on(video, tail)
        if tail.count:
            clock.moved |= tail.moved
            return end
        video.container.seek(0)
    except av.FFmpegError:
        pass
    return _read_on(video, PacketClock(video))


def _read_on(video: OpenVideo, clock: PacketClock) -> float:
    """Places all packets from here on; returns the seconds from the container's start to the end of the last one."""
    try:
        for packet in video.packets():
            clock.place(packet)
            clock.sent.clear()
    except av.FFmpegError:
        pass  # it ends here
    return clock.end_seconds


# Files that were cut off ---------------------------------------------------------------------------------------------


def _was_cut(video: OpenVideo) -> bool:
    """Whether the file is shorter than the container says; formats without a size of their own never are."""
    size = video.size
    if video.formats & {"mov", "mp4"}:
        samples = video.stream.index_entries
        return len(samples) > 0 and samples[-1].pos + samples[-1].size > size
    declared = _riff_size(video.head) if in_chunks(video) else _matroska_size(video.head)
    return declared > _CUT * size


def _riff_size(head: bytes) -> int:
    """Size of the file by its RIFF header; 0 where it was never filled in."""
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if head[:4] == b"RIFF" and size < 0xFFFFFFFF else 0


def _matroska_size(head: bytes) -> int:
    """Size of the file by its Matroska headers; 0 where it is another format, or was never filled in."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    size, at = _ebml_number(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    size, at = _ebml_number(head, at + 4)
    return at + size if size else 0


def _ebml_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length and where it ends; 0 where it is the one that means unknown."""
    length = 9 - data[at].bit_length() if at < len(data) else 9
    bits = (1 << 7 * length) - 1
    number = int.from_bytes(data[at : at + length], "big") & bits
    return (0 if number == bits else number), at + length
