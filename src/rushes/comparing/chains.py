"""The chains of a comparison (pretrain, fine-tune, measure per initialisation, fold and seed), and their processes."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rushes.comparing.chain_process import ORDER
from rushes.comparing.initialisations import Initialisation
from rushes.errors import RushesError, UserError
from rushes.processes import end_group
from rushes.progress import first_error, read_events
from rushes.strict import to_record

Event = dict[str, Any]


def footage_in(work: Path, *, fold: int) -> Path:
    """Path of the pointer to a fold's footage."""
    return work / f"footage-{fold}.json"


@dataclass(frozen=True, kw_only=True)
class Chain:
    """An initialisation on one fold with one seed."""

    initialisation: Initialisation
    fold: int
    seed: int
    labels: tuple[int, ...]
    """Numbers of labels per class, 0 for all."""

    @property
    def name(self) -> str:
        """The name in messages, and of the chain's task on a cluster."""
        return f"{self.initialisation.name}, fold {self.fold}, seed {self.seed}"

    def folder(self, work: Path) -> Path:
        """Folder of its pointers and its log; unique, also for names that a folder's name cannot tell apart."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.initialisation.name)[:50]
        digest = hashlib.sha256(self.initialisation.name.encode()).hexdigest()[:8]
        return work / f"fold{self.fold}-seed{self.seed}-{plain}-{digest}"

    def write_order(self, work: Path) -> Path:
        """Writes what the chain's process is to do, on the fold's footage in `work`; returns the chain's folder."""
        folder = self.folder(work)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = replace(self.initialisation.recipe, seed=self.seed)
        footage = footage_in(work, fold=self.fold).absolute()
        order = {"recipe": to_record(recipe), "footage": str(footage), "labels": self.labels}
        (folder / ORDER).write_text(json.dumps(order, indent=1))
        return folder


class Chains:
    """Runs chains in processes, several at a time. Use as a context manager: leaving it ends all of them.

    Args:
        chains: in the order in which they begin.
        work: folder of their pointers, logs and events.
        parallel: processes at a time; the cores are shared equally.
    """

    def __init__(self, chains: Sequence[Chain], *, work: Path, parallel: int) -> None:
        self.chains, self.work, self.parallel = chains, work, parallel
        self._running: list[_Running] = []

    def __enter__(self) -> "Chains":
        return self

    def __exit__(self, *exception: object) -> None:
        for running in self._running:
            end_group(running.process)

    def follow(self) -> Iterator[Event | None]:
        """Yields events of all processes as they arrive, None when there is nothing new, until all chains have ended.

        Raises:
            UserError: the input of a chain is at fault.
            RushesError: a chain failed; the message names its log.
        """
        waiting, ended = list(self.chains), 0
        yield self._count(ended)
        while waiting or self._running:
            while waiting and len(self._running) < self.parallel:
                self._running.append(_Running(waiting.pop(0), work=self.work, threads=self._threads()))
            for running in list(self._running):
                over = running.process.poll() is not None
                yield from running.events()
                if over:
                    running.check()
                    self._running.remove(running)
                    ended += 1
                    yield self._count(ended)
            yield None
            time.sleep(0.1)

    def _threads(self) -> int:
        return max(len(os.sched_getaffinity(0)) // self.parallel, 1)

    def _count(self, ended: int) -> Event:
        return {
            "event": "bar",
            "step": "compare",
            "label": "compare",
            "done": ended,
            "total": len(self.chains),
            "unit": "chains",
            "stats": {},
        }


class _Running:
    """A process that works on a chain."""

    def __init__(self, chain: Chain, *, work: Path, threads: int) -> None:
        self.chain, self.folder = chain, chain.write_order(work)
        self.log, self._events, self._offset = self.folder / "chain.log", self.folder / "progress.jsonl", 0
        self._events.unlink(missing_ok=True)
        environment = os.environ | {
            "RUSHES_PROGRESS": str(self._events),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rushes.comparing.chain_process", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def events(self) -> Iterator[Event]:
        """New events, labelled with the chain's name."""
        events, self._offset = read_events(self._events, offset=self._offset)
        for event in events:
            named = {key: f"{self.chain.name}: {event[key]}" for key in ("step", "label") if key in event}
            yield event | named

    def check(self) -> None:
        """Raises the error that ended the chain, if one did."""
        if self.process.returncode == 0:
            return
        failure = first_error(self._events)
        if failure is None:
            raise RushesError(f"{self.chain.name}: ended with status {self.process.returncode} (log: {self.log})")
        if failure["exit_code"] == UserError.exit_code:
            raise UserError(f"{self.chain.name}: {failure['step']}: {failure['message']}")
        raise RushesError(f"{self.chain.name}: {failure['step']}: {failure['message']} (log: {self.log})")
