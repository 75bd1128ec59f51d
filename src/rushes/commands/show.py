"""`rushes footage show`: what videos, or footage, look like: a table here, and a page with a contact sheet.

    show(DataReference(videos="my_videos"), out=Path("footage"))

Of a folder or URL a part is sampled into a store that is removed again; of footage everything is shown.
"""

import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader
from rich.table import Table
from rich.text import Text

from rushes.commands.contact import Cell, contact_sheet, evenly
from rushes.commands.peek import is_pointer, peek
from rushes.config import SampleConfig
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.footage.catalogue import INDEX
from rushes.footage.columns import plain
from rushes.footage.index import read_index
from rushes.footage.probes import PROBES
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.footage.rows import MOTION_QUANTILES, QUARANTINED, SAMPLED
from rushes.home import open_store
from rushes.progress import EventLog, Progress
from rushes.store import Manifest
from rushes.video.content import near_duplicates

PAGE, SHEET = "index.html", "contact-sheet.png"
_CONFIG = SampleConfig(segment_seconds=8, short_side=128, shard_segments=4, decode_seconds=20)
_FILES, _SEGMENTS, _SECONDS = 300, 48, 40.0  # of a folder or URL
_CELLS = 48
_COMPARED = 10_000  # segments compared with each other: a second
_LISTED = 100  # rows of a table on the page
_MEDIAN = MOTION_QUANTILES.index(0.5)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LENGTHS = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, np.inf)
_MOTIONS = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, np.inf)

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Count = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was looked at."""

    title: str
    files: str
    """How many there are, and how many were opened."""
    part: str
    """How much of them was sampled."""
    footage: Footage
    index: pa.Table
    probes: pa.Table
    classes: Mapping[str, int]
    counted: str
    """What the classes' counts count."""
    following: Sequence[str]
    """What to do next; lines."""


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two segments of the same footage, by their place in the index's sampled rows."""

    first: int
    second: int
    distance: int
    """Bits of 128 that differ in their fingerprints."""
    across_files: bool
    across_test: bool
    """Whether one is in the test split and the other is not."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the table and the page say; texts are printable, not yet escaped."""

    seconds: float
    """Sampled."""
    frames: int
    promised: float
    """Seconds that the opened files say they hold."""
    codecs: Sequence[Count]
    shapes: str
    """From which picture size and frame rate to which."""
    lengths: Sequence[Count]
    motion: Sequence[tuple[int, float]]
    """(percent of the segments, median motion that so many do not exceed)."""
    motions: Sequence[Count]
    cuts: int
    cut_most: Sequence[tuple[str, str, int]]
    """(file, time of the segment, its cuts)."""
    reasons: Sequence[Count]
    quarantine: Sequence[tuple[str, str, str]]
    """(file and time, reason, sentence)."""
    twins: Sequence[tuple[str, str, int, bool]]
    """(segment, segment, bits that differ, across test)."""
    twins_total: int
    twins_across_files: int
    twins_across_test: int
    compared: int
    classes: Sequence[Count]


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
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {str(out)!r} is a file: give a folder for the page and its picture")
    with tempfile.TemporaryDirectory(prefix="rushes-show-") as folder:
        scratch = Path(folder)
        with watching(scratch / "progress.jsonl"):
            progress = EventLog(scratch / "progress.jsonl", step="show")
            made = is_pointer(data.videos)
            seen = _footage(data.videos) if made else _peek(data, scratch=scratch, progress=progress)
            facts = find_facts(seen)
            out.mkdir(parents=True, exist_ok=True)
            size = contact_sheet(_cells(seen, progress), out / SHEET)
            _write_page(out / PAGE, seen, facts, size)
    _print(seen, facts, out)
    return 0


# What to look at -----------------------------------------------------------------------------------------------------


def _footage(target: str) -> Seen:
    """All of the footage that a pointer names."""
    manifest, store = Manifest.read(Path(target), kind="footage"), open_store()
    index, _ = read_index(store.checked(manifest.files[INDEX]))
    sampled = index.filter(pc.equal(index["status"], SAMPLED))
    if not len(sampled):
        raise UserError(f"{target}: none of its segments is in use: nothing to show")
    files, used = pc.count_distinct(index["source"]).as_py(), pc.count_distinct(sampled["source"]).as_py()
    classes = Counter(label for label in sampled["label"].to_pylist() if label)
    command = f"rushes pretrain pace-r2plus1d --size cpu --footage {shlex.quote(target)} --out backbone.json"
    return Seen(
        title=f"Footage {manifest.ref}",
        files=f"{files:,}, of which {used:,} are used",
        part=f"{counted(len(sampled), 'segment')}, {_gigabytes(pc.sum(sampled['length']).as_py() or 0)} as footage",
        footage=Footage(manifest, store),
        index=index,
        probes=pq.read_table(store.checked(manifest.files[PROBES])),
        classes=classes,
        counted="segments",
        following=[command],
    )


