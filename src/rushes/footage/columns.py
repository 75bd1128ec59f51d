"""Arrow columns from plain values and back.

pyarrow's own conversions (`pa.array`, `to_numpy`) import pandas wherever it is installed: 40 MB and half a second.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NUMPY = {"double": "float64", "float": "float32"}


def column(
    values: Sequence[Any] | npt.NDArray[Any], kind: pa.DataType, *, missing: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """A column of numbers, texts, or lists of numbers.

    Args:
        values: [n]; an array, or plain values.
        kind: an integer or floating-point type, string, or a list of numbers.
        missing: [n]: where there is no value; for columns of numbers and texts.
    """
    valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    if pa.types.is_string(kind):
        texts = [value.encode() for value in values]
        data = pa.py_buffer(b"".join(texts))
        return pa.Array.from_buffers(kind, len(values), [valid, _offsets(map(len, texts)), data])
    if pa.types.is_fixed_size_list(kind):
        items = column(list(chain.from_iterable(values)), kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [None], children=[items])
    if pa.types.is_list(kind):
        items = column(list(chain.from_iterable(values)), kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [None, _offsets(map(len, values))], children=[items])
    numbers = np.ascontiguousarray(values, dtype=_NUMPY.get(str(kind), str(kind)))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(numbers)])


def _offsets(lengths: Iterable[int]) -> pa.Buffer:
    return pa.py_buffer(np.cumsum([0, *lengths], dtype=np.int32))


def mask(values: npt.NDArray[np.bool_]) -> pa.Array:
    """A column of truth values."""
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])


def plain(found: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of numbers or truth values without gaps as an array [n]; of lists of one length, [n, length]."""
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if pa.types.is_fixed_size_list(found.type):
        return plain(found.flatten()).reshape(-1, found.type.list_size)
    if pa.types.is_boolean(found.type):
        bits = np.frombuffer(found.buffers()[1] or b"", np.uint8)
        return np.unpackbits(bits, bitorder="little")[found.offset : found.offset + len(found)].astype(bool)
    kind = _NUMPY.get(str(found.type), str(found.type))
    return np.frombuffer(found.buffers()[1] or b"", kind)[found.offset : found.offset + len(found)]


def text(value: str) -> pa.Scalar:
    """A text as a scalar, to compare a column with."""
    return column([value], pa.string())[0]
