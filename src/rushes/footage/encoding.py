"""Planned segments to small H.264 files with what they show, in a worker process.

    for planned, encoded in encode_segments(plan, root="videos", config=SampleConfig()):
        ...  # an Encoded, or the Failure that says why there is none

Consecutive segments of one file are decoded in one pass.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import av

from rushes.config import SampleConfig
from rushes.footage.files import Listed
from rushes.footage.pinned import check_content, check_unchanged
from rushes.footage.rows import CODEC, EncodingStats
from rushes.footage.segment_plan import Failure, Planned
from rushes.footage.sources import limits_of, located, relative_message
from rushes.video.clock import inside
from rushes.video.content import Content
from rushes.video.decode import decode_timed
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from rushes.video.guard import GRACE, deadline
from rushes.video.motion import Motion, encoder_motion, quantiles
from rushes.video.source import VideoError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An encoded segment."""

    mp4: bytes
    motion: Motion
    measured: EncodingStats


def encode_segments(
    segments: Sequence[Planned],
    *,
    root: str,
    config: SampleConfig,
    failures: Mapping[str, Failure] | None = None,
    stamps: Mapping[str, str] | None = None,
) -> Iterator[tuple[Planned, Encoded | Failure]]:
    """Encodes segments in their order.

    Args:
        segments: those of one file side by side, so that they share a decoding pass.
        root: folder or URL of the videos.
        config: the recipe.
        failures: by path, files that must not be opened, and why.
        stamps: by path, what is known of the files when they were pinned; each file is then checked to hold the content
            that its segments name, before it is decoded and after each segment. None checks nothing.
    """
    decoding: _DecodingPass | None = None
    contents = _Contents(root, stamps)
    for planned in segments:
        source = planned.segment.source
        failure = planned.failure or (failures or {}).get(source) or contents.failure(planned)
        if failure is not None:
            yield planned, failure
            continue
        deadline(2 * config.decode_seconds + GRACE)
        if decoding is None or not decoding.reaches(planned):
            shared = sum(p.segment.source == source for p in segments)
            decoding = _DecodingPass(planned, root=root, config=config, shared=shared)
        encoded = _encode(decoding, planned, root=root, config=config)
        yield planned, contents.failure_since() or encoded
    deadline(0)


class _Contents:
    """Checks, file after file, that what is decoded is the pinned content.

    Args:
        root: folder or URL of the videos.
        stamps: by path, of the files when they were pinned; None checks nothing.
    """

    def __init__(self, root: str, stamps: Mapping[str, str] | None) -> None:
        self._root, self._stamps = root, stamps
        self._source = ""
        self._before: Listed | None = None
        self._failure: Failure | None = None

    def failure(self, planned: Planned) -> Failure | None:
        """Why a segment's file must not be decoded."""
        source = planned.segment.source
        if self._stamps is None or source == self._source:
            return self._failure
        self._source, self._failure = source, None
        deadline(0)  # reading a file whole takes as long as it is large
        try:
            self._before = check_content(
                self._root, source, sha256=planned.segment.source_sha256, stamp=self._stamps.get(source, "")
            )
        except VideoError as error:
            self._failure = Failure(reason=error.reason, message=relative_message(error, self._root))
        return self._failure

    def failure_since(self) -> Failure | None:
        """Why what was decoded since the last check does not count."""
        if self._before is not None:
            try:
                check_unchanged(self._root, self._before)
            except VideoError as error:
                self._failure = Failure(reason=error.reason, message=relative_message(error, self._root))
        return self._failure


def _encode(decoding: "_DecodingPass", planned: Planned, *, root: str, config: SampleConfig) -> Encoded | Failure:
    source, start = planned.segment.source, planned.segment.start
    frames = _Observed(decoding.frames(start, planned.limit))
    try:
        if not frames.any():
            return Failure(reason="no_frames", message=f"{source}: no frame decodes from {start:.1f} s on")
        mp4 = encode_h264(frames, fps=planned.fps, qp=config.qp, gop=config.gop)
        if frames.count < config.min_share_decoded * planned.expected:
            message = f"{source}: {frames.count} of {planned.expected} frames decode from {start:.1f} s on"
            return Failure(reason="truncated", message=message)
        motion = encoder_motion(mp4)
    except VideoError as error:
        return Failure(reason=error.reason, message=relative_message(error, root))
    except (av.FFmpegError, MemoryError) as error:
        # Where a decoder takes nearly all of the memory, the encoder fails, with a different error each time.
        why = getattr(error, "strerror", None) or error
        message = f"{source}: what decodes from {start:.1f} s on cannot be encoded ({why}): raise sample.max_memory_gb"
        return Failure(reason="encode_error", message=message)
    return Encoded(mp4=mp4, motion=motion, measured=_measured(frames, planned, mp4, motion))


def _measured(frames: "_Observed", planned: Planned, mp4: bytes, motion: Motion) -> EncodingStats:
    return EncodingStats(
        frames=frames.count,
        fps=planned.fps,
        width=frames.width,
        height=frames.height,
        codec=CODEC,
        length=len(mp4),
        motion=quantiles(motion.magnitude),
        cuts=tuple(frames.content.cuts()),
        fingerprint=frames.content.fingerprint(),
    )


class _DecodingPass:
    """One pass through a file, shared by consecutive segments.

    Args:
        planned: the first of them.
        root: folder or URL of the videos.
        config: the recipe.
        shared: how many segments may use it; each adds its time limit.
    """

    def __init__(self, planned: Planned, *, root: str, config: SampleConfig, shared: int) -> None:
        self.source, self.position = planned.segment.source, planned.segment.start
        limits = limits_of(config)
        self.failed: VideoError | None = None
        self.timed = decode_timed(
            located(root, self.source),
            short_side=config.short_side,
            fps=config.fps,
            start=self.position,
            limits=dataclasses.replace(limits, decode_seconds=limits.decode_seconds * shared),
        )
        self.ahead: tuple[float, Frames] | None = None

    def reaches(self, planned: Planned) -> bool:
        """Whether the segment lies ahead in the same file."""
        return planned.segment.source == self.source and planned.segment.start >= self.position

    def frames(self, start: float, end: float) -> Iterator[Frames]:
        """The frames of `[start, end)`; the first one beyond is kept for the next segment."""
        self.position = end
        while True:
            t, frame = self.ahead or self._next() or (None, None)
            if t is None or frame is None:
                return
            if t >= start and not inside(t, start, end):
                self.ahead = (t, frame)
                return
            self.ahead = None
            if inside(t, start, end):
                yield frame

    def _next(self) -> tuple[float, Frames] | None:
        if self.failed is not None:
            raise self.failed
        try:
            return next(self.timed, None)
        except VideoError as error:
            self.failed = error
            raise


class _Observed:
    """An iterator over frames that counts them and keeps their size and content."""

    def __init__(self, frames: Iterator[Frames]) -> None:
        self.frames = frames
        self.content = Content()
        self.first: Frames | None = None
        self.count = self.width = self.height = 0

    def any(self) -> bool:
        """Whether there is a first frame."""
        self.first = next(self.frames, None)
        return self.first is not None

    def __iter__(self) -> Iterator[Frames]:
        assert self.first is not None
        self.height, self.width = self.first.shape[0] * 2 // 3, self.first.shape[1]
        for frame in itertools.chain([self.first], self.frames):
            self.count += 1
            self.content.feed(frame)
            yield frame
