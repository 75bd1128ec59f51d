"""Opening a video, within limits: a file, its bytes, or the URL of an object that fsspec can open.

    with open_video(Path("clip.avi"), Limits(max_seconds=600.0)) as video:
        ...  # video.container, video.stream

An object (`s3://bucket/clip.avi`) is read in ranges and never downloaded whole.

Files are hostile until decoded: only self-contained formats are opened (a playlist that names other files or hosts is
refused), tables that promise the impossible are found first, and bytes, pixels, seconds and decode time are limited.
Whatever is wrong with a file raises `VideoError`.
"""

import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from rushes.errors import UserError
from rushes.video.tables import impossible_table

T = TypeVar("T")
VideoSource = Path | bytes | str
"""A file, its bytes, or its URL."""

# Formats that hold their own bytes. Playlists, sessions and image sequences (hls, concat, sdp, image2, ...) would make
# FFmpeg open the files and hosts that they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,gif,apng,mxf,nut,rm,dv,ivf,obu,"
    "h264,hevc,av1,vc1,mjpeg,yuv4mpegpipe,swf,wtv,png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,wav,mp3,flac,aac"
)
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails
_PACKETS = 200
_LEAST_FRAME = 8  # bytes of a coded frame that repeats the one before
# A URL is read in blocks of 1 MiB, of which 16 are kept: a file's index and its interleaved streams lie apart.
_URL_BOXES = 256  # of a file of fragments, looking at all of them would read it whole
_TAGS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Tags may hold any bytes: PyAV 19 reads them as they are, earlier ones refuse what is not UTF-8."""
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
    max_decoded_pixels: int = 1 << 62
    """Width times height, summed over the frames that are decoded."""
    probe_bytes: int = 1 << 20
    """Of the file's beginning, by which FFmpeg tells its format."""
    admit: Callable[[int], None] | None = None
    """Called before anything is decoded with the width times height of all coded frames; it may raise."""


@dataclass(frozen=True, kw_only=True)
class OpenVideo:
    """An open file, the stream of it that is decoded, and what it may cost."""

    container: InputContainer
    stream: VideoStream
    name: str
    """For messages."""
    limits: Limits
    head: bytes = b""
    """The file's first bytes."""

    @property
    def formats(self) -> frozenset[str]:
        """FFmpeg's names of the container's format."""
        return frozenset(self.container.format.name.split(","))

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where that is unknown."""
        return max(self.container.size or 0, 0)

    @property
    def rate(self) -> float:
        """Frames per second by the header; 25 where it says nothing plausible."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate, self.stream.base_rate):
            if rate and 0.01 <= rate <= 1000:
                return float(rate)
        return 25.0

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The film's packets, from where the file stands on, and an empty one at the end.

        Raises:
            av.FFmpegError: the container is broken from here on.
        """
        return demuxed(self.container, [self.stream])

    def error(self, reason: str, message: str) -> VideoError:
        """The error about this file."""
        return VideoError(reason, f"{self.name}: {message}")

    def check_pixels(self, width: int, height: int) -> None:
        """Raises VideoError where a frame is larger than allowed."""
        if width * height > self.limits.max_pixels:
            raise self.error(
                "too_many_pixels", f"{width} x {height}, at most {self.limits.max_pixels} pixels are allowed"
            )

    def check_decoded_pixels(self, pixels: int, *, by: str = "decoded so far") -> None:
        """Raises VideoError where decoding all frames costs more than allowed."""
        if pixels > (most := self.limits.max_decoded_pixels):
            raise self.error(
                "too_many_decoded_pixels",
                f"{pixels / 1e9:.3g} gigapixels in all frames ({by}), at most {most / 1e9:.3g} are allowed: "
                "send a shorter or smaller video",
            )

    def check_header(self) -> None:
        """Raises VideoError where the header says that a frame or all frames are larger than allowed."""
        context, stream = self.stream.codec_context, self.stream
        self.check_pixels(context.width, context.height)
        frames = stream.frames or int(_stream_seconds(stream) * self.rate)
        # A header may be wrong: what cannot be true is left to decoding.
        if frames * _LEAST_FRAME <= self.size:
            self.check_decoded_pixels(frames * context.width * context.height, by=f"{frames} frames by the header")

    def check_seconds(self, seconds: float) -> None:
        """Raises VideoError where the video is longer than allowed."""
        if seconds > self.limits.max_seconds:
            raise self.error("too_long", f"{seconds:.0f} s, at most {self.limits.max_seconds:.0f} s are allowed")


@contextmanager
def open_video(source: VideoSource, limits: Limits | None = None) -> Iterator[OpenVideo]:
    """Opens `source` and the stream with its film; closes both afterwards.

    Raises:
        VideoError: it cannot be used, or is beyond the limits; also for errors that FFmpeg raises inside the block.
    """
    limits = limits or Limits()
    with _ffmpeg_errors(source), _file(source) as file:
        head = _check_file(file, source, limits)
        with _container(_input(file, source), source, limits) as container:
            stream = _film(container, source, limits)
            video = OpenVideo(container=container, stream=stream, name=_name(source), limits=limits, head=head)
            video.check_header()
            if limits.admit is not None:
                limits.admit(_coded_frames(video, source) * stream.codec_context.width * stream.codec_context.height)
            stream.codec_context.thread_count = 1  # parallel over files; one thread gives the same frames everywhere
            stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            yield video


def _name(source: VideoSource) -> str:
    return f"video of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def _ffmpeg_errors(source: VideoSource) -> Iterator[None]:
    """Turns other errors of FFmpeg (a failed seek, a pixel format without a converter) into `VideoError`."""
    try:
        yield
    except (av.FFmpegError, ValueError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error
        raise VideoError("decode_error", f"{_name(source)}: cannot be decoded ({why})") from error


def _container(file: "str | BinaryIO | _Remote", source: VideoSource, limits: Limits) -> InputContainer:
    try:
        opened: InputContainer = av.open(
            file,
            mode="r",
            options={
                "format_whitelist": FORMATS,
                "protocol_whitelist": "file",
                "formatprobesize": str(limits.probe_bytes),
                "max_pixels": str(limits.max_pixels),  # for the frames that opening decodes
            },
            **_TAGS,
        )
        return opened
    except (av.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise VideoError("not_a_video", f"{_name(source)}: not a video that can be opened ({why})") from error


def _check_file(file: "BinaryIO | _Remote", source: VideoSource, limits: Limits) -> bytes:
    """Returns the file's first bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(256)
    file.seek(0)
    if size == 0:
        raise VideoError("empty", f"{_name(source)}: the file is empty")
    if size > limits.max_bytes:
        raise VideoError("too_large", f"{_name(source)}: {size} bytes, at most {limits.max_bytes} are allowed")
    if head.startswith(b"version https://git-lfs"):
        raise VideoError("lfs_pointer", f"{_name(source)}: a Git LFS pointer, not the video: run `git lfs pull`")
    wrong = impossible_table(file, size, **({"boxes": _URL_BOXES} if isinstance(source, str) else {}))
    if wrong is not None:
        raise VideoError("impossible_table", f"{_name(source)}: {wrong}")
    return head


