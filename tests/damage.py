"""Damage to videos, by a seeded hand: what is drawn is drawn again from the seed."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

STRUCTURE = re.compile(
    rb"moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|avc1|avcC|hvcC|stts|ctts|stss|stsc|stsz|stco|moof|"
    rb"mdat|RIFF|LIST|avih|strl|strh|strf|movi|idx1|\x1a\x45\xdf\xa3|\x16\x54\xae\x6b|\x1c\x53\xbb\x6b|\x1f\x43\xb6\x75"
)
"""Names of what containers are built of: boxes of MP4, chunks of AVI, elements of Matroska."""
EXTREMES = (0, 1, 7, 8, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)

Hand = random.Random
Damage = Callable[[Hand, bytes, bytes], bytes]
"""(hand, a video, another one) to damaged bytes."""


def flip_bytes(hand: Hand, data: bytes, other: bytes) -> bytes:
    """From a single byte to one in twenty."""
    return _flipped(hand, data, 0, len(data), count=round(len(data) ** hand.uniform(0, 0.8)))


def flip_header(hand: Hand, data: bytes, other: bytes) -> bytes:
    """A few bytes round the container's structure, wherever in the file it lies."""
    found = [match.start() for match in STRUCTURE.finditer(data)] or [0]
    middle = hand.choice(found)
    return _flipped(hand, data, max(0, middle - 64), min(len(data), middle + 256), count=hand.randint(1, 24))


def _flipped(hand: Hand, data: bytes, begin: int, end: int, *, count: int) -> bytes:
    damaged = bytearray(data)
    for _ in range(max(1, count)):
        damaged[hand.randrange(begin, end)] = hand.randrange(256)
    return bytes(damaged)


def truncate(hand: Hand, data: bytes, other: bytes) -> bytes:
    return data[: hand.randrange(len(data))]


def _block(hand: Hand, data: bytes) -> tuple[int, int]:
    begin = hand.randrange(len(data))
    return begin, min(len(data), begin + round(2 ** hand.uniform(4, 16)))


def zero_block(hand: Hand, data: bytes, other: bytes) -> bytes:
    begin, end = _block(hand, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def repeat_block(hand: Hand, data: bytes, other: bytes) -> bytes:
    begin, end = _block(hand, data)
    return data[:end] + data[begin:end] * hand.randint(1, 4) + data[end:]


def swap_blocks(hand: Hand, data: bytes, other: bytes) -> bytes:
    cuts = sorted(hand.randrange(len(data)) for _ in range(4))
    a, b, c, d = cuts
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def set_extremes(hand: Hand, data: bytes, other: bytes) -> bytes:
    """Sizes, counts and durations of the container at the ends of their ranges."""
    damaged = bytearray(data)
    found = [match.start() for match in STRUCTURE.finditer(data)] or [0]
    for _ in range(hand.randint(1, 3)):
        at = max(0, hand.choice(found) + hand.choice((-4, 4, 8, 12, 16, 20, 24)))
        damaged[at : at + 4] = hand.choice(EXTREMES).to_bytes(4, hand.choice(("big", "little")))
    return bytes(damaged)


def splice(hand: Hand, data: bytes, other: bytes) -> bytes:
    return data[: hand.randrange(len(data))] + other[hand.randrange(len(other)) :]


def promise_samples(hand: Hand, data: bytes, other: bytes) -> bytes:
    """A table of an mp4 that promises very many samples; other containers stay as they are."""
    damaged = bytearray(data)
    found = [match.start() for match in re.finditer(b"stsz|trun", data)]
    if found:
        at = hand.choice(found) + 4
        # A table of sizes gives one size to all; a fragment's table gives none.
        numbers = (0, 1) if data[at - 4 : at] == b"stsz" else (0,)
        for number in (*numbers, round(2 ** hand.uniform(18, 32)) - 1):
            damaged[at : at + 4] = number.to_bytes(4, "big")
            at += 4
    return bytes(damaged)


DAMAGES: tuple[Damage, ...] = (
    flip_bytes,
    flip_header,
    truncate,
    zero_block,
    repeat_block,
    swap_blocks,
    set_extremes,
    splice,
    promise_samples,
)


def write_damaged(videos: list[Path], folder: Path, *, seed: int, count: int) -> None:
    """Writes `count` damaged videos, each named by its number, what was done to it, and what it was."""
    folder.mkdir()
    for n, (name, data) in enumerate(damaged_videos(videos, seed=seed, count=count)):
        (folder / f"{n:03d}-{name}").write_bytes(data)


def damaged_videos(videos: list[Path], *, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """What was done to which video, and the damaged bytes; the same ones for the same seed."""
    hand = Hand(seed)
    for n in range(count):
        one, other = hand.sample(videos, 2)
        damage = DAMAGES[n % len(DAMAGES)]
        yield f"{damage.__name__}-{one.name}", damage(hand, one.read_bytes(), other.read_bytes())


def drawn_videos(folder: Path) -> list[Path]:
    """Small films in many containers and codecs, with and without sound, whole and in fragments."""
    folder.mkdir()
    return [_draw(folder / name, *how) for name, how in _DRAWN.items()]


_DRAWN = {
    "h264.mp4": ("libx264", {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "first.mov": ("mpeg4", {"movflags": "faststart"}),
    "mjpeg.avi": ("mjpeg", {}),
    "mpeg4.avi": ("mpeg4", {}),
    "h264.mkv": ("libx264", {}),
    "vp8.webm": ("libvpx", {}),
    "mpeg2.ts": ("mpeg2video", {}),
    "mpeg2.mpg": ("mpeg2video", {}),
    "h264.flv": ("libx264", {}),
    "h264.h264": ("libx264", {}),
}


def _draw(path: Path, codec: str, options: dict[str, str]) -> Path:
    rng = np.random.default_rng(len(path.name))
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        ground = rng.integers(0, 256, (72, 64), dtype=np.uint8)
        for k in range(75):
            frame = av.VideoFrame.from_ndarray(np.roll(ground, k, axis=1), format="yuv420p")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path
