"""What is known about a video: the row that `pin` writes for each file, or each interval of one."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """The label, group and split of a file, or of an interval of it."""

    path: str
    start: float | None = None
    """Seconds; None means the file's beginning."""
    end: float | None = None
    """Seconds, exclusive; None means the file's end."""
    label: str | None = None
    """Class name; None means unlabelled."""
    group: str | None = None
    """A person, a scene or a recording: files of a group are not divided between training and test."""
    split: str | None = None
    """One of unlabelled, train, val, test; None lets the group's hash decide."""
