"""The index of footage: one Parquet row per segment, and one per shard.

`index.parquet` holds every planned segment in order of source and start, also those that are not used, with the reason.
`offset` and `length` give the bytes of a segment's mp4 in its shard, `frame_offset` its first frame in the shard's
motion sidecar. The metadata of its schema holds what all segments share (`Geometry`).
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rushes.errors import UserError
from rushes.footage.columns import column
from rushes.footage.rows import MOTION_QUANTILES, EncodingStats, Segment, Shard

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What all segments of a footage share."""

    short_side: int
    fps: float | None
    qp: int
    gop: int
    schema: int = SCHEMA


_SEGMENT = {
    "key": pa.string(),
    "source": pa.string(),
    "source_sha256": pa.string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "label": pa.string(),
    "group": pa.string(),
    "split": pa.string(),
}
_MEASURED = {
    "frames": pa.int32(),
    "fps": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "codec": pa.string(),
    "shard": pa.int32(),
    "offset": pa.int64(),
    "length": pa.int32(),
    "frame_offset": pa.int64(),
    "motion": pa.list_(pa.field("item", pa.float32(), nullable=False), len(MOTION_QUANTILES)),
    "cuts": pa.list_(pa.field("item", pa.int32(), nullable=False)),
    "fingerprint": pa.list_(pa.field("item", pa.uint64(), nullable=False), 2),
    "status": pa.string(),
    "reason": pa.string(),
    "message": pa.string(),
}
COLUMNS = (*_SEGMENT, *_MEASURED)
_INDEX = pa.schema([pa.field(name, kind, nullable=False) for name, kind in (_SEGMENT | _MEASURED).items()])
_SHARD = {str: pa.string(), int: pa.int64(), tuple[int, ...]: pa.list_(pa.field("item", pa.uint64(), nullable=False))}
_SHARDS = pa.schema([pa.field(f.name, _SHARD[f.type], nullable=False) for f in dataclasses.fields(Shard)])  # type: ignore[index]


class IndexRows:
    """Collects rows of the index in columns, batch by batch: few Python objects at a time, for any number of rows."""

    _BATCH = 512

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[tuple[Segment, EncodingStats]] = []

    def add(self, segment: Segment, measured: EncodingStats) -> None:
        """Appends a row."""
        self._pending.append((segment, measured))
        if len(self._pending) == self._BATCH:
            self._flush()

    def table(self) -> pa.Table:
        """All rows."""
        self._flush()
        return pa.Table.from_batches(self._batches, schema=_INDEX)

    def _flush(self) -> None:
        columns = [
            column([getattr(segment, name) for segment, _ in self._pending], kind) for name, kind in _SEGMENT.items()
        ] + [
            column([getattr(measured, name) for _, measured in self._pending], kind) for name, kind in _MEASURED.items()
        ]
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=_INDEX))
        self._pending = []


def write_index(path: Path, table: pa.Table, geometry: Geometry) -> None:
    """Writes `index.parquet`: the columns of `IndexRows.table`."""
    metadata = {"rushes": json.dumps(dataclasses.asdict(geometry), sort_keys=True)}
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        compression="zstd",
        write_statistics=False,
        use_dictionary=["source", "source_sha256", "label", "group", "split", "codec", "status", "reason"],
        # Small groups and pages: the writer holds one of each for every column.
        row_group_size=1 << 13,
        data_page_size=1 << 14,
        dictionary_pagesize_limit=1 << 16,
    )


def write_shards(path: Path, shards: Sequence[Shard]) -> None:
    """Writes `shards.parquet`."""
    columns = [column([getattr(shard, field.name) for shard in shards], field.type) for field in _SHARDS]
    pq.write_table(pa.Table.from_arrays(columns, schema=_SHARDS), path, compression="zstd")


def read_geometry(path: Path) -> Geometry:
    """Reads what the segments of `index.parquet` share.

    Raises:
        UserError: not an index, or of a schema this version does not read.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        record = json.loads(metadata[b"rushes"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path}: not an index of footage ({error}): run sample again") from error
    if record.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema {record.get('schema')}, this version reads {SCHEMA}: run sample again")
    return Geometry(**record)


def read_index(path: Path, columns: Sequence[str] = COLUMNS) -> tuple[pa.Table, Geometry]:
    """Reads columns of `index.parquet`, and what the segments share.

    Raises:
        UserError: not an index, or of a schema this version does not read.
    """
    geometry = read_geometry(path)
    try:
        return read_columns(path, columns), geometry
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not an index of footage ({error}): run sample again") from error


def read_shards(path: Path) -> list[Shard]:
    """Reads `shards.parquet`, in the order of the shards' numbers."""
    return [Shard(**{**row, "sources": tuple(row["sources"])}) for row in read_columns(path).to_pylist()]


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads columns of a Parquet file (all by default) in little more memory than they hold.

    In one thread, and not by pyarrow's `read_table`, which loads 40 MB of libraries for datasets.
    """
    with pq.ParquetFile(path) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
