"""The record of what a step made: kilobytes, however large the files that it names."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.store.files import write_atomic

SCHEMA = 1
LOGS = ("history.json",)
"""Files that tell how the work went, seconds among it."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One object of the store: its content's SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a step's output; a file that holds one is a pointer to that output.

    `digest` identifies the work (`rushes.steps.identity`), so it is known before the work is done; `content` identifies
    the bytes that the work made. `inputs` maps an input's name to its `ref` ("sample/ab12...").
    """

    kind: str
    step: str
    digest: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    code: str
    files: Mapping[str, File]
    summary: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Where a person accepted an output of earlier code: its ref and code, the reason, by whom and when."""
    schema: int = SCHEMA

    @property
    def ref(self) -> str:
        """Name under which another manifest refers to this one: `<step>/<digest>`."""
        return f"{self.step}/{self.digest}"

    @property
    def content(self) -> str:
        """What the output is, by whichever run: a digest over names and SHA-256 of its files; its ref without any file.

        `LOGS` are left out: two runs of the same work differ in them.
        """
        contents = {name: file.sha256 for name, file in self.files.items() if name not in LOGS}
        if not contents:
            return self.ref
        return f"sha256:{hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()}"

    @property
    def uri(self) -> str:
        """Path of the manifest in the store."""
        return f"steps/{self.ref}.json"

    def to_json(self) -> str:
        """Canonical text: sorted keys, so that equal manifests are equal bytes."""
        record = dataclasses.asdict(self) | {"uri": self.uri}
        if not self.accepted:  # unknown to readers of version 0.1
            del record["accepted"]
        return json.dumps(record, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "manifest") -> "Manifest":
        """Parses `text`; `source` names it in errors.

        Raises:
            UserError: it is no manifest, or has a schema that this version does not read.
        """
        try:
            record = json.loads(text)
            record.pop("uri", None)
            if record["schema"] != SCHEMA:
                raise UserError(f"{source}: schema {record['schema']}, this version reads {SCHEMA}: run the step again")
            files = {name: File(**file) for name, file in record.pop("files").items()}
            return cls(files=files, **record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{source}: not a manifest of rushes ({error})") from error

    def write(self, path: Path) -> None:
        """Writes the pointer to `path`, atomically."""
        write_atomic(path, self.to_json().encode())

    @classmethod
    def read(cls, path: Path, *, kind: str | None = None) -> "Manifest":
        """Reads a pointer, and checks that it is of `kind`.

        Raises:
            UserError: missing, unreadable or of another kind.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot read the manifest ({error}): run the step that makes it") from error
        manifest = cls.from_json(text, source=str(path))
        if kind is not None and manifest.kind != kind:
            raise UserError(f"{path}: a manifest of kind {manifest.kind!r}, expected {kind!r}")
        return manifest
