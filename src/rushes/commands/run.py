"""`rushes run`: the compiled pipeline with servers beside it, progress bars, and a table of results."""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from rushes import servers
from rushes.config import Recipe
from rushes.console import console, view
from rushes.errors import RushesError, UserError, disk_error
from rushes.evaluation.report import interval_text
from rushes.evaluation.served import served_sentence
from rushes.footage.archive import list_archive
from rushes.footage.reference import DataReference
from rushes.home import home_folder, open_store
from rushes.orchestration.docker import require_docker
from rushes.orchestration.local import Runner, compiled_pipeline
from rushes.orchestration.run import Arguments, Background, LocalRun
from rushes.processes import log_tail
from rushes.progress import EventLog, first_error
from rushes.serving.environment import can_run_triton
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, triton_status
from rushes.serving.shell_paths import check_triton_paths
from rushes.tracking.database import check_database

_LITTLE = 1 << 16
"""Free bytes below which a disk counts as full."""


@dataclass(kw_only=True)
class Finished:
    """The results of a run: the events of its ended steps, in order."""

    folder: Path
    endings: list[Mapping[str, Any]] = field(default_factory=list)

    def summary(self, step: str) -> Mapping[str, Any]:
        """Summary in a step's last event."""
        found: Mapping[str, Any] = next(e["summary"] for e in reversed(self.endings) if e["step"] == step)
        return found

    @property
    def served(self) -> int | None:
        """The version that is served now, if any."""
        version: int | None = self.summary("promote")["champion"]
        return version


def run(
    *,
    models: tuple[Recipe, ...],
    data: DataReference,
    endpoint: str,
    runner: Runner = "subprocess",
    pipeline: Path | None = None,
) -> int:
    """Runs everything and shows the results."""
    arguments = Arguments(data=data.absolute(), models=models, endpoint=endpoint_name(endpoint or Path(data.root).name))
    finished = run_pipeline(arguments, runner=runner, pipeline=pipeline)
    show_results(finished)
    console.print("\nNext:", style="bold")
    if finished.served:
        console.print(f"  rushes predict YOUR_VIDEO.mp4 --endpoint {arguments.endpoint}", markup=False)
    console.print("  rushes status        what is served\n  rushes down          stop the servers", markup=False)
    return 0


def run_pipeline(arguments: Arguments, *, runner: Runner = "subprocess", pipeline: Path | None = None) -> Finished:
    """Checks the input, starts missing servers, executes the pipeline and draws its progress.

    Servers that were started here are stopped again unless everything succeeded.

    Raises:
        UserError: the input is wrong; found before anything is started, if possible.
        RushesError: a step or a server failed; the message names the log.
    """
    _check_input(arguments)
    _check_servers(home_folder())
    if runner == "docker":
        require_docker(pipeline or compiled_pipeline())
    home = home_folder()
    reason = can_run_triton()
    if reason is not None:
        console.print(f"Triton cannot run here: {reason}. The served graph will answer in process.", markup=False)
    missing = [name for name in servers.NAMES if name not in {server.name for server in servers.running(home)}]
    with LocalRun(arguments, home=home, runner=runner, pipeline=pipeline) as started:
        console.print(f"Log: {started.log}", markup=False, style="dim")
        log = EventLog(started.events, step="servers")
        starting = Background(lambda: servers.start_all(home, progress=log))
        try:
            finished = _follow(started, starting)
            _keep_served(finished, home)
            return finished
        except BaseException:
            started.stop()
            servers.abandon(home, missing, starting=starting.wait)
            raise


