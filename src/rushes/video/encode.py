"""I420 frames to a small H.264 mp4, the same bytes every time.

Constant quantiser, no B-frames, a key frame every `gop` frames, one thread: rate control would leak a frame's
position into a still video (facts: CRF), and x264's bytes depend on its thread count. At the default quantiser a
still video decodes to identical frames; at some others x264 moves a few pixels by one level.
"""

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from rushes.video.decode import Frames


def encode_h264(frames: Iterable[Frames], *, fps: float, qp: int, gop: int) -> bytes:
    """Encodes uint8 `[H * 3/2, W]` frames (BT.601, limited range); returns the bytes of an mp4 file.

    Args:
        frames: at least one; all of one shape, H and W even.
        fps: frame rate written to the file.
        qp: H.264 quantiser, 0 (lossless) to 51.
        gop: frames from one key frame to the next.
    """
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: VideoStream | None = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
                _configure(stream, height=frame.shape[0] * 2 // 3, width=frame.shape[1], qp=qp, gop=gop)
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv420p")
            picture.colorspace, picture.color_range = Colorspace.ITU601, ColorRange.MPEG
            container.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("frames: none given, expected at least one")
        container.mux(stream.encode())
    return buffer.getvalue()


def _configure(stream: VideoStream, *, height: int, width: int, qp: int, gop: int) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
    x264 = {
        "keyint": gop,
        "min-keyint": gop,
        "scenecut": 0,
        "bframes": 0,
        "aq-mode": 0,
        "threads": 1,
    }
    parameters = ":".join(f"{name}={value}" for name, value in x264.items())
    context.options = {"preset": "veryfast", "qp": str(qp), "x264-params": parameters}
