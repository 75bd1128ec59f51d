"""What Kubeflow Pipelines keeps of an artifact beside its file: values that its launcher accepts, and no others.

A null among an artifact's metadata fails a task whose work is done, and NaN or an infinity makes the file of its
outputs unreadable there, since JSON has neither. Every component fills its metadata by one of these functions.
"""

import math
from collections.abc import Mapping

from rushes.store import Manifest
from rushes.strict import Json


def metadata_of(manifest: Manifest, **more: Json) -> dict[str, Json]:
    """The metadata of an artifact that points to a step's output: its ref, its summary, and `more` about it."""
    return storable({**more, "ref": manifest.ref, **manifest.summary})


def storable(record: Mapping[str, Json]) -> dict[str, Json]:
    """A record without the values that the launcher refuses: None, NaN and infinities.

    A field of such a value is left out, at any depth. In a list, where positions count, its text takes its position:
    "None", "nan", "inf" or "-inf".
    """
    return {str(name): _plain(value) for name, value in record.items() if _is_storable(value)}


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return storable(value)
    if isinstance(value, list | tuple):
        return [_plain(item) if _is_storable(item) else str(item) for item in value]
    return value


def _is_storable(value: Json) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