def _peek(data: DataReference, *, scratch: Path, progress: Progress) -> Seen:
    """Some segments of some files, sampled into a store under `scratch`."""
    peeked = peek(
        data,
        config=_CONFIG,
        files=_FILES,
        segments=_SEGMENTS,
        seconds=_SECONDS,
        scratch=scratch,
        progress=progress,
    )
    manifest, store, listed, chosen = peeked.manifest, peeked.store, peeked.listed, peeked.chosen
    index, _ = read_index(store.checked(manifest.files[INDEX]))
    sampled = index.filter(pc.equal(index["status"], SAMPLED))
    opened = f", of which a random {len(chosen):,} were opened" if len(chosen) < len(listed) else ""
    used = pc.count_distinct(sampled["source"]).as_py()
    classes = Counter(annotation.label for annotation in peeked.annotations if annotation.label)
    return Seen(
        title=data.videos,
        files=f"{len(listed):,}, {_gigabytes(sum(file.size for file in listed))}{opened}",
        part=f"{counted(len(sampled), 'segment')} of up to {_CONFIG.segment_seconds:g} s from {counted(used, 'file')}",
        footage=Footage(manifest, store),
        index=index,
        probes=pq.read_table(store.checked(manifest.files[PROBES])),
        classes=classes,
        counted=f"videos or intervals, by {peeked.known_from}",
        following=_following(data, labelled=bool(classes)),
    )


def _following(data: DataReference, *, labelled: bool) -> list[str]:
    words = ["rushes", "run", "pace-r2plus1d", "--size", "cpu", "--videos", data.videos, *data.flags()]
    if labelled:
        return [shlex.join(words)]
    words += ["--labels", "labels.csv"]
    return [
        "no labels found. A classifier needs some, of two classes or more: write a labels.csv with the columns",
        "path,label (and start,end in seconds for intervals), or put the videos of each class into a folder; then",
        shlex.join(words),
    ]


# What there is to say ------------------------------------------------------------------------------------------------


def find_facts(seen: Seen) -> Facts:
    """Works out what the table and the page say."""
    sampled = seen.index.filter(pc.equal(seen.index["status"], SAMPLED))
    bad = seen.index.filter(pc.equal(seen.index["status"], QUARANTINED))
    segments = seen.footage.segments
    medians = seen.footage.motion_quantiles()[:, _MEDIAN].astype(np.float64)
    seconds = plain(seen.probes["seconds"].drop_null())
    cuts = plain(pc.list_value_length(sampled["cuts"]))
    twins, compared = find_twins(sampled)
    places = [_place(source, start) for source, start in _pairs(sampled)]
    most = [row for row in np.argsort(-cuts, kind="stable")[:10].tolist() if cuts[row]]
    return Facts(
        seconds=float((segments.frames / segments.fps).sum()),
        frames=int(segments.frames.sum()),
        promised=float(seconds.sum()),
        codecs=_codecs(seen.probes),
        shapes=_shapes(seen.probes),
        lengths=histogram(seconds, _LENGTHS, _duration),
        motion=[(round(100 * share), float(np.quantile(medians, share))) for share in _SHARES],
        motions=histogram(medians, _MOTIONS, lambda edge: f"{edge:g}"),
        cuts=int(cuts.sum()),
        cut_most=[(*places[row], int(cuts[row])) for row in most],
        reasons=Counter(bad["reason"].to_pylist()).most_common(),
        quarantine=[
            (" ".join(_place(source, start)), reason, printable(message.removeprefix(f"{source}: ")))
            for (source, start), reason, message in zip(
                _pairs(bad), bad["reason"].to_pylist(), bad["message"].to_pylist(), strict=True
            )
        ],
        twins=[
            (" ".join(places[t.first]), " ".join(places[t.second]), t.distance, t.across_test) for t in twins[:_LISTED]
        ],
        twins_total=len(twins),
        twins_across_files=sum(t.across_files for t in twins),
        twins_across_test=sum(t.across_test for t in twins),
        compared=compared,
        classes=[(printable(label), count) for label, count in sorted(seen.classes.items())],
    )


def find_twins(sampled: pa.Table) -> tuple[list[Twins], int]:
    """Pairs of segments with the same or nearly the same pictures, whatever their split.

    Args:
        sampled: rows of the index that have footage; of more than 10,000, so many are compared, spread evenly.

    Returns:
        The pairs: those across the test split first, then those of two files, then the nearest; and how many segments
        were compared.
    """
    rows = np.unique(np.linspace(0, len(sampled) - 1, min(len(sampled), _COMPARED)).astype(np.int64))
    prints = plain(sampled["fingerprint"])
    source, split = sampled["source"].to_pylist(), sampled["split"].to_pylist()
    found = []
    for a, b in near_duplicates(prints[rows], prints[rows]):
        if a < b:
            first, second = int(rows[a]), int(rows[b])
            found.append(
                Twins(
                    first=first,
                    second=second,
                    distance=int(np.bitwise_count(prints[first] ^ prints[second]).sum()),
                    across_files=source[first] != source[second],
                    across_test=(split[first] == "test") != (split[second] == "test"),
                )
            )
    return sorted(found, key=lambda t: (not t.across_test, not t.across_files, t.distance)), len(rows)


