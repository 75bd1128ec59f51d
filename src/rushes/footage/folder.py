"""What lies in a folder of videos, at any depth: the files, and all that cannot be listed, with the reason.

Links to folders are followed, each folder once: one that another path lists already, or that holds the link itself, is
named instead. So a listing ends whatever the links are, and no file counts twice because of them. Nothing is opened,
so that a FIFO or a device blocks nobody.
"""

import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rushes.errors import UserError

_KINDS = {
    stat.S_IFIFO: "a FIFO, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}
FileStat = tuple[str, os.stat_result]
"""A path relative to the root, with forward slashes, and its target's stat."""


@dataclass
class FolderWalk:
    """One walk through a folder.

    Attributes:
        files: ordinary files and links to them, in no order; hidden files and folders are skipped.
        unlisted: relative path and reason of what cannot be listed.
    """

    root: Path
    files: list[FileStat] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._real = os.path.realpath(self.root)
        self._seen: dict[str, str] = {}  # real path of each listed folder to the path that it is listed by
        self._links: list[str] = []
        self._list(self._real, "")
        while self._links:
            self._follow(heapq.heappop(self._links))

    def _list(self, real: str, shown: str) -> None:
        """Lists a folder and those in it."""
        pending = [(real, shown)]
        while pending:
            real, shown = pending.pop()
            if real in self._seen:
                self.unlisted[shown] = f"a folder that is listed as {self._seen[real] or '.'}"
                continue
            self._seen[real] = shown
            for entry in self._entries(real, shown):
                path = f"{shown}/{entry.name}" if shown else entry.name
                if entry.is_symlink():
                    self._link(entry, path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, path))
                else:
                    self._add(entry.path, path, shown)

    def _entries(self, real: str, shown: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(real) as entries:
                yield from (entry for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            if not shown:
                raise UserError(f"videos: {str(self.root)!r} cannot be listed ({error.strerror})") from error
            self.unlisted[shown] = str(error.strerror)

    def _link(self, entry: os.DirEntry[str], path: str) -> None:
        try:
            is_folder = stat.S_ISDIR(entry.stat().st_mode)
        except FileNotFoundError:
            self.unlisted[path] = "a link that leads nowhere"
        except OSError as error:
            self.unlisted[path] = str(error.strerror)
        else:
            if is_folder:
                heapq.heappush(self._links, path)
            else:
                self._add(entry.path, path, path)

    def _follow(self, path: str) -> None:
        """Lists the folder that a link leads to."""
        link = self.root / path
        real, beside = os.path.realpath(link), os.path.realpath(link.parent)
        if any(_holds(real, folder) for folder in (beside, self._real)):
            self.unlisted[path] = "a link to a folder that holds it"
        else:
            self._list(real, path)

    def _add(self, real: str, path: str, folder: str) -> None:
        try:
            found = Path(real).stat()
        except PermissionError as error:  # of the folder, whose files are then all alike
            self.unlisted[folder or "."] = str(error.strerror)
        except OSError as error:
            self.unlisted[path] = str(error.strerror)
        else:
            if stat.S_ISREG(found.st_mode):
                self.files.append((path, found))
            else:
                self.unlisted[path] = _KINDS.get(stat.S_IFMT(found.st_mode), "not a file")


def _holds(folder: str, path: str) -> bool:
    """Whether a path is the folder or lies in it; both real."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
