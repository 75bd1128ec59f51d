"""The ledger of promotions: the record of which model an endpoint serves.

One file per decision, `ledger/<endpoint>/000001.json` in the store, created exclusively: of two decisions made at once
about the same champion, one is recorded and the other must be made again. MLflow's alias and Triton's routing follow
the ledger and are repaired from it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from rushes.store import Store

Decision = Literal["promoted", "refused"]


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A model that may be served: registry version and the exported bundle behind it."""

    version: int
    """Version of the endpoint's registered model in MLflow."""
    bundle: str
    """Ref of the export, which names its files in the store."""
    onnx_sha256: str
    """Identity of the graph."""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One decision, and the champion after it (None while nothing was good enough)."""

    number: int
    endpoint: str
    decision: Decision
    challenger: Champion
    champion: Champion | None
    reason: str
    time: str
    report: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """The decisions about one endpoint."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.store, self.endpoint = store, endpoint

    def entries(self) -> list[LedgerEntry]:
        """All decisions, oldest first."""
        records = (self.store.read(f"{self._folder}/{name}") for name in self.store.names(self._folder))
        return [_entry(json.loads(record)) for record in records if record is not None]

    def last(self) -> LedgerEntry | None:
        """The latest decision, or None before the first."""
        names = self.store.names(self._folder)
        record = self.store.read(f"{self._folder}/{names[-1]}") if names else None
        return _entry(json.loads(record)) if record is not None else None

    def append(self, entry: LedgerEntry) -> bool:
        """Records a decision that was made after entry `number - 1`; False if another decision came first."""
        name = f"{self._folder}/{entry.number:06d}.json"
        text = json.dumps(dataclasses.asdict(entry), indent=1, sort_keys=True) + "\n"
        return self.store.create(name, text.encode())

    @property
    def _folder(self) -> str:
        return f"ledger/{self.endpoint}"


def endpoints(store: Store) -> list[str]:
    """Endpoints with at least one decision."""
    return store.names("ledger")


def now() -> str:
    """The present time (ISO 8601, UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _entry(record: dict[str, Any]) -> LedgerEntry:
    champion = record.pop("champion")
    return LedgerEntry(
        challenger=Champion(**record.pop("challenger")),
        champion=Champion(**champion) if champion else None,
        **record,
    )