def histogram(values: Doubles, edges: Sequence[float], name: Callable[[float], str]) -> list[Count]:
    """Counts of values from one edge to below the next, from the first that holds any to the last that does."""
    counts = np.histogram(values, edges)[0]
    filled = np.flatnonzero(counts)
    if not len(filled):
        return []
    return [
        (
            f"{name(edges[n])} or more" if np.isinf(edges[n + 1]) else f"{name(edges[n])} to {name(edges[n + 1])}",
            int(counts[n]),
        )
        for n in range(filled[0], filled[-1] + 1)
    ]


def _codecs(probes: pa.Table) -> list[Count]:
    return Counter(probes["codec"].drop_null().to_pylist()).most_common()


def _shapes(probes: pa.Table) -> str:
    """Smallest to largest picture, slowest to fastest."""
    sizes = zip(probes["width"].drop_null().to_pylist(), probes["height"].drop_null().to_pylist(), strict=True)
    pictures = [f"{width}x{height}" for width, height in sorted(sizes, key=lambda size: size[0] * size[1])]
    rates = [f"{fps:.4g}" for fps in sorted(probes["fps"].drop_null().to_pylist())]
    return f"{_range(pictures)} pixels, {_range(rates)} fps"


def _range(ascending: Sequence[str]) -> str:
    first, last = ascending[0], ascending[-1]
    return first if first == last else f"{first} to {last}"


def _pairs(table: pa.Table) -> list[tuple[str, float]]:
    return list(zip(table["source"].to_pylist(), table["start"].to_pylist(), strict=True))


def _place(source: str, start: float) -> tuple[str, str]:
    return printable(source), clock(start)


# The picture and the page --------------------------------------------------------------------------------------------


def _cells(seen: Seen, progress: Progress) -> list[Cell]:
    """Up to 48 segments, from the one with most motion to the one with least; of more, spread evenly over that."""
    footage = seen.footage
    medians = footage.motion_quantiles()[:, _MEDIAN]
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


def _write_page(path: Path, seen: Seen, facts: Facts, size: tuple[int, int]) -> None:
    environment = Environment(
        loader=PackageLoader("rushes.commands"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": _duration, "printable": printable}
    page = environment.get_template("footage.html").render(
        **vars(facts), seen=seen, sheet=SHEET, size=size, cells=min(_CELLS, len(seen.footage.segments)), listed=_LISTED
    )
    path.write_text(page, encoding="utf-8")


# The terminal --------------------------------------------------------------------------------------------------------


def _print(seen: Seen, facts: Facts, out: Path) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for name, text in _rows(seen, facts):
        table.add_row(name, Text(text))
    console.print()
    console.print(printable(seen.title), style="bold", markup=False)
    console.print(table)
    console.print(f"\nPage: {out / PAGE}", markup=False, soft_wrap=True)
    if facts.twins_across_test:
        console.print(
            "Duplicates across the test split make `rushes run` refuse: name what belongs together in a column group "
            "of labels.csv, or pass --sample.duplicates drop",
            markup=False,
            soft_wrap=True,
            style="yellow",
        )
    for number, line in enumerate(seen.following):
        console.print(f"{'Next: ' if number == 0 else '      '}{printable(line)}", markup=False, soft_wrap=True)


def _rows(seen: Seen, facts: Facts) -> Iterator[tuple[str, str]]:
    yield "files", seen.files
    yield "length", f"{_duration(facts.promised)} in the files opened"
    yield "formats", f"{_some(facts.codecs, 6)}; {facts.shapes}"
    yield "looked at", f"{seen.part}: {_duration(facts.seconds)}, {counted(facts.frames, 'frame')}"
    below = ", ".join(f"{share} % below {value:.2g}" for share, value in facts.motion)
    yield "motion", f"of the segments {below} (pixels a frame at short side {seen.footage.short_side})"
    yield "cuts", _cuts(facts)
    yield "unusable", _some(facts.reasons, 6) if facts.reasons else "nothing"
    yield "duplicates", _twins_text(facts)
    yield "classes", f"{len(facts.classes)}: {_some(facts.classes, 8)} ({seen.counted})" if facts.classes else "none"


def _cuts(facts: Facts) -> str:
    if not facts.cuts:
        return "none"
    return f"{facts.cuts:,}, {60 * facts.cuts / facts.seconds:.2g} a minute"


def _twins_text(facts: Facts) -> str:
    if not facts.twins_total:
        return f"none among {counted(facts.compared, 'segment')}"
    across = f", {facts.twins_across_test:,} across the test split" if facts.twins_across_test else ""
    return (
        f"{counted(facts.twins_total, 'pair')} among {counted(facts.compared, 'segment')}, "
        f"{facts.twins_across_files:,} of different files{across}"
    )


def _some(counts: Sequence[Count], limit: int) -> str:
    more = f" and {len(counts) - limit:,} more" if len(counts) > limit else ""
    return ", ".join(f"{name} ({count:,})" for name, count in counts[:limit]) + more


# Words ---------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    r"""Text of unknown origin on one line: control and direction characters, and bytes that are no text, as \x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """`1 file`, `1,200 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:,.4g} h"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
