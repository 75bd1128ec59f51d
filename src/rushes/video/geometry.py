"""From a decoded frame to an upright I420 frame of one size: rotation, mirroring, aspect, colour matrix and range."""

from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from rushes.video.frames import Frames, scaled_size
from rushes.video.source import OpenVideo

_LONGEST_ASPECT = 8
# H.273's numbers of colour matrices.
_BT709, _BT601 = 1, 6
_CONVERTIBLE = {_BT709, 4, 5, _BT601, 7, 9}  # swscale refuses a frame with any other
_HD_LINES = 720


def display_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(height, width) in pixels as displayed: square pixels, upright."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        aspect = Fraction(1)
    height, width = frame.height, max(1, round(frame.width * aspect))
    return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def colour_matrix(frame: VideoFrame) -> int:
    """The frame's matrix, by H.273; without a usable tag the one that players assume for its size."""
    if frame.colorspace in _CONVERTIBLE:
        return frame.colorspace
    return _BT709 if frame.height >= _HD_LINES else _BT601


def side_data(frame: VideoFrame, kind: str) -> Any:
    """A frame's side data of one kind, None where there is none.

    Not `frame.side_data`, which makes a reference cycle: both would stay in memory until the garbage collector runs.

    Raises:
        ValueError: the frame also has side data of a kind that PyAV does not know.
    """
    return SideDataContainer(frame).get(kind)  # type: ignore[call-arg]


class Scaler:
    """Converts frames to upright I420; the first frame decides the size and whether to mirror.

    The last result is kept, for a frame that is shown more than once.

    Raises:
        VideoError: one side is more than eight times the other.
    """

    def __init__(self, video: OpenVideo, *, short_side: int) -> None:
        self.video, self.short_side = video, short_side
        self.size: tuple[int, int] | None = None
        self.mirrored = False
        self.reformatter = VideoReformatter()
        self.last: tuple[VideoFrame, Frames] | None = None

    def __call__(self, frame: VideoFrame) -> Frames:
        """uint8 `[H * 3/2, W]`."""
        if self.last is None or self.last[0] is not frame:
            self.last = (frame, self._convert(frame))
        return self.last[1]

    def _convert(self, frame: VideoFrame) -> Frames:
        if self.size is None:
            self.size = self._size(*display_size(frame, self.video.stream))
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

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if max(height, width) > _LONGEST_ASPECT * min(height, width):
            raise self.video.error("odd_shape", f"{width} x {height}, sides beyond {_LONGEST_ASPECT}:1 are not allowed")
        return scaled_size(height, width, short_side=self.short_side)


def _quarter_turns(frame: VideoFrame) -> int:
    """Counterclockwise, 0 to 3: the quarter nearest to the display matrix's angle; 0 where the matrix has none.

    Halfway between two quarters it is 0 or 2. Browsers' muxers write a matrix of zeros, whose angle is not a number.
    """
    degrees = frame.rotation
    return round(degrees / 90) % 4 if abs(degrees) <= 180 else 0


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


def _upright(frame: Frames, turns: int, *, mirrored: bool) -> Frames:
    """Flips `[H * 3/2, W]` upside down if `mirrored`, then turns it by quarters counterclockwise."""
    if turns == 0 and not mirrored:
        return frame
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    flipped = [plane[::-1] if mirrored else plane for plane in (frame[:height], *chroma)]
    luma, blue, red = (np.rot90(plane, turns) for plane in flipped)
    # A chroma plane may end in the middle of a row of the packed array: joined flat.
    return np.concatenate([luma.ravel(), blue.ravel(), red.ravel()]).reshape(-1, luma.shape[1])