def _film(container: InputContainer, source: VideoSource, limits: Limits) -> VideoStream:
    """The stream that holds the film: no cover or thumbnail, flagged or not; of several films FFmpeg's best one.

    Phones and editors add a track with one frame or a few, larger than the film and without a flag: a single frame, or
    less than a tenth of another track's frames or length, is no film.
    """
    streams = [s for s in container.streams.video if not s.disposition & _STILL and s.codec_context is not None]
    if not streams:
        raise VideoError("no_video_stream", f"{_name(source)}: holds no video stream that can be decoded")
    streams = _longest(streams, {s.index: float(s.frames) for s in streams})
    streams = _longest(streams, {s.index: _stream_seconds(s) for s in streams})
    if len(streams) > 1:
        streams = _longest(streams, _first_packets(source, limits))
    best = container.streams.best("video")
    if best is not None and best.index in {s.index for s in streams}:
        streams = [s for s in streams if s.index == best.index]
    return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)


def _longest(streams: list[VideoStream], lengths: Mapping[int, float]) -> list[VideoStream]:
    """Those with more than one frame (or second) and a tenth of the most; 0 is an unknown length."""
    most = max(lengths[s.index] for s in streams)
    return [s for s in streams if lengths[s.index] in (0, most) or lengths[s.index] >= max(most / 10, min(most, 1.01))]


def _first_packets(source: VideoSource, limits: Limits) -> dict[int, float]:
    """How many of a file's first packets belong to each of its video streams: many headers do not say a length."""
    with _file(source) as file, _container(_input(file, source), source, limits) as container:
        counts = {stream.index: 0.01 for stream in container.streams.video}  # not 0, which is unknown
        with suppress(av.FFmpegError):
            for packet in itertools.islice(demuxed(container, list(container.streams.video)), _PACKETS):
                counts[packet.stream.index] += packet.size > 0
    return counts


def demuxed(container: InputContainer, streams: list[VideoStream]) -> Iterator["Packet[VideoStream]"]:
    """Packets of some streams, from where the container stands on."""
    while True:
        try:
            yield from container.demux(streams)  # type: ignore[misc]  # of these streams
            return
        except IndexError:  # PyAV's, for a packet of a stream that was not there at the beginning: it is passed over
            continue


def _coded_frames(video: OpenVideo, source: VideoSource) -> int:
    """How many frames there are to decode: by mp4's table, else counted, since other headers need not be true."""
    if "mp4" in video.formats and video.stream.frames:
        return video.stream.frames
    with _file(source) as file, _container(_input(file, source), source, video.limits) as container:
        count = 0
        with suppress(av.FFmpegError):
            for packet in demuxed(container, [s for s in container.streams.video if s.index == video.stream.index]):
                count += packet.size > 0
    return count


def _input(file: "BinaryIO | _Remote", source: VideoSource) -> "str | BinaryIO | _Remote":
    # "file:" keeps a name such as "http:x.mp4" from being read as a URL.
    return f"file:{source}" if isinstance(source, Path) else file


def _stream_seconds(stream: VideoStream) -> float:
    """Length by the header; 0 where it says none."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


# Files and objects ---------------------------------------------------------------------------------------------------


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
    """The object at `url`, closed afterwards; a failed read is raised at the end, whatever FFmpeg made of it.

    Every file system has its own errors, so any exception counts.
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
