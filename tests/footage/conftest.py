"""Small videos with numbered frames, and footage made of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rushes.config import SampleConfig
from rushes.footage.annotation import Annotation
from rushes.footage.archive import list_archive
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.probes import PROBES
from rushes.footage.reader import Footage
from rushes.footage.sample import Archive, sample_footage
from rushes.footage.sources import Source
from rushes.progress import NullProgress
from rushes.store import Manifest, Store, sha256_file
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames

SMALL = SampleConfig(short_side=48, fps=25.0, qp=10, workers=1, shard_segments=4)


def numbered_frames(count: int, *, first: int = 0) -> Frames:
    """Frames of 48 x 64 that tell their number (modulo 200) by their grey, over a little texture."""
    frames = np.full((count, 72, 64), 128, dtype=np.uint8)
    texture = np.add.outer(np.arange(48), np.arange(64)) % 7
    frames[:, :48] = texture + (20 + (first + np.arange(count)) % 200).astype(np.uint8)[:, None, None]
    return frames


def numbers(frames: Frames) -> list[int]:
    """The numbers that `numbered_frames` drew."""
    texture = float((np.add.outer(np.arange(48), np.arange(64)) % 7).mean())
    return [round(float(frame[:48].mean()) - texture - 20) for frame in frames]


def scene(seed: int, *, frames: int = 50, speed: float = 1.0) -> Frames:
    """A textured square that wanders over a textured ground, 96 x 128."""
    rng = np.random.default_rng(seed)
    ground, square = smooth(rng, 96, 128), smooth(rng, 32, 32)
    out = np.full((frames, 144, 128), 128, dtype=np.uint8)
    x, y, dx, dy = rng.random(4)
    for n in range(frames):
        top = round(32 + 31 * np.sin(speed * n * (0.05 + 0.1 * dy) + 6 * y))
        left = round(48 + 47 * np.sin(speed * n * (0.05 + 0.1 * dx) + 6 * x))
        out[n, :96] = ground
        out[n, top : top + 32, left : left + 32] = square
    return out


def smooth(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    coarse = rng.integers(30, 220, (height // 16 + 1, width // 16 + 1))
    return np.kron(coarse, np.ones((16, 16), dtype=int))[:height, :width].astype(np.uint8)


def write_video(path: Path, *, frames: int, first: int = 0, fps: float = 25.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_h264(numbered_frames(frames, first=first), fps=fps, qp=4, gop=12))


def sources_of(root: Path) -> list[Source]:
    return [
        Source(path=path, sha256=sha256_file(root / path), size=(root / path).stat().st_size)
        for path in list_archive(str(root)).paths
    ]


def archive_of(root: Path, annotations: Sequence[Annotation] = (), **more: Any) -> Archive:
    return Archive(root=str(root), sources=sources_of(root), annotations=annotations, **more)


class Said(NullProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


Sampler = Callable[..., tuple[Footage, dict[str, Any], Path]]


@pytest.fixture
def sample(tmp_path: Path) -> Sampler:
    """Samples a folder; returns the footage, the summary and the folder of the two tables."""
    return sampler(tmp_path)


def sampler(tmp_path: Path) -> Sampler:
    """`sample`, with its outputs under `tmp_path`."""

    def run(
        root: Path,
        annotations: Sequence[Annotation] = (),
        *,
        config: SampleConfig = SMALL,
        name: str = "a",
        store: Store | None = None,
        progress: NullProgress | None = None,
        last: str = "",
        previous: Sequence[str] = (),
        digest: str = "0123",
        forgotten: frozenset[str] = frozenset(),
    ) -> tuple[Footage, dict[str, Any], Path]:
        out = tmp_path / f"out-{name}"
        out.mkdir(exist_ok=True)
        store = store or Store(str(tmp_path / f"store-{name}"))
        archive = archive_of(root, annotations, last=last, previous=previous, forgotten=forgotten)
        summary = sample_footage(
            archive=archive,
            config=config,
            store=store,
            digest=digest,
            out=out,
            progress=progress or NullProgress(),
        )
        manifest = Manifest(
            kind="footage",
            step="sample",
            digest=digest,
            inputs={},
            config={},
            code="",
            files={file: store.put(out / file) for file in (INDEX, SHARDS, PROBES)},
            summary=summary,
        )
        store.publish(manifest)
        return Footage(manifest, store), summary, out

    return run
