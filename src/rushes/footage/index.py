"""The index of footage: one Parquet row a segment, and one a shard.

`index.parquet` holds every planned segment, also the quarantined ones with their reason; offset and length find a
segment's mp4 in its memory-mapped shard. Its schema's metadata holds what all segments share (`Geometry`).
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rushes.errors import UserError

SCHEMA = 1
CODEC = "h264"
SAMPLED, QUARANTINED = "sampled", "quarantined"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A row of the index."""

    key: str
    """16 hex characters, unique; the name of its members in the shard."""
    source: str
    """Path of the file it was cut from, relative to the videos' folder."""
    source_sha256: str
    start: float
    """Seconds from the file's first frame."""
    end: float
    label: str
    """Class name, "" where there is none."""
    group: str
    split: str
    """unlabelled, train, val or test."""
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    bytes: int = 0
    codec: str = CODEC
    shard: int = -1
    """-1 where quarantined."""
    offset: int = 0
    """Of the mp4 file in the shard."""
    length: int = 0
    status: str = SAMPLED
    reason: str = ""
    """Why it is quarantined: a short slug."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A row of `shards.parquet`: a tar of `<key>.mp4` and `<key>.json`, an object of the store."""

    shard: int
    sha256: str
    size: int
    segments: int


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What all segments of a footage share."""

    short_side: int
    fps: float | None
    qp: int
    gop: int
    schema: int = SCHEMA


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def _schema(row: type) -> pa.Schema:
    return pa.schema([pa.field(f.name, _TYPES[f.type], nullable=False) for f in dataclasses.fields(row)])  # type: ignore[index]


def write_index(path: Path, segments: Sequence[Segment], geometry: Geometry) -> None:
    """Writes `index.parquet`."""
    metadata = {"rushes": json.dumps(dataclasses.asdict(geometry), sort_keys=True)}
    schema = _schema(Segment).with_metadata(metadata)
    pq.write_table(pa.Table.from_pylist([vars(s) for s in segments], schema=schema), path)


def write_shards(path: Path, shards: Sequence[Shard]) -> None:
    """Writes `shards.parquet`."""
    pq.write_table(pa.Table.from_pylist([vars(s) for s in shards], schema=_schema(Shard)), path)


def read_index(path: Path) -> tuple[pa.Table, Geometry]:
    """Reads `index.parquet`: its rows and what they share.

    Raises:
        UserError: not an index, or of a schema this version does not read.
    """
    try:
        table = pq.read_table(path)
        record = json.loads((table.schema.metadata or {})[b"rushes"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path}: not an index of footage ({error}): run sample again") from error
    if record.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema {record.get('schema')}, this version reads {SCHEMA}: run sample again")
    return table, Geometry(**record)


def read_shards(path: Path) -> list[Shard]:
    """Reads `shards.parquet`, in the order of the shards' numbers."""
    return [Shard(**row) for row in pq.read_table(path).to_pylist()]