def show_results(finished: Finished) -> None:
    """Accuracy with and without pretraining, seconds per step, what is served, where the results are."""
    evaluated, decided = finished.summary("evaluate"), finished.summary("promote")
    test = evaluated["test"]
    title = f"Top-1 on {test['segments']} test segments, {test['groups']} groups"
    table = Table(
        "protocol", "pretrained", "random init", title=title, box=None, header_style="bold", title_justify="left"
    )
    for protocol in ("fine-tune", "linear probe", "nearest neighbour"):
        cells = [interval_text(evaluated["top1"][f"{protocol}, {init}"]) for init in ("pretrained", "random")]
        table.add_row(protocol, *cells)
    console.print()
    console.print(table)
    console.print(f"95 % intervals, by groups{_known_without(evaluated)}", style="dim", markup=False)
    for caveat in evaluated.get("caveats", ()):
        console.print(f"Mind: {caveat}", style="yellow", markup=False)
    console.print()
    console.print(f"As served: {served_sentence(evaluated.get('served'))}", markup=False)
    steps = Table("step", "seconds", "", box=None, header_style="bold")
    for event in finished.endings:
        which = event["summary"].get("init") or event["summary"].get("partition")
        steps.add_row(
            f"{event['step']} ({which})" if which else event["step"],
            f"{event['seconds']:.1f}",
            "already done" if event["cached"] else "",
        )
    console.print(steps)
    console.print()
    where = Table.grid(padding=(0, 2))
    where.add_row("Gate", escape(f"{decided['decision']}: {decided['reason']}"))
    where.add_row("Served", _served(finished))
    where.add_row("Report", escape(str(finished.folder / "report.html")))
    where.add_row("MLflow", str(finished.summary("register")["tracking"]))
    where.add_row("Run", escape(str(finished.folder)))
    console.print(where)


def _known_without(evaluated: Mapping[str, Any]) -> str:
    """How often one is right without the model: by the commonest answer, and by metadata."""
    constant = f"always {evaluated['commonest']}" if "commonest" in evaluated else "guessing"
    metadata = f"; metadata only {interval_text(evaluated['metadata'])}" if "metadata" in evaluated else ""
    return f"; {constant} {100 * evaluated['chance']:.1f} %{metadata}"


def _served(finished: Finished) -> str:
    decided = finished.summary("promote")
    if not finished.served:
        return "nothing: no version has passed the gate"
    if decided["decision"] == "promoted":
        return f"version {finished.served} of {decided['endpoint']}, by {finished.summary('deploy')['served_by']}"
    return f"version {finished.served} of {decided['endpoint']}, as before"


def endpoint_name(text: str) -> str:
    """A name that MLflow, Triton and the file system accept.

    Raises:
        UserError: it has no letter or digit.
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if not name:
        raise UserError(f"endpoint: {text!r} holds no letter or digit: give --endpoint NAME")
    return name


def _check_input(arguments: Arguments) -> None:
    """The same reading that `pin` does, here for the sake of an error before any server starts."""
    if not arguments.data.revision:
        arguments.data.annotations(list_archive(arguments.data.root).paths)


def _check_servers(home: Path) -> None:
    """What would stop a server only when a later step needs it."""
    if can_run_triton() is None:
        check_triton_paths(home)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        check_database(home)


def _keep_served(finished: Finished, home: Path) -> None:
    """Serves the champion if the new version was refused: the step `deploy` did not run then."""
    decided = finished.summary("promote")
    if decided["decision"] == "refused" and finished.served:
        triton = triton_status(home=home)
        reconcile(
            home=home, store=open_store(), endpoint=str(decided["endpoint"]), server=address(triton) if triton else None
        )


def _follow(started: LocalRun, starting: Background) -> Finished:
    finished = Finished(folder=started.folder)
    with view() as shown:
        for event in started.follow():
            starting.check()
            if event is not None:
                shown.show(event)
            if event is not None and event["event"] == "end":
                finished.endings.append(event)
    if started.result() != 0:
        _raise_failure(started)
    _copy_report(finished)
    return finished


def _raise_failure(started: LocalRun) -> None:
    failure = first_error(started.events)
    if failure is None:
        # No event can be written to a full disk; the log may say so, if it could be written.
        full = os.strerror(errno.ENOSPC)
        if full in log_tail(started.log, lines=200) or shutil.disk_usage(started.folder).free < _LITTLE:
            raise UserError(str(disk_error(OSError(errno.ENOSPC, full, str(started.folder)))))
        raise RushesError(f"the pipeline ended with status {started.result()}: see {started.log}")
    error = UserError if failure["exit_code"] == 2 else RushesError
    hint = "" if failure["exit_code"] == 2 else f" (log: {started.log})"
    raise error(f"{failure['step']}: {failure['message']}{hint}")


def _copy_report(finished: Finished) -> None:
    """Copies the report and the metrics from the store to the run's folder."""
    store = open_store()
    ref = next(event["ref"] for event in reversed(finished.endings) if event["step"] == "evaluate")
    manifest = store.find(ref)
    if manifest is not None:
        for name in ("report.html", "metrics.json"):
            (finished.folder / name).write_bytes(store.path(manifest.files[name]).read_bytes())
    (finished.folder / "results.json").write_text(json.dumps([dict(event) for event in finished.endings], indent=1))
