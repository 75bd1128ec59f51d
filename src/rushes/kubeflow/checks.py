"""`rushes schedules check`: submits a run for each schedule whose data changed since its last submission.

`rushes pin` resolves the data reference. The store records submissions as claims, created exclusively like the ledger's
entries: if several checks run at once, one submits, and the others do nothing.

    <store>/schedules/<experiment>/<name>/claims/000001.json     {pin, time}: a check is submitting a run on this data
    <store>/schedules/<experiment>/<name>/runs/000001.json       {run}: it was submitted as that run

A check that crashes between the two leaves a claim without a run. The next check looks for a run of the claim's name on
the server; if there is none, and the claim is older than `PATIENCE`, it makes the next claim and submits.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rushes.errors import RushesError
from rushes.kubeflow.cluster import Cluster
from rushes.kubeflow.schedules import Schedule
from rushes.steps.pin import pin
from rushes.store import Store

PATIENCE = 600.0
"""Seconds after which a claim without a run is abandoned: several times the time limit of a submission."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A record that a check is submitting a run on a schedule's data."""

    number: int
    pin: str
    """Ref of the pin that the reference resolved to."""
    time: float
    """Seconds since 1970."""


class Claims:
    """The claims on one schedule."""

    def __init__(self, store: Store, *, experiment: str, name: str) -> None:
        self.store, self.folder = store, f"schedules/{experiment}/{name}"

    def last(self) -> Claim | None:
        """The latest claim, or None before the first."""
        names = self.store.names(f"{self.folder}/claims")
        record = self.store.read(f"{self.folder}/claims/{names[-1]}") if names else None
        return Claim(**json.loads(record)) if record is not None else None

    def make(self, claim: Claim) -> bool:
        """Makes the claim that follows `number - 1`; False if another check made it first."""
        return self.store.create(f"{self.folder}/claims/{claim.number:06d}.json", json.dumps(asdict(claim)).encode())

    def submitted(self, claim: Claim) -> bool:
        """Whether a run was recorded for the claim."""
        return self.store.read(f"{self.folder}/runs/{claim.number:06d}.json") is not None

    def record(self, claim: Claim, run: str) -> None:
        """Records the run that was submitted for the claim."""
        self.store.write(f"{self.folder}/runs/{claim.number:06d}.json", json.dumps({"run": run}).encode())


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The result of a check of one schedule."""

    kind: Literal["unchanged", "submitted", "waiting", "failed"]
    name: str
    why: str
    exit_code: int = 0


def check(schedule: Schedule, *, experiment: str, store: Store, connect: Callable[[], Cluster]) -> CheckResult:
    """Submits a run if the schedule's data changed.

    Args:
        schedule: the schedule.
        experiment: name of its experiment.
        store: holds the claims.
        connect: connects to the server; not called if nothing changed.
    """
    try:
        return _check(schedule, Claims(store, experiment=experiment, name=schedule.name), connect)
    except RushesError as error:
        return CheckResult(kind="failed", name=schedule.name, why=str(error), exit_code=error.exit_code)


def _check(schedule: Schedule, claims: Claims, connect: Callable[[], Cluster]) -> CheckResult:
    last = claims.last()  # read before the data: a claim made in between is for newer data, or the same
    ref = _pinned(schedule)
    if last is not None and last.pin == ref:
        if claims.submitted(last):
            return CheckResult(kind="unchanged", name=schedule.name, why=ref)
        if run := connect().run_id(_run_name(schedule, last)):
            claims.record(last, run)
            return CheckResult(kind="unchanged", name=schedule.name, why=ref)
        if (left := last.time + PATIENCE - time.time()) > 0:
            why = f"{ref}: another check is submitting it, or crashed: it has {left:.0f} s left"
            return CheckResult(kind="waiting", name=schedule.name, why=why)
    target = connect().target(schedule.pipeline)  # before the claim, so that nothing but the submission is left to fail
    claim = Claim(number=(last.number if last else 0) + 1, pin=ref, time=time.time())
    if not claims.make(claim):
        return CheckResult(kind="waiting", name=schedule.name, why=f"{ref}: another check is submitting it")
    name = _run_name(schedule, claim)
    run = connect().submit(
        schedule.arguments, target, name=name, description=f"rushes schedules check: the data is now {ref}"
    )
    claims.record(claim, run)
    return CheckResult(kind="submitted", name=schedule.name, why=f"{ref}: run {name}")


def _pinned(schedule: Schedule) -> str:
    with tempfile.TemporaryDirectory(prefix="rushes-check-") as folder:
        return pin(data=schedule.data, out=Path(folder) / "pin.json").ref


def _run_name(schedule: Schedule, claim: Claim) -> str:
    """Known before the run exists, so that the run is found even if the check crashes."""
    return f"{schedule.name}-{claim.number:06d}-{claim.pin.removeprefix('pin/')}"
