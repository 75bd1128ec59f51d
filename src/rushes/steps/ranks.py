"""Pretraining in several processes of this machine, one per GPU: torchrun's agent starts them and ends them together.

    python -m rushes.steps.ranks JOB.json

is what each of them runs.
"""

import json
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import PretrainConfig, Recipe
from rushes.errors import RushesError, StoppedError, UserError
from rushes.home import open_store
from rushes.progress import EventLog, NullProgress
from rushes.recipes import parse_recipe
from rushes.steps.base import Job, read_input, read_start
from rushes.steps.train import train
from rushes.store import Manifest
from rushes.strict import to_record

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def rank_count(config: PretrainConfig) -> int:
    """How many processes train together: as many as the recipe says, or one per GPU."""
    import torch

    if config.ranks:
        return config.ranks
    several = config.device in ("auto", "cuda") and torch.cuda.is_available()
    return max(torch.cuda.device_count(), 1) if several else 1


def train_in_ranks(count: int, job: Job, *, recipe: Recipe, footage: Manifest) -> Mapping[str, Any]:
    """As `train`, in `count` processes; returns the summary.

    Raises:
        StoppedError: SIGTERM came, and the run is saved.
        RushesError: what one of them raised, or which one was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    with tempfile.TemporaryDirectory(prefix="rushes-ranks-") as name, _signals_as_before():
        folder = Path(name)
        footage.write(folder / "footage.json")
        record = {"recipe": to_record(recipe), "folder": str(job.folder), "digest": job.digest}
        (folder / "job.json").write_text(json.dumps(record))
        try:
            elastic_launch(settings, sys.executable)("-m", "rushes.steps.ranks", str(folder / "job.json"))
        except SignalException as asked:
            said = _said(folder) or {}
            message = said.get("error", "stopped before the first step")
            raise (KeyboardInterrupt if asked.sigval == signal.SIGINT else StoppedError)(message) from None
        except ChildFailedError as error:
            raise _explained(error, folder) from error
        summary: Mapping[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def main(job_file: Path) -> int:
    """One of the processes: trains, and leaves its summary or its error beside the job."""
    import torch

    from rushes.footage.reader import Footage
    from rushes.training.ranks import joined

    folder, given = job_file.parent, json.loads(job_file.read_text())
    recipe = parse_recipe(given["recipe"])
    plugins.use(recipe.plugins)
    with joined() as ranks:
        torch.set_num_threads(max(len(os.sched_getaffinity(0)) // ranks.count, 1))
        events = os.environ.get("RUSHES_PROGRESS") if ranks.leads else None
        progress = EventLog(Path(events), step="pretrain") if events else NullProgress()
        store = open_store()
        job = Job(folder=Path(given["folder"]), digest=given["digest"], store=store, progress=progress)
        try:
            footage = Footage(
                read_input(folder / "footage.json", "footage"), store, short_side=recipe.pretrain.short_side
            )
            start = read_start(recipe.pretrain.init, "pretrain.init")
            summary = train(job, recipe=recipe, footage=footage, start=start, ranks=ranks)
        except (RushesError, KeyboardInterrupt) as error:
            status = error.exit_code if isinstance(error, RushesError) else 130
            said = {"error": str(error), "exit_code": status}
            (folder / f"error-{ranks.number}.json").write_text(json.dumps(said))
            return status
        if ranks.leads:
            (folder / "summary.json").write_text(json.dumps(summary))
    return 0


def _said(folder: Path) -> dict[str, Any] | None:
    """What the first of the processes that raised an error said."""
    found = sorted(folder.glob("error-*.json"))
    said: dict[str, Any] | None = json.loads(found[0].read_text()) if found else None
    return said


def _explained(error: Any, folder: Path) -> RushesError:
    """The error of the process that failed first."""
    said = _said(folder)
    if said is not None:
        kind = {UserError.exit_code: UserError, StoppedError.exit_code: StoppedError}
        return kind.get(said["exit_code"], RushesError)(said["error"])
    rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
    how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with status {failure.exitcode}"
    return RushesError(
        f"training: rank {rank} (process {failure.pid}) {how}, and all others were ended: "
        "the same command goes on from the last checkpoint"
    )


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """Torchrun's agent leaves its own handlers behind."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
