"""Follows a run on Kubeflow Pipelines: a line whenever a task's state changes, and at the end why it ended so."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from rushes.console import console
from rushes.errors import RushesError, ServiceError
from rushes.home import open_store
from rushes.journal import Journal
from rushes.kubeflow.cluster import Cluster, Progressing
from rushes.kubeflow.compiled import Pipeline
from rushes.kubeflow.workflow import Labels, Task, tasks_by_name
from rushes.orchestration.outcome import Outcome, outcome_of

_POLL_SECONDS = 5.0
_REFRESH_SECONDS = 60.0
"""Time after which the workflow is read again though no state has changed: a reason to wait may have."""
_PATIENCE = 600.0
"""Seconds without an answer after which a run is no longer followed."""
_WAITING_SECONDS = 600.0
"""Seconds after which a pod that does not start is reported."""
_MANY = 8
"""Iterations of a loop above which they are counted; those that failed are still named."""

_STORE_LIBRARIES = {"aiohttp", "botocore"}
"""What s3fs is made of: some of their errors are no OSError, such as that of missing keys."""


class LeftError(RushesError):
    """The command that followed a run was interrupted; the run continues."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run that was started."""

    cluster: Cluster
    run: str
    """Its ID."""
    pipeline: Pipeline
    labels: Labels


def follow(started: Started) -> None:
    """Prints a line whenever a task's state changes, until the run has ended.

    Raises:
        LeftError: Ctrl-C.
        RushesError: the run failed, or the server did not answer for too long.
    """
    watched = _Watched(started=started)
    try:
        for now in _looks(started.cluster, started.run):
            watched.look(now)
            if now.ended:
                _show_end(started, now, watched)
                return
    except KeyboardInterrupt:
        raise LeftError(f"interrupted: {_goes_on(started.cluster, started.run)}") from None


@dataclass(kw_only=True)
class _Watched:
    """What is known of a run, and what was printed of it."""

    started: Started
    tasks: tuple[Task, ...] = ()
    error: str = ""
    """Why Argo could not go on with the whole run."""
    nodes: tuple[tuple[str, str], ...] | None = None
    read: float = 0.0
    shown: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    """Since when a pod has been waiting, by its name; infinite once it was reported."""

    def look(self, now: Progressing) -> None:
        """Prints what has changed."""
        if now.nodes != self.nodes or now.ended or time.monotonic() > self.read + _REFRESH_SECONDS:
            self.nodes, self.read = now.nodes, time.monotonic()
            self.tasks = self._tasks(now)
        for name, state in _lines(self.tasks, self.started.labels):
            if self.shown.get(name) != state:
                console.print(f"{name}: {state}", markup=False, soft_wrap=True)
            self.shown[name] = state
        self._report_waiting()

    def _tasks(self, now: Progressing) -> tuple[Task, ...]:
        declared = self.started.pipeline.tasks
        with contextlib.suppress(ServiceError):  # the next look tries again
            if workflow := self.started.cluster.workflow(self.started.run):
                self.error = workflow.error
                return workflow.tasks(declared, self.started.labels)
        return tasks_by_name(now.nodes, declared)

    def _report_waiting(self) -> None:
        for task in self.tasks:
            if task.state != "PENDING":
                continue
            since = self.waiting.setdefault(task.pod, time.monotonic())
            if time.monotonic() - since > _WAITING_SECONDS:
                self.waiting[task.pod] = float("inf")
                pod = f"its pod {task.pod}" if task.pod else "its pod"
                why = task.message or "no node has room for it, or its image or a volume is missing"
                console.print(
                    f"{task.name}: {pod} has been waiting for {_WAITING_SECONDS / 60:g} minutes, and nothing ends "
                    f"that: {why}: see `kubectl describe pod`",
                    markup=False,
                    soft_wrap=True,
                )


