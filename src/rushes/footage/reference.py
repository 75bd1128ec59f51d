"""Which videos a command works on, and where their labels are: the data reference that `rushes pin` resolves.

data = DataReference(videos="s3://archive/videos", labels="labels.csv")
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.files import is_url
from rushes.footage.labels import read_annotations

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class DataReference:
    """Videos and their labels by name: the content behind it may change, until `pin` resolves it.

    Raises:
        UserError: a fold below 1, or a revision of a URL.
    """

    videos: str
    """Folder of video files, or the fsspec URL of one."""
    labels: str = ""
    """CSV or Parquet of labels (path, label; optionally start, end, group, split; or Kinetics' columns); empty: the
    folder's `labels.csv`, then class folders."""
    splits: str = ""
    """Folder of UCF-101 or HMDB-51 official split files."""
    fold: int = 1
    """Number of the split, from 1."""
    revision: str = ""
    """Revision of the DVC repository that the folder is in; empty takes the files as they are."""

    def __post_init__(self) -> None:
        if self.fold < 1:
            raise UserError(f"data.fold: {self.fold!r} is not allowed; 1 or more")
        if self.revision and is_url(self.videos):
            raise UserError(
                f"data.revision: {self.revision!r} with the URL {self.videos!r}: only a folder of a DVC repository has "
                "any: leave it out"
            )

    @property
    def root(self) -> str:
        """The videos' folder as an absolute path, or their URL without a slash at its end."""
        return self.videos.rstrip("/") if is_url(self.videos) else str(Path(self.videos).absolute())

    def absolute(self) -> "DataReference":
        """The same reference for a process with another working directory."""
        labels, splits = (str(Path(path).absolute()) if path else "" for path in (self.labels, self.splits))
        return replace(self, videos=self.root, labels=labels, splits=splits)

    def annotations(
        self, paths: Sequence[str], *, root: str = "", say: Callable[[str], None] = lambda message: None
    ) -> list[Annotation]:
        """What is known about the videos.

        Args:
            paths: the videos, relative to their root.
            root: where they are read from, if not at `root` of the reference.
            say: is given lines for people, as by `read_annotations`.

        Raises:
            UserError: labels that contradict each other, are malformed, or name videos that are not there.
        """
        root = root or self.root
        return read_annotations(
            None if is_url(root) else Path(root),
            paths,
            labels=Path(self.labels) if self.labels else None,
            splits=Path(self.splits) if self.splits else None,
            fold=self.fold,
            say=say,
        )

    def flags(self) -> list[str]:
        """The options of a command for the labels and the split."""
        flags = ["--labels", self.labels] if self.labels else []
        return flags + (["--splits", self.splits, "--fold", str(self.fold)] if self.splits else [])


def check_remote(data: DataReference) -> None:
    """Checks that runs on other machines, and later runs, can resolve a reference.

    Raises:
        UserError: a relative path, labels at a URL, or a commit, whose content never changes.
    """
    for name in ("videos", "labels", "splits", "revision"):
        value = getattr(data, name)
        if value != value.strip():
            raise UserError(f"data.{name}: {value!r} is not allowed; no space before or after it")
    if not data.videos:
        raise UserError(f"data.videos: {data.videos!r} is not allowed; a whole path or a URL")
    if not is_url(data.videos):
        check_absolute(data.videos, "data.videos", allowed="a whole path or a URL")
    for name in ("labels", "splits"):
        check_absolute(getattr(data, name), f"data.{name}")
    if _COMMIT.fullmatch(data.revision):
        raise UserError(
            f"data.revision: {data.revision!r} is a commit, on which every run would train the same: name a branch "
            "or a tag"
        )


def check_absolute(value: str, where: str, *, allowed: str = "a whole path") -> None:
    """Checks that a run on another machine can find a file by its name.

    Raises:
        UserError: it is a URL or a relative path.
    """
    if is_url(value):
        raise UserError(f"{where}: {value!r} is a URL, and only videos are read from one: give {allowed}")
    if value and not Path(value).is_absolute():
        raise UserError(f"{where}: {value!r} is relative, and runs are elsewhere: give {allowed}")
