"""The group "Data": footage show, footage forget, demo-videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class FootageShow:
    """Shows what is in videos or footage: motion, cuts, broken files and duplicates, as a page with images.

    rushes footage show my_videos/
    """

    target: Positional[str]
    """Folder of videos or fsspec URL: a part is sampled, in under a minute, without labels. Or a pointer from
    `rushes sample`: all of its footage is shown."""
    labels: str = ""
    """CSV or Parquet of labels. Default: labels.csv in the folder, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 split files."""
    fold: int = 1
    """Number of the split."""
    out: Path = Path("footage")
    """Folder for the page and its images."""

    def execute(self) -> int:
        from rushes.commands.show import show
        from rushes.footage.reference import DataReference

        data = DataReference(videos=self.target, labels=self.labels, splits=self.splits, fold=self.fold)
        return show(data, out=self.out)


@dataclass(frozen=True, kw_only=True)
class FootageForget:
    """Deletes the footage of a video for good, from shards, caches and DVC's cache; `sample` will refuse the video.

    rushes footage forget archive/visitor.mp4
    """

    source: Positional[str]
    """The video: its file, its path in the archive, or its SHA-256 (at least the first 12 characters)."""
    yes: bool = False
    """Do not ask for confirmation."""

    def execute(self) -> int:
        from rushes.commands.forget import forget

        return forget(self.source, yes=self.yes)


@dataclass(frozen=True, kw_only=True)
class DemoVideos:
    """Writes the demo's videos: synthetic actions that differ only in motion.

    rushes demo-videos data/demo --size tiny
    """

    folder: Positional[Path]
    """Folder for the videos and labels.csv."""
    size: Literal["tiny", "demo", "directed", "places"] = "demo"
    """tiny and demo differ in number; directed: as many as demo, of actions that look different backwards; places: with
    classes that a single frame shows."""
    seed: int = 0
    """The same seed gives the same bytes."""

    def execute(self) -> int:
        from rushes.commands.demo import videos

        return videos(self.folder, size=self.size, seed=self.seed)
