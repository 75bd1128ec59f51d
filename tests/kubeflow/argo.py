"""Argo's rules for a task that failed, with a clock of its own: when it is tried again, and when its pod is ended.

Written from what Argo Workflows 4.0 does with the strategy that Kubeflow's compiler makes of a task's retry policy
(limit, backoff with duration, factor and maxDuration):

- maxDuration counts from the creation of the first attempt's node: waiting for a node to run on is part of it
- after that moment, or where the wait would end after it, no further attempt begins
- an attempt after the first is ended at that moment, whatever it has done ("Step exceeded its deadline")
- the wait before attempt n is duration * factor^(n - 1), and begins when the attempt before has ended
- the pod's own timeout counts from its start on a node
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Retried = Literal["OnFailure", "OnError", "Always"]
"""OnFailure is Argo's own default, for a strategy that names none; KFP 2.17's installation sets OnError."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A retry strategy; durations in seconds."""

    limit: int
    duration: int
    factor: int
    max_duration: int
    retried: Retried = "OnFailure"

    @classmethod
    def of(cls, task: Mapping[str, Any], *, retried: Retried = "OnFailure") -> "Strategy":
        """The strategy of a compiled pipeline's task."""
        policy = task["retryPolicy"]
        return cls(
            limit=policy["maxRetryCount"],
            duration=seconds(policy["backoffDuration"]),
            factor=int(policy["backoffFactor"]),
            max_duration=seconds(policy["backoffMaxDuration"]),
            retried=retried,
        )


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What happens to an attempt if nobody ends it."""

    pending: float
    """Seconds until its pod runs on a node."""
    runs: float
    """Seconds from there until it fails, or, for a success, until it is done."""
    ends: Literal["success", "failed", "pod lost"] = "failed"
    """failed: an exit code, out of memory, evicted, its timeout; pod lost: its node went away."""
    message: str = ""
    """What Argo says of its pod."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt as it went."""

    created: float
    ran: float
    """Seconds on a node."""
    ends: Literal["success", "failed", "pod lost", "deadline"]


def attempts(strategy: Strategy, *, timeout: float, fates: Sequence[Fate], delay: float = 1.0) -> list[Attempt]:
    """The attempts of a task.

    Args:
        strategy: of its template.
        timeout: seconds that a pod may run.
        fates: of all attempts that there may be; the last one's is that of any further attempt.
        delay: seconds from an attempt's end to the controller's next look.
    """
    made: list[Attempt] = []
    now = 0.0
    while True:
        fate = fates[min(len(made), len(fates) - 1)]
        made.append(_attempt(fate, created=now, timeout=timeout, until=strategy.max_duration if made else None))
        last = made[-1]
        ended = now + fate.pending + last.ran
        wait = strategy.duration * strategy.factor ** (len(made) - 1)
        if last.ends == "success" or ended + delay > strategy.max_duration or ended + wait > strategy.max_duration:
            return made
        allowed = {"OnFailure": ("failed", "deadline"), "OnError": ("pod lost",)}
        if strategy.retried != "Always" and last.ends not in allowed[strategy.retried]:
            return made
        if len(made) > strategy.limit:
            return made
        now = max(ended + wait, ended + delay)


def _attempt(fate: Fate, *, created: float, timeout: float, until: float | None) -> Attempt:
    ran = min(fate.runs, timeout)
    ends = fate.ends if fate.runs <= timeout else "failed"
    if until is not None and created + fate.pending + ran > until:
        return Attempt(created=created, ran=max(until - created - fate.pending, 0.0), ends="deadline")
    return Attempt(created=created, ran=ran, ends=ends)


def seconds(duration: str) -> int:
    """A duration of a compiled pipeline."""
    return int(duration.removesuffix("s"))
