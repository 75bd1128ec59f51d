"""Archives of videos: a folder, or any URL that fsspec reads (s3://, gs://, https://, ...).

Listing reads no video byte: size and a stamp (modification time, or the store's ETag) show whether a file has changed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.errors import UserError

_EXTENSIONS = (
    ".3g2 .3gp .asf .avi .dv .flv .gif .ivf .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .obu "
    ".ogg .ogv .rm .rmvb .ts .vob .webm .wmv .y4m"
)
EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Of video files."""
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A video file as its archive lists it."""

    path: str
    """Relative to the root, with forward slashes."""
    size: int
    stamp: str
    """Changes when the file is written."""


def is_url(root: str) -> bool:
    """Whether `root` is read by fsspec rather than as a folder."""
    return "://" in root


def list_videos(root: Path) -> list[str]:
    """Relative paths of the video files under `root`, by extension, sorted; hidden files and folders are skipped.

    Raises:
        UserError: no such folder, or no video in it.
    """
    if not root.is_dir():
        raise UserError(f"videos: {str(root)!r} is not a folder: give the folder that holds the video files")
    found = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file()]
    videos = sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    if not videos:
        raise UserError(f"videos: no video file in {str(root)!r} (looked for {' '.join(sorted(EXTENSIONS))})")
    return videos


def list_archive(root: str) -> list[Listed]:
    """The video files under a folder or URL, by extension, sorted by path; hidden ones are skipped.

    Raises:
        UserError: it cannot be listed, or holds no video.
    """
    if not is_url(root):
        folder = Path(root)
        paths = list_videos(folder)
        if odd := [path for path in paths if not _is_text(path)]:
            raise UserError(f"videos: {len(odd)} file names are not UTF-8, such as {odd[0]!a}: rename the files")
        return [_on_disk(folder, path) for path in paths]
    try:
        filesystem, base = _filesystem(root)
        entries: dict[str, Any] = filesystem.find(base, detail=True)
    except Exception as error:  # each protocol has its own
        raise UserError(
            f"videos: {root!r} cannot be listed ({error}): check the address and the credentials"
        ) from error
    found = []
    for name, entry in entries.items():
        path = name.removeprefix(base).lstrip("/")
        hidden = any(part.startswith(".") for part in path.split("/"))
        if not hidden and Path(path).suffix.lower() in EXTENSIONS:
            if entry.get("size") is None:
                raise UserError(f"videos: {root!r} does not say how large {path!r} is: use a store that lists sizes")
            found.append(Listed(path=path, size=int(entry["size"]), stamp=_stamp(entry)))
    if not found:
        raise UserError(f"videos: no video file under {root!r} (looked for {' '.join(sorted(EXTENSIONS))})")
    return sorted(found, key=lambda listed: listed.path)


def content_digest(root: str, path: str) -> str:
    """SHA-256 (hex) of a file, read in blocks.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if is_url(root):
            filesystem, base = _filesystem(root)
            opened = filesystem.open(f"{base}/{path}", "rb", block_size=8 * _BLOCK)
        else:
            opened = (Path(root) / path).open("rb")
        with opened as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"videos: cannot read {root}/{path} ({why}): fix or remove the file") from error
    return digest.hexdigest()


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _filesystem(root: str) -> tuple[Any, str]:
    import fsspec

    filesystem, base = fsspec.core.url_to_fs(root, use_listings_cache=False)
    return filesystem, str(base).rstrip("/")


def _on_disk(folder: Path, path: str) -> Listed:
    try:
        stat = (folder / path).stat()
    except OSError as error:
        raise UserError(f"videos: cannot read {folder / path} ({error.strerror}): fix or remove the file") from error
    return Listed(path=path, size=stat.st_size, stamp=str(stat.st_mtime_ns))


def _stamp(entry: dict[str, Any]) -> str:
    """The store's mark of the last change of a file, "" where it keeps none: then only the size tells."""
    for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created"):
        if entry.get(name):
            return str(entry[name])
    return ""
