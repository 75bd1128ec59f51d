"""I420 frames to a small H.264 mp4, the same bytes every time.

Constant quantiser, no B-frames, a key frame every `gop` frames, one thread: rate control would leak a frame's
position into a still video (docs/methods.md#constant-quantiser), and x264's bytes depend on its thread count.

A frame that equals its predecessor is encoded from the decoded predecessor instead of the source, so that there is
nothing to correct, and a still video decodes to identical frames at every quantiser. (From the source, x264 refines
some blocks in the frame after a key frame.)
"""

import io
import struct
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from rushes.video.frames import Frames


def encode_h264(frames: Iterable[Frames], *, fps: float, qp: int, gop: int) -> bytes:
    """Encodes uint8 `[H * 3/2, W]` frames (BT.601, limited range); returns the bytes of an mp4 file.

    Args:
        frames: at least one; all of the same shape, H and W even.
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
                still = _Still(stream, gop=gop)
            packets = stream.encode(_padded(still.source_of(frame)))
            still.add(packets)
            container.mux(packets)
            shape = frame.shape
        if stream is None:
            raise ValueError("frames: none given, expected at least one")
        container.mux(stream.encode())
    return _with_size(buffer, height=shape[0] * 2 // 3, width=shape[1])


def _configure(stream: VideoStream, *, height: int, width: int, qp: int, gop: int) -> None:
    """Sets the encoder up for whole macroblocks, which a decoder crops to the frame.

    If x264 padded the frames, it would also correct the padding of a repeated frame, visibly at the edge.
    """
    context = stream.codec_context
    stream.pix_fmt = "yuv420p"
    context.thread_count = 1
    context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
    coded_height, coded_width = _coded(height), _coded(width)
    x264 = {
        "keyint": gop,
        "min-keyint": gop,
        "scenecut": 0,
        "bframes": 0,
        "aq-mode": 0,
        "weightp": 0,  # it compares with the source of the frame before, not with the decoded frame
        "threads": 1,
        # One packet out for each frame in, without delay; `_Still` relies on it.
        "rc-lookahead": 0,
        "sync-lookahead": 0,
        "force-cfr": 1,
        "crop-rect": f"0,0,{coded_width - width},{coded_height - height}",
    }
    parameters = ":".join(f"{name}={value}" for name, value in x264.items())
    context.options = {"preset": "veryfast", "qp": str(qp), "x264-params": parameters}
    stream.width, stream.height = coded_width, coded_height


def _with_size(file: io.BytesIO, *, height: int, width: int) -> bytes:
    """The file with the frame's size in its header, where the muxer wrote that of whole macroblocks."""
    data = file.getvalue()
    moov = data.rindex(b"moov")
    track, entry = data.index(b"tkhd", moov), data.index(b"avc1", moov)
    length = int.from_bytes(data[track - 4 : track], "big")
    del data  # without another reference the buffer is not copied when it is written to
    with file.getbuffer() as view:
        struct.pack_into(">II", view, track - 4 + length - 8, width << 16, height << 16)
        struct.pack_into(">HH", view, entry + 28, width, height)
    return file.getvalue()


def _coded(side: int) -> int:
    return -(-side // 16) * 16


def _padded(frame: Frames) -> VideoFrame:
    """The frame for the encoder, its last row and column repeated up to whole macroblocks."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    padded = VideoFrame(_coded(width), _coded(height), "yuv420p")
    blue, red = frame[height:].reshape(2, height // 2, width // 2)
    for plane, source in zip(padded.planes, (frame[:height], blue, red), strict=True):
        # A line in memory may be longer than the plane is wide.
        lines: Frames = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        _extend(source, lines[:, : plane.width])
    padded.colorspace, padded.color_range = Colorspace.ITU601, ColorRange.MPEG
    return padded


def _extend(plane: Frames, target: Frames) -> None:
    height, width = plane.shape
    target[:height, :width] = plane
    target[:height, width:] = plane[:, -1:]
    target[height:] = target[height - 1]


class _Still:
    """Replaces a repeated frame by the decoded frame before it."""

    def __init__(self, stream: VideoStream, *, gop: int) -> None:
        self.stream, self.gop = stream, gop
        self.count = 0
        self.packets: list[bytes] = []  # since the last key frame
        self.previous: Frames | None = None
        self.decoded: Frames | None = None

    def source_of(self, frame: Frames) -> Frames:
        """The pixels to encode for `frame`."""
        if self.count % self.gop == 0:
            self.packets, self.decoded = [], None
            repeated = False
        else:
            repeated = self.previous is not None and np.array_equal(frame, self.previous)
        self.count += 1
        self.previous = frame
        if not repeated:
            self.decoded = None
            return frame
        if self.decoded is None:
            self.decoded = self._decode()
        return self.decoded

    def add(self, packets: "list[Packet[VideoStream]]") -> None:
        """Keeps the packet of the last frame."""
        assert len(packets) == 1, f"{len(packets)} packets for one frame: the encoder delays"
        self.packets.append(bytes(packets[0]))

    def _decode(self) -> Frames:
        decoder = VideoCodecContext.create("h264", "r")
        decoder.thread_count = 1
        decoder.options = {"flags2": "+ignorecrop"}
        decoder.extradata = self.stream.codec_context.extradata
        frames = [frame for packet in self.packets for frame in decoder.decode(Packet(packet))]
        last = [*frames, *decoder.decode(None)][-1].to_ndarray()
        return last.astype(np.uint8, copy=False)
