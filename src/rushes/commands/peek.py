"""A part of a folder of videos as footage, for a first look: sampled into a temporary store.

data = DataReference(videos="my_videos")
peeked = peek(data, config=SampleConfig(segment_seconds=8), segments=48, seconds=40.0, scratch=scratch)
footage = Footage(peeked.manifest, peeked.store)
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.archive import EXTENSIONS, Listing, list_archive
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.class_folders import read_folders
from rushes.footage.files import Listed, is_url
from rushes.footage.labels import table_beside
from rushes.footage.probes import PROBES
from rushes.footage.reference import DataReference
from rushes.footage.sample import Archive, peek_footage
from rushes.footage.sources import Source
from rushes.footage.splits import share_of
from rushes.progress import Progress
from rushes.store import Manifest, Store


@dataclass(frozen=True, kw_only=True)
class Peeked:
    """Footage of a part of the videos, and the list of all of them."""

    manifest: Manifest
    store: Store
    listing: Listing
    """All files, and what is not among them."""
    chosen: Sequence[Listed]
    """The files that were opened."""
    annotations: Sequence[Annotation]
    """Of all files."""
    known_from: str
    """Where the annotations come from; empty without any."""


def check_folder(out: Path) -> None:
    """Checks that `out` is a folder, or can become one.

    Raises:
        UserError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {str(out)!r} is a file: give a folder")


def is_pointer(target: str) -> bool:
    """Whether this is the pointer of footage, and not a folder or URL of videos.

    Raises:
        UserError: it is one video.
    """
    if is_url(target) or not Path(target).is_file():
        return False
    if Path(target).suffix.lower() in EXTENSIONS:
        raise UserError(f"target: {target!r} is one video: give the folder that it lies in")
    return True


def peek(
    data: DataReference,
    *,
    config: SampleConfig,
    segments: int,
    seconds: float,
    scratch: Path,
    progress: Progress,
    files: int = 300,
) -> Peeked:
    """Samples some segments of some files.

    Args:
        data: the videos and their labels.
        config: how they are sampled.
        segments: how many at most.
        seconds: stop waiting for further shards after this many seconds.
        scratch: folder for the store; the caller removes it.
        progress: where to report to.
        files: how many are opened at most.

    Raises:
        UserError: no video there, none that decodes, or labels that cannot be read.
    """
    listing = list_archive(data.root)
    annotations, known_from = known_annotations(data, listing, say=progress.say)
    chosen = sorted(listing.files, key=lambda file: share_of(file.path))[:files]
    paths = {file.path for file in chosen}
    archive = Archive(
        root=data.root,
        sources=[Source(path=file.path, sha256=_identity(file), size=file.size) for file in chosen],
        annotations=[annotation for annotation in annotations if annotation.path in paths],
        pinned=False,
    )
    manifest, store = sample_part(
        archive, config=config, segments=segments, seconds=seconds, scratch=scratch, progress=progress
    )
    return Peeked(
        manifest=manifest, store=store, listing=listing, chosen=chosen, annotations=annotations, known_from=known_from
    )


def sample_part(
    archive: Archive, *, config: SampleConfig, segments: int, seconds: float, scratch: Path, progress: Progress
) -> tuple[Manifest, Store]:
    """Samples some segments of an archive into a store under `scratch`."""
    out, store = scratch / "out", Store(str(scratch / "store"))
    out.mkdir(parents=True)
    summary = peek_footage(
        archive=archive, config=config, store=store, out=out, progress=progress, segments=segments, seconds=seconds
    )
    manifest = Manifest(
        kind="footage",
        step="sample",
        digest="peek",
        inputs={},
        config={},
        code="",
        summary=summary,
        files={name: store.put(out / name) for name in (INDEX, SHARDS, PROBES)},
    )
    return manifest, store


def known_annotations(
    data: DataReference, listing: Listing, *, say: Callable[[str], None] = lambda message: None
) -> tuple[list[Annotation], str]:
    """Labels as `pin` reads them, and where they come from; the name of a single folder is no label here."""
    paths = listing.paths
    beside = None if is_url(data.root) else table_beside(Path(data.root))
    given = data.labels or data.splits or (beside.name if beside else "")
    if not given:
        folders = read_folders(paths)
        if len({annotation.label for annotation in folders.annotations} - {None}) < 2:
            for remark in folders.remarks:
                say(remark)
            return [], ""
    return data.annotations(paths, say=say), given or "the name of their folder"


def _identity(file: Listed) -> str:
    # Stands for the SHA-256 of the content, in this temporary store only: reading a whole archive takes too long.
    return hashlib.sha256(f"{file.path}\0{file.size}\0{file.stamp}".encode()).hexdigest()
