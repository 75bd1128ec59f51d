"""What the steps of a run did, in the store: one record per step, readable wherever the run was executed.

    <store>/runs/<run>/<time>-<step>.json    {event: end | error, step, seconds, cached, ref} or {..., message}

`RUSHES_RUN` names the run; without it, nothing is written.
"""

import json
import time
from typing import Any

from rushes.store import Store

RUN = "RUSHES_RUN"


class Journal:
    """The records of one run."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self._folder = store, f"runs/{run}"

    def add(self, event: str, *, step: str, **fields: Any) -> None:
        """Adds a record."""
        record = {"event": event, "step": step, "time": round(time.time(), 3), **fields}
        self.store.write(f"{self._folder}/{time.time_ns()}-{step}.json", json.dumps(record).encode())

    def events(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        names = [name for name in self.store.names(self._folder) if name != "summary.json"]
        records = [self.store.read(f"{self._folder}/{name}") for name in names]
        return [json.loads(record) for record in records if record is not None]
