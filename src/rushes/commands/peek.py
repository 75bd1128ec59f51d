"""A part of a folder of videos as footage, for a first look: sampled into a store that is thrown away.

peeked = peek("my_videos", config=Sample(segment_seconds=8), segments=48, seconds=40.0, scratch=scratch)
footage = Footage(peeked.manifest, peeked.store)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.archive import Listed, is_url, list_archive
from rushes.footage.catalogue import INDEX, PROBES, SHARDS
from rushes.footage.labels import EXTENSIONS, LABELS_FILE, Annotation, class_folders, read_annotations
from rushes.footage.sample import Archive, peek_footage
from rushes.footage.segments import Source, share_of
from rushes.progress import Progress
from rushes.store import Manifest, Store


@dataclass(frozen=True, kw_only=True)
class Peeked:
    """Footage of a part of the videos, and what it is a part of."""

    manifest: Manifest
    store: Store
    listed: Sequence[Listed]
    """All files."""
    chosen: Sequence[Listed]
    """Those that were opened."""
    annotations: Sequence[Annotation]
    """Of all files."""
    known_from: str
    """Where the annotations are from; empty without any."""


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
    target: str,
    *,
    config: SampleConfig,
    segments: int,
    seconds: float,
    scratch: Path,
    progress: Progress,
    files: int = 300,
    labels: str = "",
    splits: str = "",
    fold: int = 1,
) -> Peeked:
    """Samples some segments of some files.

    Args:
        target: a folder of videos or an fsspec URL.
        config: how they are sampled.
        segments: at most so many.
        seconds: after these no further shard is waited for.
        scratch: folder for the store; whoever made it removes it.
        progress: where to report to.
        files: at most so many are opened.
        labels: CSV or Parquet of labels; empty to look for `labels.csv` in the folder, then for class folders.
        splits: folder of official split files.
        fold: number of the split, from 1.

    Raises:
        UserError: no video there, none that decodes, or labels that cannot be read.
    """
    root = target.rstrip("/") if is_url(target) else str(Path(target).absolute())
    listed = list_archive(root)
    annotations, known_from = known_annotations(root, listed, labels=labels, splits=splits, fold=fold)
    chosen = sorted(listed, key=lambda file: share_of(file.path))[:files]
    paths = {file.path for file in chosen}
    archive = Archive(
        root=root,
        sources=[Source(path=file.path, sha256=_identity(file), size=file.size) for file in chosen],
        annotations=[annotation for annotation in annotations if annotation.path in paths],
    )
    manifest, store = sample_part(
        archive, config=config, segments=segments, seconds=seconds, scratch=scratch, progress=progress
    )
    return Peeked(
        manifest=manifest, store=store, listed=listed, chosen=chosen, annotations=annotations, known_from=known_from
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
    root: str, listed: Sequence[Listed], *, labels: str, splits: str, fold: int
) -> tuple[list[Annotation], str]:
    """Labels as `pin` reads them, and where from; but one class folder alone is none, since a first look needs none."""
    paths = [file.path for file in listed]
    place = None if is_url(root) else Path(root)
    given = labels or splits or (LABELS_FILE if place and (place / LABELS_FILE).is_file() else "")
    if not given and len({annotation.label for annotation in class_folders(paths)}) < 2:
        return [], ""
    found = read_annotations(
        place, paths, labels=Path(labels) if labels else None, splits=Path(splits) if splits else None, fold=fold
    )
    return found, given or "the name of their folder"


def _identity(file: Listed) -> str:
    # Stands for the SHA-256 of the content, for this look only: reading every byte of an archive takes too long.
    return hashlib.sha256(f"{file.path}\0{file.size}\0{file.stamp}".encode()).hexdigest()
