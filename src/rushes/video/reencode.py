"""Frames as footage shows them: encoded and decoded again, those that clips need and no more.

    coded = Reencoder(Encoding(codec="h264", short_side=128, qp=26, gop=12))
    for frame in decode_i420(path, short_side=128, fps=25.0):
        coded.add(frame)
    frames = coded.frames([0, 1, 2])  # what a segment of footage with the same frames decodes to

A network that learned from footage answers otherwise where its coding is missing (benchmarks/served.md). Nothing else
in serving needs an encoder (x264, which is GPL): a contract without an encoding never comes here.
"""

import io
from collections.abc import Iterator, Sequence

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.frame import VideoFrame

from rushes.errors import UserError
from rushes.video.coding import Encoding
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames

ENCODERS = {"h264": "libx264"}
"""FFmpeg's encoder of each codec."""
_HELD = 64 << 20
"""Bytes of frames to hold. Beyond it the oldest groups are encoded at once: a long video costs time, not memory."""
_FPS = 25.0  # for the file's header; with a constant quantiser no pixel depends on it


def require_encoder(encoding: Encoding) -> None:
    """Checks that FFmpeg can encode here.

    Raises:
        UserError: its build lacks the encoder.
    """
    encoder = ENCODERS[encoding.codec]
    try:
        Codec(encoder, "w")
    except UnknownCodecError as error:
        raise UserError(
            f"encoding: the model expects frames encoded as {encoding.codec} (qp {encoding.qp}), and the FFmpeg here "
            f"lacks {encoder}: serve where FFmpeg has it, or export with --export.no-encode and evaluate again"
        ) from error


class Reencoder:
    """Takes frames in order, and gives back some of them as a decoder of footage would.

    Frames from one key frame to before the next (a group) depend on no other frame, so only groups that hold wanted
    frames are encoded, up to the last of these.

    Args:
        encoding: as the footage's.

    Raises:
        UserError: there is no encoder here.
    """

    def __init__(self, encoding: Encoding) -> None:
        require_encoder(encoding)
        self.encoding = encoding
        self.count = 0
        self._groups: list[list[Frames] | bytes] = []
        self.held_bytes = 0
        self._oldest = 0  # first group that is not encoded yet

    def add(self, frame: Frames) -> None:
        """Appends a frame, uint8 `[H * 3/2, W]`; all have one shape."""
        if self.count % self.encoding.gop == 0:
            self._groups.append([])
        group = self._groups[-1]
        assert isinstance(group, list), "the group that is being filled is never encoded"
        group.append(frame)
        self.count += 1
        self.held_bytes += frame.nbytes
        while self.held_bytes > _HELD and self._oldest < len(self._groups) - 1:
            self._encode_oldest()

    def frames(self, numbers: Sequence[int]) -> Iterator[VideoFrame]:
        """The frames with these numbers (ascending, each once), encoded and decoded."""
        run: list[int] = []
        for number in numbers:
            if run and not self._together(run[-1], number):
                yield from self._run(run)
                run = []
            run.append(number)
        if run:
            yield from self._run(run)

    def _together(self, one: int, other: int) -> bool:
        """Whether two wanted frames are encoded in one go: in one group, or in two that follow each other."""
        first, second = one // self.encoding.gop, other // self.encoding.gop
        return first == second or (second == first + 1 and first >= self._oldest)

    def _run(self, numbers: list[int]) -> Iterator[VideoFrame]:
        first, last = numbers[0] // self.encoding.gop, numbers[-1] // self.encoding.gop
        positions = [number - first * self.encoding.gop for number in numbers]
        groups = self._groups[first : last + 1]
        frames = [frame for group in groups if isinstance(group, list) for frame in group]
        mp4 = groups[0] if isinstance(groups[0], bytes) else self._encoded(frames[: positions[-1] + 1])
        return _decoded(mp4, positions)

    def _encode_oldest(self) -> None:
        group = self._groups[self._oldest]
        assert isinstance(group, list), "groups are encoded in order"
        self.held_bytes -= sum(frame.nbytes for frame in group)
        self._groups[self._oldest] = self._encoded(group)
        self._oldest += 1

    def _encoded(self, frames: list[Frames]) -> bytes:
        return encode_h264(frames, fps=_FPS, qp=self.encoding.qp, gop=self.encoding.gop)


def _decoded(mp4: bytes, positions: Sequence[int]) -> Iterator[VideoFrame]:
    """The frames at these positions (ascending) of a file."""
    with av.open(io.BytesIO(mp4), mode="r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = set(positions)
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                yield frame
            if position == positions[-1]:
                return
