"""Probing video files, in a worker process."""

from collections.abc import Mapping
from dataclasses import dataclass

from rushes.config import SampleConfig
from rushes.footage.segment_plan import Failure
from rushes.footage.sources import limits_of, located, relative_message
from rushes.video.guard import GRACE, deadline
from rushes.video.probe import Probe, probe
from rushes.video.source import VideoError


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Files to probe in one go: content's SHA-256 to a path that holds it."""

    root: str
    paths: Mapping[str, str]
    config: SampleConfig


def probe_sources(task: ProbeTask) -> dict[str, Probe | Failure]:
    """Probes each file; by its content's SHA-256."""
    found: dict[str, Probe | Failure] = {}
    limits = limits_of(task.config)
    for sha256, path in task.paths.items():
        deadline(limits.decode_seconds + GRACE)
        try:
            found[sha256] = probe(located(task.root, path), limits=limits)
        except VideoError as error:
            found[sha256] = Failure(reason=error.reason, message=relative_message(error, task.root))
    deadline(0)
    return found
