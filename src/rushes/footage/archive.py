"""Archives of videos: a folder, or any URL that fsspec reads (s3://, gs://, https://, ...).

    listing = list_archive("s3://archive/videos")
    listing.files  # the videos; `listing.notes()` says what is not among them

Listing reads no video byte: size and a stamp (modification time, or the store's ETag) show whether a file has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.footage.files import Listed, file_system, in_store, is_url, on_disk
from rushes.footage.folder import FolderWalk
from rushes.words import printable

_EXTENSIONS = (
    ".3g2 .3gp .asf .avi .dv .flv .gif .ivf .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .obu "
    ".ogg .ogv .rm .rmvb .ts .vob .webm .wmv .y4m"
)
EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Of video files."""
_EXAMPLES = 3
_GROUPS = 10  # in one note


@dataclass
class PassedOver:
    """Files that are no videos by the ending of their names."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first paths, sorted."""

    def add(self, path: str) -> None:
        """Counts a file."""
        self.count += 1
        self.examples = sorted([*self.examples, path])[:_EXAMPLES]

    def __str__(self) -> str:
        names = ", ".join(map(printable, self.examples))
        return f"{names}, ..." if self.count > len(self.examples) else names


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The videos of an archive, and what is not among them."""

    files: Sequence[Listed]
    """By path."""
    passed_over: Mapping[str, PassedOver] = field(default_factory=dict)
    """By ending, in lower case; "" for none."""
    unlisted: Mapping[str, str] = field(default_factory=dict)
    """Paths that cannot be listed, and why."""

    @property
    def paths(self) -> list[str]:
        """Of the videos."""
        return [file.path for file in self.files]

    @property
    def size(self) -> int:
        """Bytes of the videos."""
        return sum(file.size for file in self.files)

    def notes(self) -> list[str]:
        """What is not among the videos, in at most two lines."""
        groups = sorted(self.passed_over.items(), key=lambda group: (-group[1].count, group[0]))
        passed = [f"{files.count:,} {ending or 'without ending'} ({files})" for ending, files in groups]
        unlisted = [f"{printable(path)} ({why})" for path, why in sorted(self.unlisted.items())]
        notes = {"passed over by the ending of the name": passed, "not listed": unlisted}
        return [f"{head}: {_first(texts)}" for head, texts in notes.items() if texts]

    def record(self) -> dict[str, Any]:
        """For a manifest's summary: counts by ending, and the first paths that are not listed."""
        unlisted = sorted(self.unlisted.items())[:_GROUPS]
        return {
            "passed_over": {ending: files.count for ending, files in sorted(self.passed_over.items())},
            "unlisted": len(self.unlisted),
            "unlisted_paths": [list(pair) for pair in unlisted],
        }


def list_archive(root: str) -> Listing:
    """Lists the video files under a folder or URL, by the ending of their names; hidden ones are skipped.

    Raises:
        UserError: it cannot be listed, or holds no video.
    """
    found, unlisted = _in_url(root) if is_url(root) else _in_folder(Path(root))
    files, passed_over = list[Listed](), dict[str, PassedOver]()
    for file in found:
        ending = Path(file.path).suffix.lower()
        if ending in EXTENSIONS:
            files.append(file)
        elif file.path != "labels.csv":  # the archive's own table
            passed_over.setdefault(ending, PassedOver()).add(file.path)
    listing = Listing(files=sorted(files, key=lambda file: file.path), passed_over=passed_over, unlisted=unlisted)
    if not files:
        more = "".join(f"; {note}" for note in listing.notes())
        raise UserError(f"videos: no video file in {root!r} (looked for {' '.join(sorted(EXTENSIONS))}){more}")
    if odd := [path for path in listing.paths if not _is_text(path)]:
        raise UserError(f"videos: {len(odd)} file names are not UTF-8, such as {odd[0]!a}: rename the files")
    return listing


Found = tuple[Iterator[Listed], dict[str, str]]


def _in_folder(root: Path) -> Found:
    if not root.is_dir():
        raise UserError(f"videos: {str(root)!r} is not a folder: give the folder that holds the video files")
    walk = FolderWalk(root)
    return (on_disk(path, found) for path, found in walk.files), walk.unlisted


def _in_url(root: str) -> Found:
    unlisted: dict[str, str] = {}
    try:
        filesystem, base = file_system(root)
        protocol = filesystem.protocol
        if "file" in (protocol if isinstance(protocol, tuple) else (protocol,)):
            return _in_folder(Path(base))
        entries = _entries(filesystem, base, unlisted)
    except UserError:
        raise
    except Exception as error:  # each protocol has its own
        raise UserError(
            f"videos: {root!r} cannot be listed ({error}): check the address and the credentials"
        ) from error
    found = []
    for name, entry in entries.items():
        path = name.removeprefix(base).lstrip("/")
        if not path or any(part.startswith(".") for part in path.split("/")):
            continue
        if entry.get("type", "file") != "file":
            unlisted[path] = f"{entry['type']}, not a file"
            continue
        try:
            found.append(in_store(path, entry))
        except OSError as error:
            raise UserError(f"videos: {root!r}: {path!r} ({error}): use a store that lists sizes") from error
    return iter(found), unlisted


def _entries(filesystem: Any, base: str, unlisted: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Everything but folders, by its whole name: by the store's own search, or folder by folder.

    fsspec's general search passes over folders that it cannot list.
    """
    if _searches(filesystem):
        found: dict[str, dict[str, Any]] = filesystem.find(base, detail=True)
        return found
    found, pending = {}, [base]
    while pending:
        folder = pending.pop()
        try:
            entries = filesystem.ls(folder, detail=True)
        except OSError as error:
            if folder == base:
                raise
            unlisted[folder.removeprefix(base).lstrip("/")] = str(error.strerror or error)
            continue
        for entry in entries:
            name = entry["name"].rstrip("/")
            if entry["type"] != "directory":
                found[name] = entry
            elif name != folder.rstrip("/") and not name.rsplit("/", 1)[-1].startswith("."):
                pending.append(name)
    return found


def _searches(filesystem: Any) -> bool:
    """Whether a file system lists all of a folder at once, as object stores do."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    if isinstance(filesystem, AsyncFileSystem):
        return type(filesystem)._find is not AsyncFileSystem._find
    return type(filesystem).find is not AbstractFileSystem.find


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _GROUPS:,} more" if len(texts) > _GROUPS else ""
    return ", ".join(texts[:_GROUPS]) + more
