"""Films whose frames carry their number as a bar code, muxed into any container, and the reading of it."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from rushes.video.frames import Frames

BITS = 10
WIDTH, HEIGHT = 200, 96
AUDIO_RATE = 44100


def drawn(number: int) -> Frames:
    """I420 of `WIDTH` x `HEIGHT`: ten bars, white for 1, the highest bit first, from 10 % to 90 % of the width."""
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, dtype=np.uint8)
    bits = [number >> (BITS - 1 - n) & 1 for n in range(BITS)]
    bars = np.repeat(np.where(bits, 235, 16).astype(np.uint8), WIDTH * 8 // 10 // BITS)
    planes[HEIGHT * 2 // 5 : HEIGHT * 3 // 5, WIDTH // 10 : WIDTH // 10 + len(bars)] = bars
    return planes


def read(frame: Frames) -> int:
    """The number of an I420 frame of any size."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    line = frame[height * 45 // 100 : height * 55 // 100].astype(float).mean(axis=0)
    centres = [round(width * (0.1 + 0.8 * (n + 0.5) / BITS)) for n in range(BITS)]
    return sum(int(line[x - 1 : x + 2].mean() > 128) << (BITS - 1 - n) for n, x in enumerate(centres))


def film(
    slots: Sequence[int],
    *,
    rate: Fraction | int = 30,
    muxer: str = "mp4",
    codec: str = "libx264",
    first: int = 0,
    start: float = 0.0,
    reordered: int = 0,
    gop: int = 12,
    audio: tuple[float, float] | None = None,
    last_stands: int = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A film whose n-th frame, coded `first` + n, is shown from `slots[n]` / `rate` seconds on.

    Args:
        slots: ascending.
        rate: frame intervals per second.
        muxer: FFmpeg's name of the container.
        codec: likewise.
        first: number of the first frame.
        start: seconds that are added to all timestamps of the film.
        reordered: B-frames in a row at most.
        gop: key frames lie at most so far apart.
        audio: seconds at which a silent track begins and ends.
        last_stands: frame intervals for which the container says that the last frame is shown.
        options: of the muxer.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1) / rate
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, reordered
        stream.codec_context.bit_rate = 2_000_000
        if codec == "libx264":
            settings = {
                "preset": "ultrafast",
                "qp": "20",
                "bf": str(reordered),
                "g": str(gop),
                "x264-params": "b-adapt=0",
            }
            stream.codec_context.options = settings
        if codec.startswith("libvpx"):
            stream.codec_context.options = {"deadline": "realtime", "cpu-used": "8"}
        sound: Any = container.add_stream("mp2" if muxer == "vob" else "aac", rate=AUDIO_RATE) if audio else None
        packets: list[Any] = []
        for n, slot in enumerate(slots):
            frame = av.VideoFrame.from_ndarray(drawn(first + n), format="yuv420p")
            frame.pts, frame.time_base = slot, Fraction(1) / rate
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet in packets:
            shift = round(start / packet.time_base)
            if last_stands and packet is packets[-1]:
                packet.duration = round(last_stands / rate / packet.time_base)
            packet.pts += shift
            packet.dts += shift
        if sound is not None and audio is not None:
            packets += _silence(sound, *audio)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return buffer.getvalue()


def _silence(stream: Any, start: float, end: float) -> list[Any]:
    stream.codec_context.open()
    size = stream.codec_context.frame_size
    packets: list[Any] = []
    for n in range(round((end - start) * AUDIO_RATE / size)):
        frame = AudioFrame.from_ndarray(np.zeros((1, size), np.float32), format="fltp", layout="mono")
        if stream.codec_context.format.name != "fltp":
            frame = AudioFrame.from_ndarray(np.zeros((1, size), np.int16), format="s16p", layout="mono")
        frame.sample_rate, frame.pts = AUDIO_RATE, round(start * AUDIO_RATE) + n * size
        frame.time_base = Fraction(1, AUDIO_RATE)
        packets += stream.encode(frame)
    return [*packets, *stream.encode()]
