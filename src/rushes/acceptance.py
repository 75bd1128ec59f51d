"""A person's word that a step's outputs by earlier code stand, so that an upgrade does not do all work again.

    rushes store accept pretrain --from 7122f6971e53d699 --reason "only an error message changed"

    <store>/accepted/<step>/<digest>.json    one record per acceptance, never changed

A step that does not find its output under today's code looks for it under the accepted earlier codes
(`rushes.steps.identity`), and publishes what it finds under today's digest with `about` in the manifest.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from rushes.errors import UserError
from rushes.store import Manifest, Store


@dataclass(frozen=True, kw_only=True)
class CodeChange:
    """Code of a task or a backbone that changed between the outputs and the acceptance."""

    kind: str
    name: str
    earlier: str
    code: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} by code {self.earlier} for {self.code}"


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Outputs of a step made by `earlier` code stand for `code`."""

    step: str
    earlier: str
    code: str
    definitions: tuple[CodeChange, ...] = ()
    """Tasks and backbones of the outputs, where their code changed as well."""
    reason: str
    by: str
    time: str
    """ISO 8601, UTC."""

    def earlier_codes(self, kind: str, used: Mapping[str, str]) -> list[str]:
        """Earlier codes that stand for the task or backbone that a config uses."""
        return [
            change.earlier
            for change in self.definitions
            if (change.kind, change.name, change.code) == (kind, used["name"], used["code"])
        ]

    def about(self, made: Manifest) -> dict[str, str]:
        """What the manifest of an accepted output says about it."""
        return {"ref": made.ref, "code": made.code, "reason": self.reason, "by": self.by, "time": self.time}


def add_acceptance(store: Store, acceptance: Acceptance) -> None:
    """Writes the record."""
    text = json.dumps(dataclasses.asdict(acceptance), indent=1, sort_keys=True) + "\n"
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    store.create(f"accepted/{acceptance.step}/{name}.json", text.encode())


def acceptances(store: Store, step: str) -> list[Acceptance]:
    """The acceptances of a step's outputs, the latest first.

    Raises:
        UserError: a record is damaged; the message names it.
    """
    names = [f"accepted/{step}/{name}" for name in store.names(f"accepted/{step}") if name.endswith(".json")]
    records = {name: store.read(name) for name in names}
    found = [_acceptance(record, source=name) for name, record in records.items() if record is not None]
    return sorted(found, key=lambda acceptance: acceptance.time, reverse=True)


def _acceptance(text: bytes, *, source: str) -> Acceptance:
    try:
        record = json.loads(text)
        changes = tuple(CodeChange(**change) for change in record.pop("definitions"))
        return Acceptance(definitions=changes, **record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}: not an acceptance ({error}): remove the record, and accept again") from error