def _looks(cluster: Cluster, run: str) -> Iterator[Progressing]:
    """The run's state, again and again; waits for a server that does not answer for a while."""
    silent: float | None = None
    while True:
        try:
            now = cluster.progress(run)
        except ServiceError as error:
            if silent is None:
                silent = time.monotonic()
                console.print(f"No news, but the run goes on, and this asks again: {error}", markup=False)
            elif time.monotonic() - silent > _PATIENCE:
                minutes = f"{_PATIENCE / 60:g} minutes"
                raise ServiceError(f"no news for {minutes}: {_goes_on(cluster, run)}: {error}") from error
        else:
            silent = None
            yield now
        time.sleep(_POLL_SECONDS)


def _goes_on(cluster: Cluster, run: str) -> str:
    return f"run {run} goes on without this command, and Kubeflow shows it under experiment {cluster.experiment!r}"


# What is shown -------------------------------------------------------------------------------------------------------


def _lines(tasks: Sequence[Task], labels: Labels) -> Iterator[tuple[str, str]]:
    """Name and state of each task; of loops with many iterations, the number in each state and the failed ones."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.group, []).append(task)
    for group, members in groups.items():
        names = {task.name for task in members}
        if len(names) == len(members) and max(len(members), len(labels.get(members[0].loop, ()))) <= _MANY:
            yield from ((task.name, _state(task)) for task in members)
        else:
            yield group, _counted(task.state.lower() for task in members)
            yield from ((task.name, _state(task)) for task in members if task.state == "FAILED" and task.name != group)


def _state(task: Task) -> str:
    attempt = f", attempt {task.attempts}" if task.attempts > 1 else ""
    why = f": {task.message}" if task.message and task.state in ("PENDING", "FAILED") else ""
    return f"{task.state.lower()}{attempt}{why}"


def _counted(states: Iterable[str]) -> str:
    counts = Counter(states)
    if counts.total() == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _show_end(started: Started, now: Progressing, watched: _Watched) -> None:
    """Prints what the tasks and the journal say.

    Raises:
        RushesError: the run did not succeed.
    """
    table = Table("tasks", "", box=None, header_style="bold")
    for state, count in sorted(Counter(task.state.lower() for task in watched.tasks).items()):
        table.add_row(state, str(count))
    console.print(table)
    outcome = _outcome(started.run, "CANCELED" if now.terminated else now.state)
    for line in outcome.tried_again if outcome else ():
        console.print(f"Tried again: {line}", markup=False, soft_wrap=True)
    if outcome and outcome.decision:
        decision = f"{outcome.decision['decision']} ({outcome.decision['reason']})"
        console.print(f"Decision: {decision}", markup=False, soft_wrap=True)
    if now.state == "SUCCEEDED":
        return
    state = "terminated by a person" if now.terminated else now.state.lower()
    raise RushesError(f"run: {state}: {_reason(started.run, outcome, watched)}")


def _outcome(run: str, word: str) -> Outcome | None:
    """What the run's journal says; None, and a line about it, where this machine cannot read it."""
    try:
        store = open_store()
        if events := Journal(store, run).events():
            return outcome_of(store, events, word=word)
        why = f"{store.url} has no journal of this run"
    except Exception as error:
        if not _is_of_the_store(error):
            raise
        why = f"the store cannot be read ({' '.join(str(error).split())})"
    console.print(
        f"What the steps said is not shown: {why}: RUSHES_STORE has to name the cluster's store",
        markup=False,
        soft_wrap=True,
    )
    return None


def _is_of_the_store(error: Exception) -> bool:
    """Whether a store is wrongly named, out of reach, not ours to read, or damaged, and it is no fault of this code."""
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).mro()}
    return isinstance(error, RushesError | OSError) or bool(libraries & _STORE_LIBRARIES)


def _reason(run: str, outcome: Outcome | None, watched: _Watched) -> str:
    """The failing steps' own messages; else what Argo says of their pods, or of the whole run."""
    pods = [f"{task.name}: {task.message or 'failed'}" for task in watched.tasks if task.state == "FAILED"]
    argo = [*pods, *([f"Argo stopped it: {watched.error}"] if watched.error else [])]
    if outcome and outcome.has_step_error:
        return outcome.error
    if outcome:
        return "; ".join(argo) or outcome.error
    summary = f"the steps' messages are in runs/{run}/summary.json of the cluster's store (RUSHES_STORE)"
    return "; ".join([*argo, summary])
