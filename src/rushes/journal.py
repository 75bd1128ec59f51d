"""What the steps of a run did, in the store: one record per step, readable wherever the run was executed.

    <store>/runs/<run>/<time>-<step>.json    {event: start, step, of} or {event: end, ..., seconds, cached, ref}
                                             or {event: error, ..., message}

`of` is the partition, the model or the chain that the step was for, where a run has several. `RUSHES_RUN` names the
run; without it, nothing is written.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from rushes.errors import UserError
from rushes.store import Store

RUN = "RUSHES_RUN"
_OF: ContextVar[str] = ContextVar("of", default="")


@contextlib.contextmanager
def work_of(name: str) -> Iterator[None]:
    """Records that are added inside say that they are of this partition, model or chain; an outer name stays."""
    token = _OF.set(_OF.get() or name)
    try:
        yield
    finally:
        _OF.reset(token)


class Journal:
    """The records of one run."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self._folder = store, f"runs/{run}"

    def add(self, event: str, *, step: str, **fields: Any) -> None:
        """Adds a record."""
        record = {"event": event, "step": step, "of": _OF.get(), "time": round(time.time(), 3), **fields}
        self.store.write(f"{self._folder}/{time.time_ns()}-{step}.json", json.dumps(record).encode())

    def events(self) -> list[dict[str, Any]]:
        """All records, oldest first.

        Raises:
            UserError: one is damaged; the message names it.
        """
        names = [f"{self._folder}/{name}" for name in self.store.names(self._folder) if name != "summary.json"]
        records = [(name, self.store.read(name)) for name in names]
        return [_event(record, name) for name, record in records if record is not None]


def _event(text: bytes, name: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not a record of a run ({error}): remove it from the store") from error
    if not isinstance(event, dict):
        raise UserError(f"{name}: not a record of a run, which is a mapping: remove it from the store")
    return event
