"""`rushes footage show`: a first look at videos or at footage: a table here, and a page with a contact sheet.

    show(DataReference(videos="my_videos"), out=Path("footage"))

Of a folder or URL a part is sampled into a store that is removed again; of footage everything is shown.
"""

import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from rushes.commands.contact import Cell, contact_sheet, evenly
from rushes.commands.peek import check_folder, is_pointer, peek
from rushes.config import SampleConfig
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.extras import WHOLE, installation
from rushes.footage.catalogue import INDEX
from rushes.footage.facts import MEDIAN, Bin, Facts, Position, find_facts
from rushes.footage.index import read_index
from rushes.footage.probes import PROBES
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.footage.rows import SAMPLED
from rushes.home import open_store
from rushes.progress import EventLog, Progress
from rushes.store import Manifest, Store
from rushes.templates import page
from rushes.words import Count, clock, counted, duration, enumerated, file_size, printable

PAGE, SHEET = "index.html", "contact-sheet.png"
_CONFIG = SampleConfig(segment_seconds=8, short_side=128, shard_segments=4, decode_seconds=20)
_FILES, _SEGMENTS, _SECONDS = 300, 48, 40.0  # of a folder or URL
_CELLS = 48
_LISTED = 100  # rows of a table on the page


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is shown."""

    title: str
    files: str
    """How many files there are, and how many were opened."""
    part: str
    """How much of them was sampled."""
    footage: Footage
    index: pa.Table
    probes: pa.Table
    classes: Mapping[str, int]
    counted: str
    """What the numbers of the classes count."""
    following: Sequence[str]
    """What to do next; lines."""
    notes: Sequence[str] = ()
    """What is not among the files."""


def show(data: DataReference, *, out: Path) -> int:
    """Prints a table and writes `index.html` and `contact-sheet.png` into `out`.

    Args:
        data: videos, of which a part is sampled; or, as its `videos`, the pointer of footage.
        out: folder for the page.

    Returns:
        0.

    Raises:
        UserError: no video there, none that decodes, labels that cannot be read, or no such pointer.
    """
    check_folder(out)
    with tempfile.TemporaryDirectory(prefix="rushes-show-") as folder:
        scratch = Path(folder)
        with watching(scratch / "progress.jsonl"):
            progress = EventLog(scratch / "progress.jsonl", step="show")
            made = is_pointer(data.videos)
            subject = _whole(data.videos) if made else _part(data, scratch=scratch, progress=progress)
            facts = find_facts(subject.footage, index=subject.index, probes=subject.probes)
            out.mkdir(parents=True, exist_ok=True)
            size = contact_sheet(_cells(subject.footage, progress), out / SHEET)
            (out / PAGE).write_text(_page(subject, facts, size), encoding="utf-8")
    _print(subject, facts, out)
    return 0


# What is shown -------------------------------------------------------------------------------------------------------


def _whole(target: str) -> Subject:
    """All of the footage that a pointer names."""
    manifest, store = Manifest.read(Path(target), kind="footage"), open_store()
    index, probes = _tables(manifest, store)
    sampled = index.filter(pc.equal(index["status"], SAMPLED))
    if not len(sampled):
        raise UserError(f"{target}: none of its segments is in use: nothing to show")
    files, used = pc.count_distinct(index["source"]).as_py(), pc.count_distinct(sampled["source"]).as_py()
    command = f"rushes pretrain pace-r2plus1d --size cpu --footage {shlex.quote(target)} --out backbone.json"
    return Subject(
        title=f"Footage {manifest.ref}",
        files=f"{files:,}, of which {used:,} are used",
        part=f"{counted(len(sampled), 'segment')}, {file_size(pc.sum(sampled['length']).as_py() or 0)} as footage",
        footage=Footage(manifest, store),
        index=index,
        probes=probes,
        classes=Counter(label for label in sampled["label"].to_pylist() if label),
        counted="segments",
        following=[*_installation("train"), command],
    )


def _part(data: DataReference, *, scratch: Path, progress: Progress) -> Subject:
    """Some segments of some files, sampled into a store under `scratch`."""
    peeked = peek(
        data, config=_CONFIG, files=_FILES, segments=_SEGMENTS, seconds=_SECONDS, scratch=scratch, progress=progress
    )
    index, probes = _tables(peeked.manifest, peeked.store)
    sampled = index.filter(pc.equal(index["status"], SAMPLED))
    used = pc.count_distinct(sampled["source"]).as_py()
    all_files, opened = len(peeked.listing.files), len(peeked.chosen)
    some = f", of which a random {opened:,} were opened" if opened < all_files else ""
    classes = Counter(annotation.label for annotation in peeked.annotations if annotation.label)
    return Subject(
        title=data.videos,
        files=f"{all_files:,}, {file_size(peeked.listing.size)}{some}",
        part=f"{counted(len(sampled), 'segment')} of up to {_CONFIG.segment_seconds:g} s from {counted(used, 'file')}",
        footage=Footage(peeked.manifest, peeked.store),
        index=index,
        probes=probes,
        classes=classes,
        counted=f"videos or intervals, by {peeked.known_from}",
        following=_following(data, labelled=bool(classes)),
        notes=peeked.listing.notes(),
    )


def _tables(manifest: Manifest, store: Store) -> tuple[pa.Table, pa.Table]:
    """The index, and the probes of the files."""
    index, _ = read_index(store.checked(manifest.files[INDEX]))
    return index, pq.read_table(store.checked(manifest.files[PROBES]))


def _following(data: DataReference, *, labelled: bool) -> list[str]:
    command = ["rushes", "run", "pace-r2plus1d", "--size", "cpu", "--videos", data.videos, *data.flags()]
    if labelled:
        return [*_installation(*WHOLE), shlex.join(command)]
    return [
        "no labels found. A classifier needs some, of two classes or more: write a labels.csv with the columns",
        "path,label (and start,end in seconds for intervals), or put the videos of each class into a folder; then",
        *_installation(*WHOLE),
        shlex.join([*command, "--labels", "labels.csv"]),
    ]


def _installation(*extras: str) -> list[str]:
    """The command that installs what the next one needs, if it is missing."""
    return [command] if (command := installation(*extras)) else []


# The contact sheet and the page --------------------------------------------------------------------------------------


def _cells(footage: Footage, progress: Progress) -> list[Cell]:
    """Up to 48 segments, from most motion to least; of more, spread evenly over that order."""
    medians = footage.motion_quantiles()[:, MEDIAN]
    order = np.argsort(-medians, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _CELLS)).astype(np.int64))]
    sources = footage.texts("source")
    bar = progress.bar("draw", total=len(order), unit="segments")
    cells = []
    for row in order.tolist():
        _, first, _ = footage.shots([row])
        label = printable(footage.segments.label[row])
        start, motion = clock(footage.segments.start[row]), f"motion {medians[row]:.2g}"
        cells.append(
            Cell(
                frames=footage.frames(row, evenly(int(footage.segments.frames[row]))),
                profile=footage.motion(row)[0],
                cuts=first[1:].tolist(),
                name=printable(sources[row]),
                detail="   ".join(filter(None, [start, label, motion])),
            )
        )
        bar.advance()
    return cells


def _page(subject: Subject, facts: Facts, size: tuple[int, int]) -> str:
    return page(
        "rushes.commands",
        "footage.html",
        subject=subject,
        facts=facts,
        classes=_classes(subject),
        lengths=_bins(facts.lengths, unit="duration"),
        motions=_bins(facts.motions),
        formats=_formats(facts),
        sheet=SHEET,
        size=size,
        cells=min(_CELLS, len(subject.footage.segments)),
        listed=_LISTED,
        clock=clock,
        duration=duration,
        position=_position,
        printable=printable,
    )


def _bins(bins: Sequence[Bin], *, unit: str = "") -> list[Count]:
    """A histogram's bins by name."""

    def edge(value: float) -> str:
        return duration(value) if unit == "duration" else f"{value:g}"

    return [
        (f"{edge(low)} or more" if np.isinf(high) else f"{edge(low)} to {edge(high)}", count)
        for low, high, count in bins
    ]


