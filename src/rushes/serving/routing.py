"""`routing.json`: the version that an endpoint answers with. A new version is served once this file is replaced.

Standard library only: Triton's Python backend reads it at every request.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from rushes.errors import UserError

SCHEMA = 1
FILE = "routing.json"


@dataclass(frozen=True, kw_only=True)
class Routing:
    """The version that answers, and those before it."""

    version: int
    """Version of the endpoint's registered model."""
    onnx_sha256: str
    """SHA-256 of its graph."""
    history: tuple[int, ...]
    """Versions that have been routed, the present one first, each once."""
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Canonical text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Routing":
        """Reads `routing.json`.

        Raises:
            UserError: missing, malformed, or of a schema this version does not read.
        """
        try:
            record = json.loads(path.read_text())
            if record["schema"] != SCHEMA:
                raise UserError(f"{path}: schema {record['schema']}, this version reads {SCHEMA}: reconcile again")
            return cls(**record | {"history": tuple(record["history"])})
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: not a routing file ({error}): reconcile again") from error
