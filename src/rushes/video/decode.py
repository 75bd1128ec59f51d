"""Any video file in, upright I420 frames of one size and one frame rate out.

    for frame in decode_i420(Path("clip.avi"), short_side=128, fps=25.0):
        ...  # uint8 [H * 3/2, W], BT.601, limited range, deinterlaced

A source is a file, its bytes, or the URL of an object that fsspec can open (`s3://bucket/clip.avi`), which is read in
ranges and never downloaded whole.

Files are hostile until decoded: limits on bytes, pixels, seconds and decode time; only self-contained formats (a
playlist that names other files or hosts is refused). What cannot be used raises `VideoError`; what decodes in part
yields that part, and the caller compares it with the probe's promise.
"""

import io
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from rushes.errors import UserError

T = TypeVar("T")
Frames = npt.NDArray[np.uint8]
VideoSource = Path | bytes | str
"""A file, its bytes, or its URL."""

# Formats that hold their own bytes. Playlists, sessions and image sequences (hls, concat, sdp, image2, ...) would make
# FFmpeg open what they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,gif,apng,mxf,nut,rm,dv,ivf,obu,"
    "h264,hevc,av1,vc1,mjpeg,yuv4mpegpipe,swf,wtv,png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,wav,mp3,flac,aac"
)
# Containers with one clock for the whole file: frames can be sought by time, and a gap is a gap.
_CLOCKED = {"mov", "mp4", "matroska", "webm"}
# AVI stores no presentation times; with B-frames FFmpeg's guesses are not monotonic. Raw streams have none at all.
_UNTIMED = {"avi", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "vc1"}
_EPSILON = 1e-3  # labels are written to the millisecond
_LONGEST_HOLD = 10.0  # seconds for which a frame stands until the next; a longer gap is absent footage
_LONGEST_ASPECT = 8
_LEAST_RATE = 500  # bytes a second of video; a slide that stands still for an hour takes more
# H.273's numbers of colour matrices.
_BT709, _BT601 = 1, 6
_CONVERTIBLE = {_BT709, 4, 5, _BT601, 7, 9}  # swscale refuses a frame with any other
_HD_LINES = 720
# A URL is read in blocks of 1 MiB, of which 16 are kept: a file's index and its interleaved streams lie apart.
_URL_CACHE = {"block_size": 1 << 20, "cache_type": "blockcache", "cache_options": {"maxblocks": 16}}


class VideoError(UserError):
    """A file that cannot be used.

    Args:
        reason: short slug, e.g. "not_a_video"; quarantine lists and metrics count by it.
        message: a sentence for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (VideoError, (self.reason, str(self)))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one file may cost."""

    max_bytes: int = 1 << 62
    """Size of the file."""
    max_pixels: int = 8192 * 4320
    """Width times height of a coded frame."""
    max_seconds: float = 31 * 24 * 3600.0
    """Length of the video."""
    decode_seconds: float = 3600.0
    """Wall time inside the decoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a file promises; width and height as displayed, after rotation and sample aspect ratio."""

    width: int
    height: int
    fps: float
    frames: int
    """0 when unknown."""
    seconds: float
    """As the header says; counted where it says nothing, or more than the file's size can hold."""
    codec: str


