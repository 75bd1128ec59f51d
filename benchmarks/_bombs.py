"""Small files that are dear to open or to decode: for `benchmarks.hostile`, and for the tests of the limits.

The mp4 tables are those of a sound file, with a few numbers changed by hand.
"""

import io
import struct
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np

from rushes.video.encode import encode_h264

PROMISED = 60_000_000
"""Samples that a table promises, of which the file holds next to none."""


def sound_film(*, frames: int = 100) -> bytes:
    """An mp4 of 9 kB or so: a bar that moves over a flat ground."""
    planes = np.full((frames, 72, 64), 128, dtype=np.uint8)
    for k in range(frames):
        planes[k, :48, k % 56 : k % 56 + 8] = 220
    return encode_h264(iter(planes), fps=25.0, qp=20, gop=12)


def _changed(data: bytes, box: bytes, *values: tuple[int, int]) -> bytes:
    """The file with 32-bit numbers changed at these offsets after the first `box`'s name."""
    changed = bytearray(data)
    at = data.index(box) + 4
    for offset, value in values:
        struct.pack_into(">I", changed, at + offset, value)
    return bytes(changed)


def promised_sizes(samples: int = PROMISED) -> bytes:
    """Every sample is one byte, and there are very many."""
    video = _changed(sound_film(), b"stsz", (4, 1), (8, samples))
    video = _changed(video, b"stsc", (12, samples))
    return _changed(video, b"stts", (8, samples))


def promised_fragment(samples: int = PROMISED) -> bytes:
    """A fragment of very many samples that take no space in its table."""
    buffer = io.BytesIO()
    with (
        av.open(buffer, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as out,
        av.open(io.BytesIO(sound_film()), "r") as source,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return _changed(buffer.getvalue(), b"trun", (0, 0), (4, samples))


def repeated_edits(edits: int = 1_000_000) -> bytes:
    """Edits that each show the whole film again: FFmpeg copies its index as often."""
    video = sound_film(frames=200)
    moov = video.rindex(b"moov") - 4
    entry = struct.pack(">IiI", 200 * 40, 0, 1 << 16)
    elst = struct.pack(">I4sII", 16 + 12 * edits, b"elst", 0, edits) + entry * edits
    box = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    header = video.index(b"tkhd", moov) - 4
    at = header + int.from_bytes(video[header : header + 4], "big")
    old = video.find(b"edts", at, at + 8)
    end = at + int.from_bytes(video[at : at + 4], "big") if old >= 0 else at
    grown = bytearray(video[:at] + box + video[end:])
    for start in (moov, video.index(b"trak", moov) - 4):
        length = int.from_bytes(grown[start : start + 4], "big") + len(box) - (end - at)
        struct.pack_into(">I", grown, start, length)
    return bytes(grown)


def _wide_packets(*, width: int, height: int, frames: int) -> bytes:
    """H.264 as a byte stream: one key frame, and frames that move."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {"preset": "ultrafast", "qp": "40", "bf": "0", "g": "1000"}
    out = []
    planes = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
    for k in range(frames):
        planes[:height] = 60
        planes[:height, 40 * k : 40 * k + 400] = 200
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = k
        out += [bytes(packet) for packet in encoder.encode(frame)]
    return b"".join([*out, *(bytes(packet) for packet in encoder.encode(None))])


def wide_stream(*, seconds: int = 60, width: int = 4096, height: int = 2304) -> bytes:
    """A byte stream of H.264, whose header says no length: one second of film, again and again."""
    return _wide_packets(width=width, height=height, frames=25) * seconds


def wide_film(*, seconds: int = 60, width: int = 4096, height: int = 2304) -> bytes:
    """The same film as an mp4, whose header says how long it is."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(wide_stream(seconds=seconds, width=width, height=height)), "r", format="h264") as source,
        av.open(buffer, "w", format="mp4") as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = (packet for packet in source.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.pts = packet.dts = number
            packet.duration = 1
            out.mux(packet)
    return buffer.getvalue()


TABLES: dict[str, Callable[..., bytes]] = {
    "sizes": promised_sizes,
    "fragment": promised_fragment,
}
"""Files whose tables promise more than they hold."""
