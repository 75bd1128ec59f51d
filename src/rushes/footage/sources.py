"""Pinned video files: where they are, and what opening one may cost."""

from dataclasses import dataclass
from pathlib import Path

from rushes.config import SampleConfig
from rushes.video.source import Limits, VideoError, VideoSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A pinned video file."""

    path: str
    """Relative to the root of the videos."""
    sha256: str
    size: int
    stamp: str = ""
    """Of the file when it was pinned (`rushes.footage.files`), "" where unknown."""


def located(root: str, path: str) -> VideoSource:
    """The video at `path` under a folder or under an fsspec URL."""
    return f"{root}/{path}" if "://" in root else Path(root) / path


def limits_of(config: SampleConfig) -> Limits:
    """The decoder's limits for one segment."""
    return Limits(max_pixels=config.max_pixels, decode_seconds=config.decode_seconds)


def relative_message(error: VideoError, root: str) -> str:
    """The error's message without the root of the videos, which is not part of the footage."""
    return str(error).replace(f"{root.rstrip('/')}/", "")