def probe(source: VideoSource, *, limits: Limits | None = None) -> Probe:
    """Opens `source` and decodes its first frame.

    Raises:
        VideoError: it cannot be used, or is beyond the limits.
    """
    limits = limits or Limits()
    with _decoding(source), _opened(source, limits) as container:
        stream = _video_stream(container, source, limits)
        frame = next(_decoded(container, stream, source, limits), None)
        if frame is None:
            raise VideoError("no_frames", f"{_name(source)}: no frame decodes")
        height, width = _display_size(frame, stream)
        seconds = _promised_seconds(container, stream)
        if not seconds or 0 < container.size < _LEAST_RATE * seconds:
            seconds = _counted_seconds(container, stream)
        if seconds > limits.max_seconds:
            raise _too_long(source, seconds, limits)
        return Probe(
            width=width,
            height=height,
            fps=_rate(stream),
            frames=max(0, stream.frames),
            seconds=seconds,
            codec=stream.codec_context.codec.name,
        )


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

    Frame k of a constant `fps` shows what the source shows at k / fps after its first frame, so two adjoining spans
    together are exactly the frames of the whole. With `fps` None every decoded frame is yielded.

    Raises:
        VideoError: it cannot be used, or is beyond the limits. Errors inside the stream end it or are skipped.
    """
    for _, frame in decode_timed(source, short_side=short_side, fps=fps, start=start, end=end, limits=limits):
        yield frame


def decode_all(source: VideoSource, *, short_side: int, fps: float | None, limits: Limits | None = None) -> Frames:
    """All frames at once: uint8 `[n, H * 3/2, W]`, n >= 1.

    Raises:
        VideoError: as `decode_i420`, and when no frame decodes.
    """
    frames = list(decode_i420(source, short_side=short_side, fps=fps, limits=limits))
    if not frames:
        raise VideoError("no_frames", f"{_name(source)}: no frame decodes")
    return np.stack(frames)


def decode_timed(
    source: VideoSource,
    *,
    short_side: int,
    fps: float | None,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
) -> Iterator[tuple[float, Frames]]:
    """As `decode_i420`, with each frame's time in seconds since the video's first frame."""
    limits = limits or Limits()
    with _decoding(source), _opened(source, limits) as container:
        stream = _video_stream(container, source, limits)
        frames = _deinterlaced(_timed_from(container, stream, start, source, limits))
        spread = frames if fps is None else _at_constant_rate(frames, fps, _rate(stream))
        scale = _Scaler(short_side, stream, source)
        for t, frame in spread:
            if end is not None and t >= end - _EPSILON:
                break
            if t >= start - _EPSILON:
                yield t, scale(frame)


def inside(t: float, start: float, end: float | None) -> bool:
    """Whether the frame at `t` belongs to `[start, end)`, times being exact to a millisecond."""
    return start - _EPSILON <= t and (end is None or t < end - _EPSILON)


# Opening -------------------------------------------------------------------------------------------------------------


def _name(source: VideoSource) -> str:
    return f"video of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _too_long(source: VideoSource, seconds: float, limits: Limits) -> VideoError:
    return VideoError("too_long", f"{_name(source)}: {seconds:.0f} s, at most {limits.max_seconds:.0f} s are allowed")


@contextmanager
def _opened(source: VideoSource, limits: Limits) -> Iterator[InputContainer]:
    with _file(source) as file:
        _check_file(file, source, limits)
        # "file:" keeps a name such as "http:x.mp4" from being read as a URL.
        with _container(f"file:{source}" if isinstance(source, Path) else file, source, limits) as container:
            yield container


def _container(file: "str | BinaryIO | _Remote", source: VideoSource, limits: Limits) -> InputContainer:
    try:
        return av.open(
            file,
            mode="r",
            options={
                "format_whitelist": FORMATS,
                "protocol_whitelist": "file",
                "max_pixels": str(limits.max_pixels),  # for the frames that opening decodes
            },
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise VideoError("not_a_video", f"{_name(source)}: not a video that can be opened ({why})") from error


@contextmanager
def _decoding(source: VideoSource) -> Iterator[None]:
    """Turns what FFmpeg still raises (a failed seek, a pixel format without a converter) into `VideoError`."""
    try:
        yield
    except (av.FFmpegError, ValueError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error
        raise VideoError("decode_error", f"{_name(source)}: cannot be decoded ({why})") from error


def _file(source: VideoSource) -> "AbstractContextManager[BinaryIO | _Remote]":
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, str):
        return _remote(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise _unreadable(source, error) from error


@contextmanager
def _remote(url: str) -> Iterator["_Remote"]:
    """The object at `url`, closed afterwards; what failed there is raised at the end, whatever FFmpeg made of it.

    Every file system has its own errors, so any counts.
    """
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
        file = system.open(path, "rb", **_URL_CACHE)
    except Exception as error:
        raise _unreadable(url, error) from error
    with file:
        remote = _Remote(file)
        try:
            yield remote
        except Exception:
            if remote.failure is None:
                raise
        if remote.failure is not None:
            raise _unreadable(url, remote.failure) from remote.failure


class _Remote:
    """A remote file that ends where it fails.

    PyAV keeps an exception from a callback for its thread's next call, which may concern another video.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.tell = file.tell
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        return self._unless_failed(self.file.read, size, otherwise=b"")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._unless_failed(self.file.seek, offset, whence, otherwise=-1)

    def _unless_failed(self, call: Callable[..., T], *arguments: int, otherwise: T) -> T:
        if self.failure is None:
            try:
                return call(*arguments)
            except Exception as error:
                self.failure = error
        return otherwise


