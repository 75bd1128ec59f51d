"""The group "Data": footage show, footage forget, demo-videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class FootageShow:
    """A first look at videos, or at footage: what moves, where shots change, what is broken or there twice.

    rushes footage show my_videos/
    """

    target: Positional[str]
    """A folder of videos or an fsspec URL, of which a part is sampled (under a minute, no label needed); or the pointer
    that `rushes sample` wrote, of which everything is shown."""
    labels: str = ""
    """CSV or Parquet of labels; default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    out: Path = Path("footage")
    """Folder for the page and its picture."""

    def execute(self) -> int:
        from rushes.commands.show import show
        from rushes.footage.reference import DataReference

        data = DataReference(videos=self.target, labels=self.labels, splits=self.splits, fold=self.fold)
        return show(data, out=self.out)


@dataclass(frozen=True, kw_only=True)
class FootageForget:
    """Removes a video's footage for good: from shards, caches and DVC's cache; later samples refuse it.

    rushes footage forget archive/visitor.mp4
    """

    source: Positional[str]
    """The video: its file, its path as the footage names it, or its SHA-256 (at least 12 characters of it)."""
    yes: bool = False
    """Do not ask."""

    def execute(self) -> int:
        from rushes.commands.forget import forget

        return forget(self.source, yes=self.yes)


@dataclass(frozen=True, kw_only=True)
class DemoVideos:
    """Draws and encodes the embedded data: synthetic actions that differ only in motion."""

    folder: Positional[Path]
    """Where the videos and labels.csv go."""
    size: Literal["tiny", "demo", "directed", "places"] = "demo"
    """How many; directed: as many as demo, of actions that look different backwards; places: with classes that a
    single frame shows."""
    seed: int = 0
    """Everything follows from it, byte for byte."""

    def execute(self) -> int:
        from rushes.commands.demo import videos

        return videos(self.folder, size=self.size, seed=self.seed)
