"""Generated videos for the benchmarks: cheap to make, different from each other, and moving.

Functions that call `ffmpeg` need its command line tool.
"""

import hashlib
import os
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rushes.video.encode import encode_h264
from rushes.video.frames import Frames

_H264 = ("-c:v", "libx264", "-preset", "veryfast")
_CLIP = (48, 64)
_SCENE = (144, 192)


def ffmpeg(*arguments: str) -> None:
    """Runs the tool without output.

    Raises:
        CalledProcessError: it fails.
    """
    subprocess.run(["ffmpeg", "-y", "-nostdin", "-v", "error", *arguments], check=True)


def hd_film(videos: Sequence[Path], target: Path, *, seconds: float) -> None:
    """The videos one after another at 1280 x 720 and 30 frames a second with a camera's grain, H.264 in mp4."""
    inputs = [text for video in videos for text in ("-i", str(video))]
    scaled = ";".join(f"[{n}:v]scale=1280:720,setsar=1,fps=30[v{n}]" for n in range(len(videos)))
    joined = "".join(f"[v{n}]" for n in range(len(videos)))
    graph = f"{scaled};{joined}concat=n={len(videos)}:v=1,noise=alls=6:allf=t,format=yuv420p"
    ffmpeg(*inputs, "-filter_complex", graph, "-t", str(seconds), *_H264, str(target))


def long_film(target: Path, *, minutes: int) -> None:
    """One minute of moving shapes, 320 x 240 at 25 frames a second, repeated as it is encoded; H.264 in mp4."""
    minute = target.with_name(f"minute-{target.name}")
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=60")
    ffmpeg(*source, *_H264, "-pix_fmt", "yuv420p", str(minute))
    ffmpeg("-stream_loop", str(minutes - 1), "-i", str(minute), "-c", "copy", str(target))
    minute.unlink()


def beginning(film: Path, target: Path, *, seconds: float) -> None:
    """The first seconds of a film, without encoding them again."""
    ffmpeg("-i", str(film), "-t", str(seconds), "-c", "copy", str(target))


def varied(folder: Path, *, count: int, seed: int = 0) -> None:
    """Files of many kinds: 24 films of five sizes, three rates and four contents, cut at random lengths.

    Lengths are log-normal, a second or two, some much longer; most frames are small. H.264 in mp4.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = ["320x240"] * 4 + ["480x360"] * 3 + ["640x360"] * 2 + ["854x480", "1280x720"]
    for number in range(24):
        size, rate, grain = rng.choice(sizes), rng.choice([24, 25, 30]), rng.integers(0, 12)
        source = _SOURCES[number % len(_SOURCES)].format(size=size, rate=rate)
        film = folder / f"film-{number:02d}.mkv"
        noise = ("-vf", f"noise=alls={grain}:allf=t,format=yuv420p")
        gop = str(rng.integers(12, 60))
        ffmpeg("-f", "lavfi", "-i", source, "-t", str(_LOOP), *noise, *_H264, "-g", gop, str(film))
        ends = np.cumsum(np.clip(rng.lognormal(0.2, 0.8, count // 24), 0.4, 120))
        times = ",".join(f"{end:.2f}" for end in ends[:-1])
        repeated = ("-stream_loop", str(int(ends[-1] // _LOOP)), "-i", str(film), "-t", f"{ends[-1]:.2f}")
        cut = ("-c", "copy", "-f", "segment", "-segment_times", times, "-reset_timestamps", "1")
        ffmpeg(*repeated, *cut, str(folder / f"{number:02d}-%05d.mp4"))
        film.unlink()
        for piece in folder.glob(f"{number:02d}-*.mp4"):
            with piece.open("ab") as file:  # an empty box, so that no two files are the same
                file.write(struct.pack(">I4s8s", 16, b"free", piece.stem.encode()))


_LOOP = 12  # seconds of a film until it repeats itself
_SOURCES = (
    "testsrc2=size={size}:rate={rate}",
    "cellauto=size={size}:rate={rate}",
    "sierpinski=size={size}:rate={rate}",
    "gradients=size={size}:rate={rate}:speed=0.05",
)


def clips(folder: Path, *, count: int, frames: int) -> None:
    """Many short clips, 48 x 64 pixels, no two alike."""
    _write_all(folder, count=count, frames=frames, size=_CLIP, grain=0)


def scenes(folder: Path, *, first: int, count: int, frames: int) -> None:
    """Videos of 144 x 192 pixels with a camera's grain, no two alike; numbered from `first` on."""
    _write_all(folder, first=first, count=count, frames=frames, size=_SCENE, grain=3)


def _write_all(folder: Path, *, count: int, frames: int, size: tuple[int, int], grain: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write = partial(_write, folder, frames=frames, size=size, grain=grain)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(write, range(first, first + count), chunksize=max(1, min(100, count // 8))):
            pass


def _write(folder: Path, number: int, *, frames: int, size: tuple[int, int], grain: int) -> None:
    target = folder / f"{number:06d}.mp4"
    target.write_bytes(encode_h264(_moving(number, frames, size, grain), fps=25.0, qp=18, gop=25))


def _moving(seed: int, frames: int, size: tuple[int, int], grain: int) -> Frames:
    """A textured square that wanders over a textured ground; I420, `[frames, H * 3/2, W]`."""
    height, width = size
    side = height // 3 // 2 * 2
    rng = np.random.default_rng(seed)
    ground, square = _texture(rng, height, width), _texture(rng, side, side)
    speed, phase = rng.uniform(0.05, 0.15, 2), rng.uniform(0, 2 * np.pi, 2)
    out = np.full((frames, height * 3 // 2, width), 128, dtype=np.uint8)
    for n in range(frames):
        share = (1 + np.sin(speed * n + phase)) / 2
        top, left = round(share[0] * (height - side)), round(share[1] * (width - side))
        out[n, :height] = ground
        out[n, top : top + side, left : left + side] = square
        if grain:
            out[n, :height] += rng.integers(0, grain, (height, width), dtype=np.uint8)
    return out


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    coarse = rng.integers(30, 220, (height // 8 + 1, width // 8 + 1), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8), dtype=np.uint8))[:height, :width]


def name_digest(name: str) -> str:
    """A SHA-256 (hex) that stands for a content that does not exist."""
    return hashlib.sha256(name.encode()).hexdigest()