def _unreadable(source: VideoSource, error: Exception) -> VideoError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return VideoError("unreadable", f"{_name(source)}: cannot be read ({why})")


def _check_file(file: "BinaryIO | _Remote", source: VideoSource, limits: Limits) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    if size == 0:
        raise VideoError("empty", f"{_name(source)}: the file is empty")
    if size > limits.max_bytes:
        raise VideoError("too_large", f"{_name(source)}: {size} bytes, at most {limits.max_bytes} are allowed")
    if head.startswith(b"version https://git-lfs"):
        raise VideoError("lfs_pointer", f"{_name(source)}: a Git LFS pointer, not the video: run `git lfs pull`")


def _video_stream(container: InputContainer, source: VideoSource, limits: Limits) -> VideoStream:
    """The largest video stream that is not a cover picture; the first of equals."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise VideoError("no_video_stream", f"{_name(source)}: holds no video stream that can be decoded")
    stream = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
    context = stream.codec_context
    _check_pixels(context.width, context.height, source, limits)
    context.thread_count = 1  # parallel over files; one thread gives the same frames everywhere
    context.options = {"max_pixels": str(limits.max_pixels)}
    return stream


def _check_pixels(width: int, height: int, source: VideoSource, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise VideoError(
            "too_many_pixels", f"{_name(source)}: {width} x {height}, at most {limits.max_pixels} pixels are allowed"
        )


def _rate(stream: VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 <= rate <= 1000:
            return float(rate)
    return 25.0


def _promised_seconds(container: InputContainer, stream: VideoStream) -> float:
    if _formats(container) & _UNTIMED and stream.frames > 0:
        return stream.frames / _rate(stream)
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, container.duration / av.time_base) if container.duration else 0.0


def _counted_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Length by reading every packet without decoding it: a live stream's recording has none, a broken one's lies."""
    rate, count, stamps = _rate(stream), 0, []
    try:
        container.seek(0)
        for packet in container.demux(stream):
            if packet.size:
                count += 1
                stamps += [] if packet.pts is None else [packet.pts]
    except av.FFmpegError:
        pass  # as far as it goes
    if len(stamps) < 2 or stream.time_base is None or _formats(container) & _UNTIMED:
        return max(1, count) / rate
    return float((max(stamps) - min(stamps)) * stream.time_base) + 1 / rate