def _classes(subject: Subject) -> list[Count]:
    return [(printable(label), count) for label, count in sorted(subject.classes.items())]


def _formats(facts: Facts) -> str:
    """Smallest to largest frame, slowest to fastest rate."""
    sizes = [f"{width}x{height}" for width, height in facts.sizes]
    return f"{_range(sizes)} pixels, {_range([f'{fps:.4g}' for fps in facts.rates])} fps"


def _range(ascending: Sequence[str]) -> str:
    first, last = ascending[0], ascending[-1]
    return first if first == last else f"{first} to {last}"


def _position(position: Position) -> str:
    source, start = position
    return f"{printable(source)} {clock(start)}"


# The terminal --------------------------------------------------------------------------------------------------------


def _print(subject: Subject, facts: Facts, out: Path) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for name, text in _rows(subject, facts):
        table.add_row(name, Text(text))
    console.print()
    console.print(printable(subject.title), style="bold", markup=False)
    console.print(table)
    console.print(f"\nPage: {out / PAGE}", markup=False, soft_wrap=True)
    if facts.across_test:
        console.print(
            "Duplicates across the test split make `rushes run` refuse: name what belongs together in a column group "
            "of labels.csv, or pass --sample.duplicates drop",
            markup=False,
            soft_wrap=True,
            style="yellow",
        )
    for number, line in enumerate(subject.following):
        console.print(f"{'Next: ' if number == 0 else '      '}{printable(line)}", markup=False, soft_wrap=True)


def _rows(subject: Subject, facts: Facts) -> Iterator[tuple[str, str]]:
    classes = _classes(subject)
    yield "files", subject.files
    for note in subject.notes:
        yield "", note
    yield "length", f"{duration(facts.opened_seconds)} in the files opened"
    yield "formats", f"{enumerated(facts.codecs, 6)}; {_formats(facts)}"
    yield "looked at", f"{subject.part}: {duration(facts.seconds)}, {counted(facts.frames, 'frame')}"
    below = ", ".join(f"{percent} % below {value:.2g}" for percent, value in facts.motion)
    yield "motion", f"of the segments {below} (pixels per frame at short side {subject.footage.short_side})"
    yield "cuts", _cuts(facts)
    yield "unusable", enumerated(facts.reasons, 6) if facts.reasons else "nothing"
    yield "duplicates", _duplicates(facts)
    yield "classes", f"{len(classes)}: {enumerated(classes, 8)} ({subject.counted})" if classes else "none"


def _cuts(facts: Facts) -> str:
    return f"{facts.cuts:,}, {60 * facts.cuts / facts.seconds:.2g} per minute" if facts.cuts else "none"


def _duplicates(facts: Facts) -> str:
    compared = counted(facts.compared, "segment")
    if not facts.duplicates:
        return f"none among {compared}"
    across = f", {facts.across_test:,} across the test split" if facts.across_test else ""
    pairs = counted(len(facts.duplicates), "pair")
    return f"{pairs} among {compared}, {facts.across_files:,} of different files{across}"
