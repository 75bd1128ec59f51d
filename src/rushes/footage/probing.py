"""Probing video files, in a worker process."""

from collections.abc import Sequence
from dataclasses import dataclass

from rushes.config import SampleConfig
from rushes.footage.pinned import check_content, check_header
from rushes.footage.segment_plan import Failure
from rushes.footage.sources import Source, limits_of, located, relative_message
from rushes.video.guard import GRACE, deadline
from rushes.video.probe import Probe, probe
from rushes.video.source import Limits, VideoError


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Files to probe in one go, each content once."""

    root: str
    files: Sequence[Source]
    config: SampleConfig
    pinned: bool = True
    """Whether the SHA-256 of the files are of their contents, and are checked."""


def probe_sources(task: ProbeTask) -> dict[str, Probe | Failure]:
    """Probes each file; by its content's SHA-256."""
    limits = limits_of(task.config)
    found = {source.sha256: _probe(source, task, limits) for source in task.files}
    deadline(0)
    return found


def _probe(source: Source, task: ProbeTask, limits: Limits) -> Probe | Failure:
    deadline(0)  # reading a file whole takes as long as it is large
    try:
        if task.pinned:
            check_header(task.root, source.path, sha256=source.sha256, size=source.size, stamp=source.stamp)
        deadline(limits.decode_seconds + GRACE)
        try:
            return probe(located(task.root, source.path), limits=limits)
        except VideoError:
            deadline(0)
            if task.pinned:  # a failure is remembered under the content, and no encoding checks it later
                check_content(task.root, source.path, sha256=source.sha256, stamp=source.stamp)
            raise
    except VideoError as error:
        return Failure(reason=error.reason, message=relative_message(error, task.root))
