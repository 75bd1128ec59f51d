"""Labels of the videos: from a table, from folders, or from the official split files of UCF-101 and HMDB-51.

    videos = list_archive("videos").paths  # of rushes.footage.archive
    annotations = read_annotations(Path("videos"), videos, labels=Path("labels.csv"))

A file without an annotation is unlabelled. Paths are relative to the videos' folder, with forward slashes.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.class_folders import read_folders
from rushes.footage.file_names import shown
from rushes.footage.label_table import read_table
from rushes.footage.split_files import read_split_files

LABELS_FILE = "labels.csv"
_SIMILAR = frozenset(f"{name}.{ending}" for name in ("label", "labels") for ending in ("csv", "tsv", "parquet", "pq"))


def read_annotations(
    root: Path | None,
    videos: Sequence[str],
    *,
    labels: Path | None = None,
    splits: Path | None = None,
    fold: int = 1,
    say: Callable[[str], None] = lambda message: None,
) -> list[Annotation]:
    """Reads the labels of the videos.

    Args:
        root: the videos' folder, None where they are read from a URL; without `labels` and `splits`, its own
            `labels.csv` counts, then its folders.
        videos: relative paths of the videos.
        labels: CSV or Parquet with the columns path and label, and optionally start, end, group, split; or Kinetics'
            own columns.
        splits: folder of UCF-101's or HMDB-51's official split files.
        fold: number of the official split, from 1.
        say: is given lines for people: columns that are not used, folders that are splits, classes that look alike.

    Raises:
        UserError: they are contradictory, malformed, about absent videos, or of one class only.
    """
    if labels is not None and splits is not None:
        raise UserError(f"labels: {labels} and splits: {splits} exclude each other: give one of them")
    if labels is None and splits is None and root is not None:
        labels = table_beside(root)
    if labels is not None:
        found, source = read_table(labels, videos, say=say), str(labels)
    elif splits is not None:
        found, source = read_split_files(splits, videos, fold=fold), str(splits)
    else:
        folders = read_folders(videos)
        found, source = folders.annotations, "<class>/"
        for remark in folders.remarks:
            say(remark)
    _check_classes({annotation.label for annotation in found if annotation.label is not None}, source, say)
    return found


def table_beside(root: Path) -> Path | None:
    """The `labels.csv` in the folder of the videos, or None.

    Raises:
        UserError: there is none, but a file of a similar name, which would not be read.
    """
    if (root / LABELS_FILE).is_file():
        return root / LABELS_FILE
    names = (path.name for path in root.iterdir()) if root.is_dir() else ()
    if similar := sorted(name for name in names if name.strip().casefold() in _SIMILAR):
        raise UserError(
            f"labels: {str(root / similar[0])!r} is not read by itself: rename it to {LABELS_FILE}, give it as "
            "--labels, or move it elsewhere"
        )
    return None


def _check_classes(classes: Iterable[str], source: str, say: Callable[[str], None]) -> None:
    """Checks that there are several classes; says which of them look alike."""
    names = sorted(classes)
    if len(names) == 1:
        raise UserError(f"labels: {source} names the class {names[0]!r} only: a classifier needs at least two classes")
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(_look(name), name)
        if other != name:
            say(f"labels: {shown(other)} and {shown(name)} are two classes: if they are one, spell it in one way")


def _look(name: str) -> str:
    """What a name looks like at a glance: without case, spaces and signs between words, and what does not show."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if not (c.isspace() or c in "_-" or unicodedata.category(c) == "Cf"))
