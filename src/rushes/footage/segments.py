"""Which segments there will be, decided before a frame is encoded.

The plan is a function of the files, their probes, the annotations and the recipe, so that workers, kills and the order
of work change nothing.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from rushes.config import SampleConfig
from rushes.footage.annotation import Annotation
from rushes.footage.keys import segment_key
from rushes.footage.rows import Segment
from rushes.footage.segment_plan import Failure, Planned, SegmentPlan
from rushes.footage.sources import Source
from rushes.footage.splits import Splits
from rushes.video.probe import Probe

_SHORTEST_GAP = 1.0  # seconds between two labelled intervals; a gap that is not shorter becomes an unlabelled segment
_TOLERANCE = 1e-6


class Probes(Protocol):
    """The probe of each content, by its SHA-256, or why it cannot be used."""

    def __getitem__(self, sha256: str, /) -> Probe | Failure: ...


def plan_segments(
    sources: Sequence[Source], annotations: Sequence[Annotation], probes: Probes, config: SampleConfig
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
    by_path: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_path[annotation.path].append(annotation)
    splits = Splits([source.path for source in sources], by_path, config)
    plan = SegmentPlan()
    for source in sorted(sources, key=lambda s: s.path):
        known = by_path.get(source.path, [])
        probe = probes[source.sha256]
        if isinstance(probe, Failure):
            plan.append(_unusable(source, known, probe, splits))
            continue
        for planned in _segments_of(source, known, probe, splits, config):
            plan.append(planned)
    return plan


def _unusable(source: Source, known: Sequence[Annotation], failure: Failure, splits: Splits) -> Planned:
    """One row for the whole file, for the index to say why it is not used."""
    label = next((a.label for a in known if a.label), None)
    segment = _segment(
        source, 0.0, 0.0, segment_key(source.sha256, 0.0, 0.0), label, splits, known[0] if known else None
    )
    return Planned(segment=segment, limit=0.0, expected=0, fps=0.0, failure=failure)


def _segments_of(
    source: Source, known: Sequence[Annotation], probe: Probe, splits: Splits, config: SampleConfig
) -> list[Planned]:
    rate = config.fps or probe.fps
    planned = []
    for start, end, annotation in _spans(known, _first_slot(probe, rate), probe.end):
        last = end >= probe.end - _TOLERANCE and (annotation is None or annotation.end is None)
        pieces = max(1, math.ceil((end - start) / config.segment_seconds - _TOLERANCE))
        # Pieces of equal length that end on frames: no short rest at the end.
        cuts = [start + round((end - start) * n / pieces * rate) / rate for n in range(pieces)] + [end]
        label = annotation.label if annotation else None
        given = annotation or (known[0] if known else None)
        for n, (begin, stop) in enumerate(pairwise(cuts)):
            open_ended = last and n == pieces - 1
            limit = begin + config.segment_seconds if open_ended else stop
            key = segment_key(source.sha256, begin, limit, moved=probe.moved)
            planned.append(
                Planned(
                    segment=_segment(source, begin, stop, key, label, splits, given),
                    limit=limit,
                    expected=math.floor((min(stop, probe.end) - begin) * rate + 0.5),
                    fps=rate,
                )
            )
    return planned


def _first_slot(probe: Probe, rate: float) -> float:
    """Second of the first frame, at a constant rate of frames."""
    return math.floor(probe.start * rate + 0.5) / rate


def _spans(known: Sequence[Annotation], begin: float, finish: float) -> list[tuple[float, float, Annotation | None]]:
    """(start, end, annotation) of the labelled intervals and of the gaps between them, by start.

    Args:
        known: annotations of the file.
        begin: second at which its film begins; an interval that begins earlier is cut to it.
        finish: second at which its film ends.
    """
    if not known:
        return [(begin, finish, None)]
    spans: list[tuple[float, float, Annotation | None]] = []
    for a in known:
        start = a.start or 0.0
        if a.end is None or a.end > begin:
            start = max(start, begin)
        spans.append((start, max(finish, start) if a.end is None else a.end, a))
    spans.sort(key=lambda span: span[:2])
    covered = begin
    for start, end, _ in list(spans):
        if start - covered >= _SHORTEST_GAP:
            spans.append((covered, start, None))
        covered = max(covered, end)
    if finish - covered >= _SHORTEST_GAP:
        spans.append((covered, finish, None))
    return sorted(spans, key=lambda span: span[:2])


def _segment(
    source: Source,
    start: float,
    end: float,
    key: str,
    label: str | None,
    splits: Splits,
    annotation: Annotation | None,
) -> Segment:
    return Segment(
        key=key,
        source=source.path,
        source_sha256=source.sha256,
        start=start,
        end=end,
        label=label or "",
        group=splits.group(source.path),
        split=splits.split(source.path, label=label, annotation=annotation),
    )
