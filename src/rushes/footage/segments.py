"""Which segments there will be, and which split each belongs to: decided before a frame is encoded.

The plan is a function of the files, their probes, the annotations and the recipe, so that workers, kills and the order
of work change nothing.
"""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Protocol

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.labels import Annotation
from rushes.footage.rows import Segment
from rushes.footage.segment_plan import Failure, Planned, SegmentPlan
from rushes.video.probe import Probe

SHORTEST_GAP = 1.0
"""Seconds between two labelled intervals from which on the gap is a segment of its own."""
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A pinned video file."""

    path: str
    """Relative to the videos' place."""
    sha256: str
    size: int


class Probes(Protocol):
    """What each content (by its SHA-256) promises, or why it cannot be used."""

    def __getitem__(self, sha256: str, /) -> Probe | Failure: ...


def plan_segments(
    sources: Sequence[Source],
    annotations: Sequence[Annotation],
    probes: "Probes",
    config: SampleConfig,
) -> SegmentPlan:
    """Cuts every file into segments, in order of path and start, and gives each its split.

    Args:
        sources: the files.
        annotations: what is known about them.
        probes: of the files' contents.
        config: the recipe.

    Raises:
        UserError: a group is on both sides of test.
    """
    of_file: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        of_file[annotation.path].append(annotation)
    splits = _Splits(sources, of_file, config)
    plan = SegmentPlan()
    for source in sorted(sources, key=lambda s: s.path):
        known = of_file.get(source.path, [])
        probe = probes[source.sha256]
        if isinstance(probe, Failure):
            label = next((a.label for a in known if a.label), None)
            segment = _segment(source, 0.0, 0.0, 0.0, label, splits, known[0] if known else None)
            plan.append(Planned(segment=segment, limit=0.0, promised=0, fps=0.0, failure=probe))
            continue
        for planned in _segments_of(source, known, probe, splits, config):
            plan.append(planned)
    return plan


def _segments_of(
    source: Source, known: Sequence[Annotation], probe: Probe, splits: "_Splits", config: SampleConfig
) -> list[Planned]:
    rate = config.fps or probe.fps
    planned = []
    for start, end, annotation in _spans(known, probe.seconds):
        last = end >= probe.seconds - _TOLERANCE and (annotation is None or annotation.end is None)
        pieces = max(1, math.ceil((end - start) / config.segment_seconds - _TOLERANCE))
        # Pieces of equal length, on frames: no short rest at the end.
        cuts = [start + round((end - start) * n / pieces * rate) / rate for n in range(pieces)] + [end]
        for n, (begin, stop) in enumerate(pairwise(cuts)):
            open_ended = last and n == pieces - 1
            limit = begin + config.segment_seconds if open_ended else stop
            label = annotation.label if annotation else None
            planned.append(
                Planned(
                    segment=_segment(
                        source, begin, stop, limit, label, splits, annotation or (known[0] if known else None)
                    ),
                    limit=limit,
                    promised=math.floor((min(stop, probe.seconds) - begin) * rate + 0.5),
                    fps=rate,
                )
            )
    return planned


def _spans(known: Sequence[Annotation], seconds: float) -> list[tuple[float, float, Annotation | None]]:
    """(start, end, annotation) of the labelled intervals and of the gaps between them, by start."""
    if not known:
        return [(0.0, seconds, None)]
    spans: list[tuple[float, float, Annotation | None]] = []
    for a in known:
        start = a.start or 0.0
        spans.append((start, max(seconds, start) if a.end is None else a.end, a))
    spans.sort(key=lambda span: span[:2])
    covered = 0.0
    for start, end, _ in list(spans):
        if start - covered >= SHORTEST_GAP:
            spans.append((covered, start, None))
        covered = max(covered, end)
    if seconds - covered >= SHORTEST_GAP:
        spans.append((covered, seconds, None))
    return sorted(spans, key=lambda span: span[:2])


def _segment(
    source: Source,
    start: float,
    end: float,
    limit: float,
    label: str | None,
    splits: "_Splits",
    annotation: Annotation | None,
) -> Segment:
    return Segment(
        key=hashlib.sha256(f"{source.sha256}\0{start:.6f}\0{limit:.6f}".encode()).hexdigest()[:16],
        source=source.path,
        source_sha256=source.sha256,
        start=start,
        end=end,
        label=label or "",
        group=splits.group(source.path),
        split=splits.split(source.path, label=label, annotation=annotation),
    )


# Splits --------------------------------------------------------------------------------------------------------------


def group_of(path: str, annotation: Annotation | None = None) -> str:
    """The group given, the gXX of a UCF-style name (v_Class_gXX_cYY), or the file itself."""
    if annotation is not None and annotation.group:
        return annotation.group
    match = re.search(r"_(g\d+)_c\d+$", PurePosixPath(path).stem)
    return match[1] if match else path


def share_of(name: str) -> float:
    """A fixed number in [0, 1) that looks random: the hash of a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64


class _Splits:
    """Assigns groups: given splits win, the rest follows a fixed hash of the group's name."""

    def __init__(
        self, sources: Sequence[Source], of_file: Mapping[str, Sequence[Annotation]], config: SampleConfig
    ) -> None:
        self.config = config
        grouped = {path: next((a for a in known if a.group), None) for path, known in of_file.items()}
        self.groups = {s.path: group_of(s.path, grouped.get(s.path)) for s in sources}
        known = [a for s in sources for a in of_file.get(s.path, ())]
        self.val_given = any(a.split == "val" for a in known)
        self.test = {self.groups[a.path] for a in known if a.split == "test"}
        others = {self.groups[a.path] for a in known if a.split not in (None, "test")}
        if both := sorted(self.test & others):
            raise UserError(
                f"split: {_some(both)} on both sides of test: "
                "a group (a person, a scene, a recording) is all test or not at all"
            )
        if not self.test:
            labelled = {self.groups[a.path] for a in known if a.label and a.split is None}
            self.test = {group for group in labelled if share_of(f"test:{group}") < config.test_share}

    def group(self, path: str) -> str:
        return self.groups[path]

    def split(self, path: str, *, label: str | None, annotation: Annotation | None) -> str:
        group = self.groups[path]
        if group in self.test:
            return "test"
        if annotation is not None and annotation.split == "val":
            return "val"
        if not self.val_given and share_of(group) < self.config.val_share:
            return "val"
        return "train" if label else "unlabelled"


def check_coverage(rows: Iterable[tuple[str, str, str]]) -> None:
    """Every class can be learnt, something can be tested, and nothing tested is learnt.

    Args:
        rows: (label, split, group) of each segment.

    Raises:
        UserError: saying which class cannot, and what to do.
    """
    classes: set[str] = set()
    trained: set[str] = set()
    labelled_groups: set[str] = set()
    groups: dict[bool, set[str]] = {True: set(), False: set()}  # tested or not
    tested = False
    for label, split, group in rows:
        groups[split == "test"].add(group)
        if label:
            classes.add(label)
            labelled_groups.add(group)
            trained |= {label} if split == "train" else set()
            tested |= split == "test"
    divided = sorted(groups[True] & groups[False])
    assert not divided, f"groups on both sides of test: {_some(divided)}"
    if not classes:
        return
    remedy = "label more groups, lower sample.val_share and sample.test_share, or give a split column"
    if lacking := sorted(classes - trained):
        raise UserError(f"split: no training segment is left for the class {_some(lacking)}: {remedy}")
    if not tested:
        raise UserError(f"split: none of the {len(labelled_groups)} labelled groups falls to the test split: {remedy}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
