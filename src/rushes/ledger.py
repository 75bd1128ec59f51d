"""The ledger of promotions: the record of which model an endpoint serves.

One file per decision, `ledger/<endpoint>/000001.json` in the store, created exclusively: of two decisions made at once
about the same champion, one is recorded and the other must be made again. MLflow's alias and Triton's routing follow
the ledger and are repaired from it.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from rushes.errors import UserError
from rushes.store import Store

Decision = Literal["promoted", "refused"]
_NAME = re.compile(r"\d{6}\.json")


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

    def to_json(self) -> str:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    def is_in(self, text: str) -> bool:
        """Whether `text` is this entry's, in whatever order and layout."""
        return bool(json.loads(text) == json.loads(self.to_json()))


class Ledger:
    """The decisions about one endpoint."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.store, self.endpoint = store, endpoint

    def entries(self) -> list[LedgerEntry]:
        """All decisions, oldest first.

        Raises:
            UserError: a record is damaged, as one written by hand may be; the message names it.
        """
        found = [self._read(name) for name in self._names()]
        return [entry for entry in found if entry is not None]

    def last(self) -> LedgerEntry | None:
        """The latest decision, or None before the first; raises as `entries` does."""
        names = self._names()
        return self._read(names[-1]) if names else None

    def append(self, entry: LedgerEntry) -> bool:
        """Records a decision that was made after entry `number - 1`; False if another decision came first."""
        name = f"{self._folder}/{entry.number:06d}.json"
        return self.store.create(name, entry.to_json().encode())

    @property
    def _folder(self) -> str:
        return f"ledger/{self.endpoint}"

    def _names(self) -> list[str]:
        return [name for name in self.store.names(self._folder) if _NAME.fullmatch(name)]

    def _read(self, name: str) -> LedgerEntry | None:
        record = self.store.read(f"{self._folder}/{name}")
        return _entry(record, number=int(name[:6]), source=f"{self._folder}/{name}") if record is not None else None


def endpoints(store: Store) -> list[str]:
    """Endpoints with at least one decision."""
    return store.names("ledger")


def now() -> str:
    """The present time (ISO 8601, UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _entry(text: bytes, *, number: int, source: str) -> LedgerEntry:
    try:
        record = json.loads(text)
        champion = record.pop("champion")
        entry = LedgerEntry(
            challenger=Champion(**record.pop("challenger")),
            champion=Champion(**champion) if champion else None,
            **record,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}: not a decision ({error}): correct the record, or remove it") from error
    if entry.decision not in get_args(Decision):
        raise UserError(f"{source}: decision: {entry.decision!r} is not allowed; {' or '.join(get_args(Decision))}")
    if entry.number != number:
        raise UserError(f"{source}: number {entry.number} in the record; expected {number}: correct the record")
    return entry
