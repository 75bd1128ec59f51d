"""Labels and splits from the names of folders.

    <class>/<file>             a class per folder
    <split>/<class>/<file>     where every folder at the top is a split: train, val, test, unlabelled
    <class>/<split>/<file>     where every class is divided into such folders

The folder `unlabelled` is no class. Without a test folder, groups of the training folder are held out by their hash.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.column_names import SPLIT_NAMES
from rushes.footage.file_names import shown

Layout = Literal["classes", "splits of classes", "classes of splits"]
Parts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FolderLabels:
    """What the folders say."""

    annotations: list[Annotation]
    layout: Layout
    remarks: tuple[str, ...]
    """Lines for people: which folders are taken as splits, and which files have no class."""


def read_folders(videos: Sequence[str]) -> FolderLabels:
    """Reads the labels and splits from the paths of the videos.

    Raises:
        UserError: some folders at the top are splits, and others are not.
    """
    paths = [(path, PurePosixPath(path).parts[:-1]) for path in videos]
    layout = _layout([folders for _, folders in paths])
    if layout == "classes":
        found = [Annotation(path=path, label=_label(f[0])) for path, f in paths if len(f) == 1 and _label(f[0])]
        return FolderLabels(annotations=found, layout=layout, remarks=_deeper(paths))
    place, other = (0, 1) if layout == "splits of classes" else (1, 0)
    tested = any(_split(f[place]) == "test" for _, f in paths if len(f) > place)
    found = []
    for path, folders in paths:
        split = _split(folders[place]) if len(folders) > place else None
        label = _label(folders[other]) if len(folders) == 2 and split != "unlabelled" else None
        split = None if split == "unlabelled" or (split == "train" and not tested) else split
        if label or split:
            found.append(Annotation(path=path, label=label, split=split))
    return FolderLabels(annotations=found, layout=layout, remarks=(_divided(layout, found, len(videos)),))


def _layout(folders: Sequence[Parts]) -> Layout:
    tops = {f[0] for f in folders if f}
    splits = {top for top in tops if _split(top)}
    kinds = {_split(top) for top in splits} - {"unlabelled"}
    if kinds and splits == tops:
        return "splits of classes"
    if len(kinds) > 1:
        others = sorted(tops - splits)
        raise UserError(
            f"videos: the folders {_some(sorted(splits))} look like splits, and {_some(others)} do not: name all of "
            "them train, val, test or unlabelled, or give --labels"
        )
    inner = {_split(f[1]) for f in folders if len(f) > 1}
    flat = any(len(f) == 1 and _label(f[0]) for f in folders)
    if len(inner - {"unlabelled"}) > 1 and None not in inner and not flat:
        return "classes of splits"
    return "classes"


def _split(folder: str) -> str | None:
    return SPLIT_NAMES.get(folder.casefold())


def _label(folder: str) -> str | None:
    label = unicodedata.normalize("NFC", folder)
    return None if _split(label) == "unlabelled" else label


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _divided(layout: Layout, found: Sequence[Annotation], videos: int) -> str:
    """The remark about folders that are splits."""
    form = "<split>/<class>/<file>" if layout == "splits of classes" else "<class>/<split>/<file>"
    labelled = sum(a.label is not None for a in found)
    return f"folders are splits ({form}): {labelled} of {videos} videos have a class"


def _deeper(paths: Sequence[tuple[str, Parts]]) -> tuple[str, ...]:
    """The remark about files whose folder is not directly under the root."""
    deeper = [path for path, folders in paths if len(folders) > 1 and _label(folders[0])]
    if not deeper:
        return ()
    return (
        f"{len(deeper)} of {len(paths)} videos are unlabelled, as they lie deeper than <class>/<file>: {deeper[0]}",
    )
