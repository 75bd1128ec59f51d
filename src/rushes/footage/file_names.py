"""Finds videos by the names that tables and split files give them.

Unicode writes one letter in several ways (`ï` as one character, or as `i` and a diaeresis), and copying from one system
to another changes them, so names are compared in one normal form. Where two files differ in nothing else, a
name must have the exact characters of one of them.
"""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import PurePosixPath

from rushes.errors import UserError
from rushes.footage.archive import EXTENSIONS

Index = dict[str, list[str]]


class VideoNames:
    """The videos of an archive by name.

    Args:
        videos: their paths, relative to the root.
    """

    def __init__(self, videos: Sequence[str]) -> None:
        self.videos = videos
        self._exact = frozenset(videos)

    def find(self, name: str, where: str) -> str:
        """The video at a path.

        Args:
            name: relative to the root, with slashes or backslashes; in any normal form.
            where: begins an error.

        Raises:
            UserError: there is none, or more than one.
        """
        found = self._at(name, where)
        if found is None:
            raise UserError(f"{where}: path {shown(name)} is not among the videos{self._closest(name)}")
        return found

    def find_loosely(self, name: str, where: str) -> str:
        """As `find`; else without regard to case and extension; else by the name of the file alone."""
        found = self._at(name, where)
        if found is None:
            stem = _stem(_normalised(name))
            found = _one(self._stems, stem, name, where) or _one(self._names, stem.rpartition("/")[2], name, where)
        if found is None:
            raise UserError(f"{where}: {shown(name)} is not among the videos{self._closest(name)}")
        return found

    def _at(self, name: str, where: str) -> str | None:
        if name in self._exact:
            return name
        return _one(self._normal, _normalised(name), name, where)

    @cached_property
    def _normal(self) -> Index:
        return _index(self.videos, _normalised)

    @cached_property
    def _stems(self) -> Index:
        return _index(self.videos, lambda path: _stem(_normalised(path)))

    @cached_property
    def _names(self) -> Index:
        return _index(self.videos, lambda path: _stem(_normalised(path)).rpartition("/")[2])

    def _closest(self, name: str) -> str:
        """The end of an error: the video of this name elsewhere, or the one with the most similar path."""
        normal = _normalised(name)
        same = self._names.get(_stem(normal).rpartition("/")[2], [])
        close = same or difflib.get_close_matches(normal, self.videos, n=1, cutoff=0.5)
        return f"; did you mean {shown(close[0])}?" if close else ": correct the path, relative to the videos' folder"


def by_stem(videos: Sequence[str]) -> Index:
    """The videos by the name of the file alone, without its extension."""
    return _index(videos, lambda path: PurePosixPath(path).stem)


def shown(name: str) -> str:
    """A name for a message; one that is not ASCII also by its characters' numbers, since two can look alike."""
    return repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})"


def _normalised(name: str) -> str:
    """A path in the normal form NFC with single slashes, as it is relative to the root."""
    parts = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _stem(normal: str) -> str:
    """A path in small letters, without a video's extension."""
    folded = normal.casefold()
    stem, dot, extension = folded.rpartition(".")
    return stem if dot + extension in EXTENSIONS else folded


def _index(videos: Sequence[str], key: Callable[[str], str]) -> Index:
    index: Index = defaultdict(list)
    for path in videos:
        index[key(path)].append(path)
    return index


def _one(index: Index, key: str, name: str, where: str) -> str | None:
    """The only video under a key.

    Raises:
        UserError: there are several.
    """
    found = index.get(key, ())
    if len(found) > 1:
        several = " and ".join(shown(path) for path in found[:3])
        raise UserError(f"{where}: {shown(name)} can be {several}: write one of them exactly, or rename the file")
    return found[0] if found else None
