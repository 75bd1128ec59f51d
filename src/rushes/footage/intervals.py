"""Labelled intervals against the lengths of their files: whether they can be seconds at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.segment_plan import Failure
from rushes.footage.segments import Probes
from rushes.footage.sources import Source
from rushes.video.probe import Probe

_LONG = 2.0
"""An interval that ends after this multiple of its file's length, and as many seconds, is not merely rounded."""


@dataclass(frozen=True, kw_only=True)
class _Interval:
    path: str
    start: float
    end: float | None
    file: Probe

    @property
    def begins_after(self) -> bool:
        return self.start >= self.file.seconds

    @property
    def ends_long_after(self) -> bool:
        return self.end is not None and self.end >= _LONG * (self.file.seconds + 1)

    def fits(self, scale: float) -> bool:
        """Whether it lies in its file, once its times are divided."""
        within = self.file.seconds * 1.05 + 0.1
        return self.start / scale < self.file.seconds and (self.end or 0.0) / scale <= within


def check_intervals(annotations: Sequence[Annotation], sources: Sequence[Source], probes: Probes) -> None:
    """Checks that most intervals lie in their files: the others are quarantined, one by one, as they are decoded.

    Args:
        annotations: of the files.
        sources: the files.
        probes: of their contents.

    Raises:
        UserError: half of the intervals or more do not; says whether they would as milliseconds or as frame numbers.
    """
    contents = {source.path: source.sha256 for source in sources}
    intervals = [found for a in annotations if (found := _interval(a, contents, probes)) is not None]
    after = [interval for interval in intervals if interval.begins_after]
    long = [interval for interval in intervals if interval.ends_long_after]
    amiss = [interval for interval in intervals if interval.begins_after or interval.ends_long_after]
    if not amiss or 2 * len(amiss) < len(intervals):
        return
    counts = [(len(after), "begin after their files' end"), (len(long), "end long after their files' end")]
    said = ", ".join(f"the intervals of {count} rows {what}" for count, what in counts if count)
    first = amiss[0]
    span = f"{first.start:g}" if first.end is None else f"{first.start:g} to {first.end:g}"
    raise UserError(
        f"labels: {said}, of {len(intervals)} in all ({first.path!r}: {span}, and the file ends at "
        f"{first.file.seconds:.3g} s): start and end are seconds from the file's start{_unit(intervals)}"
    )


def _interval(annotation: Annotation, contents: Mapping[str, str], probes: Probes) -> _Interval | None:
    """The interval of a file that can be read; None for a whole file."""
    sha256 = contents.get(annotation.path)
    if sha256 is None or (annotation.start is None and annotation.end is None):
        return None
    probe = probes[sha256]
    if isinstance(probe, Failure) or not probe.seconds > 0:
        return None
    return _Interval(path=annotation.path, start=annotation.start or 0.0, end=annotation.end, file=probe)


def _unit(intervals: Sequence[_Interval]) -> str:
    """The end of the error: the unit in which all of them fit."""
    whole = all(float(time or 0.0).is_integer() for interval in intervals for time in (interval.start, interval.end))
    if whole and all(interval.fits(interval.file.fps) for interval in intervals):
        return "; as frame numbers all of them fit: divide them by the frame rate"
    if all(interval.fits(1000.0) for interval in intervals):
        return "; as milliseconds all of them fit: divide them by 1000"
    return ""