def _formats(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


# Decoding ------------------------------------------------------------------------------------------------------------


def _decoded(
    container: InputContainer, stream: VideoStream, source: VideoSource, limits: Limits
) -> Iterator[VideoFrame]:
    """Frames in presentation order; a packet that does not decode is skipped, a container that breaks ends it."""
    spent, failures, count = 0.0, 0, 0
    began = time.monotonic()
    for frames in _packets(container, stream):
        failures += frames is None
        for frame in frames or ():
            _check_pixels(frame.width, frame.height, source, limits)
            frame.colorspace = _matrix(frame)
            count += 1
            spent += time.monotonic() - began
            yield frame
            began = time.monotonic()
        if spent + time.monotonic() - began > limits.decode_seconds:
            raise VideoError("timeout", f"{_name(source)}: decoding took more than {limits.decode_seconds:.0f} s")
    if count == 0 and failures:
        raise VideoError("decode_error", f"{_name(source)}: none of its {failures} packets decodes")


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[list[VideoFrame] | None]:
    try:
        for packet in container.demux(stream):
            try:
                yield packet.decode()
            except av.FFmpegError:
                yield None
    except av.FFmpegError:
        yield None


def _timed_from(
    container: InputContainer, stream: VideoStream, start: float, source: VideoSource, limits: Limits
) -> Iterator[tuple[float, VideoFrame]]:
    """(time, frame) in order of time, from a key frame at or before `start`."""
    if start > _EPSILON and _formats(container) & _CLOCKED:
        origin = next((f.pts for f in _decoded(container, stream, source, limits) if f.pts is not None), None)
        found = origin is not None and _seek(container, stream, start, origin, source, limits)
        if found:
            assert origin is not None
            yield from _clocked(_decoded(container, stream, source, limits), container, stream, origin, source, limits)
            return
        container.seek(0)
    yield from _clocked(_decoded(container, stream, source, limits), container, stream, None, source, limits)


def _seek(
    container: InputContainer, stream: VideoStream, start: float, origin: int, source: VideoSource, limits: Limits
) -> bool:
    """Goes to a key frame shown before `start`, and says whether decoding from there does show one."""
    assert stream.time_base is not None
    target = origin + int((start - 0.5) / stream.time_base)
    if target <= origin:
        return False
    try:
        container.seek(target, stream=stream)
        first = next(_decoded(container, stream, source, limits), None)
        if first is None or first.pts is None or first.pts > target or not first.key_frame:
            return False
        container.seek(target, stream=stream)
    except (av.FFmpegError, VideoError):
        return False
    return True


def _clocked(
    frames: Iterator[VideoFrame],
    container: InputContainer,
    stream: VideoStream,
    origin: int | None,
    source: VideoSource,
    limits: Limits,
) -> Iterator[tuple[float, VideoFrame]]:
    """Gives each frame its time: by timestamp where the container has sane ones, else by decode order."""
    formats = _formats(container)
    usual = 1.0 / _rate(stream)
    by_order, keeps_gaps = bool(formats & _UNTIMED), bool(formats & _CLOCKED)
    unit = float(stream.time_base or Fraction(1, 90000))
    last = -math.inf if origin is not None else None
    zero = 0.0 if origin is None else origin * unit
    for frame in frames:
        if last is None:
            t = 0.0
            zero = 0.0 if frame.pts is None else frame.pts * unit
        elif by_order or frame.pts is None:
            t = last + usual
        else:
            t = frame.pts * unit - zero
            step = t - last
            if not keeps_gaps and not -1.0 <= step <= _LONGEST_HOLD:
                # A stream that was cut, joined or wrapped: its clock starts anew, the video goes on.
                zero, t = frame.pts * unit - last - usual, last + usual
            elif step <= 0:
                t = last + 1e-6
        if t > limits.max_seconds:
            raise _too_long(source, t, limits)
        last = t
        yield t, frame


def _deinterlaced(timed: Iterator[tuple[float, VideoFrame]]) -> Iterator[tuple[float, VideoFrame]]:
    """Frames flagged interlaced come out progressive, at their times; until the first of them nothing is filtered.

    A frame depends on the one before it and the one after it only, so that a span equals its part of the whole. That
    is why the filter starts one frame early and sees progressive frames too, whose output is dropped.
    """
    before: list[tuple[float, VideoFrame]] = []
    for t, frame in timed:
        if frame.interlaced_frame:
            runs = itertools.groupby(itertools.chain(before, [(t, frame)], timed), key=_layout)
            filtered = itertools.chain.from_iterable(_bwdif(layout, run) for layout, run in runs)
            yield from itertools.islice(filtered, len(before), None)
            return
        yield t, frame
        before = [(t, frame)]


def _layout(timed: tuple[float, VideoFrame]) -> dict[str, str]:
    """What FFmpeg's source of frames wants to know of them; a filter graph is for one layout."""
    _, frame = timed
    return {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "colorspace": str(frame.colorspace),
        "time_base": "1/1000",  # times are kept beside the frames
    }


def _bwdif(layout: dict[str, str], run: Iterator[tuple[float, VideoFrame]]) -> Iterator[tuple[float, VideoFrame]]:
    """FFmpeg's bwdif over frames of one layout: one out for each one in, as soon as the next one is in."""
    graph = Graph()
    graph.threads = 1
    source, sink = graph.add("buffer", **layout), graph.add("buffersink")
    graph.link_nodes(source, graph.add("bwdif", mode="send_frame", parity="auto", deint="all"), sink).configure()
    t, frame = next(run)
    graph.vpush(frame)
    for following in itertools.chain(run, [None]):
        graph.vpush(following[1] if following else None)
        filtered = graph.vpull()
        yield t, filtered if frame.interlaced_frame else frame
        if following:
            t, frame = following


def _at_constant_rate(
    frames: Iterator[tuple[float, VideoFrame]], fps: float, rate: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frame k is the last one whose nearest grid point is k or earlier; a long gap is left out.

    The last frame stands as long as the one before it did: few containers know better.
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


# Geometry and colour -------------------------------------------------------------------------------------------------


def _display_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(height, width) with square pixels, upright."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        aspect = Fraction(1)
    height, width = frame.height, max(1, round(frame.width * aspect))
    return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def _quarter_turns(frame: VideoFrame) -> int:
    """Counterclockwise, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix mirrors: then the frame is flipped upside down before it is turned."""
    try:
        matrix = side_data(frame, "DISPLAYMATRIX")
    except ValueError:  # beside side data of a kind that PyAV does not know, such as EXIF, it cannot be read
        return False
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].astype(np.int64)
    return bool(a * d < b * c)


def side_data(frame: VideoFrame, kind: str) -> Any:
    """What a frame carries beside its picture, None where there is no such thing.

    Not `frame.side_data`: the frame would hold it, it the frame, and both stay until the collector comes round.

    Raises:
        ValueError: there is something beside it that PyAV does not know.
    """
    return SideDataContainer(frame).get(kind)  # type: ignore[call-arg]


def _matrix(frame: VideoFrame) -> int:
    """The frame's matrix; one without a usable tag has that of its size, as players take it."""
    if frame.colorspace in _CONVERTIBLE:
        return frame.colorspace
    return _BT709 if frame.height >= _HD_LINES else _BT601


def _scaled_size(height: int, width: int, short_side: int, source: VideoSource) -> tuple[int, int]:
    """Even (height, width) with the shorter `short_side`."""
    if max(height, width) > _LONGEST_ASPECT * min(height, width):
        raise VideoError(
            "odd_shape", f"{_name(source)}: {width} x {height}, sides beyond {_LONGEST_ASPECT}:1 are not allowed"
        )
    return scaled_size(height, width, short_side=short_side)


def scaled_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Even (height, width) of about the same shape, the shorter one `short_side` (even), in pixels."""
    long_side = 2 * round(max(height, width) * short_side / min(height, width) / 2)
    long_side = max(long_side, short_side)
    return (short_side, long_side) if height <= width else (long_side, short_side)


class _Scaler:
    """Frame to upright I420; the first frame decides the size and whether to mirror. The last result is kept."""

    def __init__(self, short_side: int, stream: VideoStream, source: VideoSource) -> None:
        self.short_side, self.stream, self.source = short_side, stream, source
        self.size: tuple[int, int] | None = None
        self.mirrored = False
        self.reformatter = VideoReformatter()
        self.last: tuple[VideoFrame, Frames] | None = None

    def __call__(self, frame: VideoFrame) -> Frames:
        if self.last is None or self.last[0] is not frame:
            self.last = (frame, self._convert(frame))
        return self.last[1]

    def _convert(self, frame: VideoFrame) -> Frames:
        if self.size is None:
            self.size = _scaled_size(*_display_size(frame, self.stream), self.short_side, self.source)
            self.mirrored = _mirrored(frame)  # reading side data costs as much as a tenth of decoding a small frame
        turns = _quarter_turns(frame)
        height, width = self.size[::-1] if turns % 2 else self.size
        small = self.reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        planes: Frames = small.to_ndarray()  # type: ignore[assignment]
        return _upright(planes, turns, mirrored=self.mirrored)


def _upright(frame: Frames, turns: int, *, mirrored: bool) -> Frames:
    """Flips `[H * 3/2, W]` upside down if `mirrored`, then turns it by quarters counterclockwise."""
    if turns == 0 and not mirrored:
        return frame
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    flipped = [plane[::-1] if mirrored else plane for plane in (frame[:height], *chroma)]
    luma, blue, red = (np.rot90(plane, turns) for plane in flipped)
    # A chroma plane may end in the middle of a row of the packed array: join them flat.
    return np.concatenate([luma.ravel(), blue.ravel(), red.ravel()]).reshape(-1, luma.shape[1])
