"""Columns: what goes in comes out, as Arrow itself would have it, and without what takes 40 MB."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rushes.footage.columns import column, mask, plain, text
from tests.footage.conftest import write_video

COLUMNS: list[tuple[list[Any], pa.DataType]] = [
    ([1, -2, 3], pa.int32()),
    ([2**63 + 1, 0], pa.uint64()),
    ([0.5, -1.25], pa.float64()),
    ([0.5, -1.25], pa.float32()),
    (["", "é\u2028", "b\n"], pa.string()),
    ([(1, 2), (), (3,)], pa.list_(pa.int32())),
    ([(1, 2), (3, 4)], pa.list_(pa.uint64(), 2)),
    ([], pa.string()),
    ([], pa.int64()),
]


@pytest.mark.parametrize(("values", "kind"), COLUMNS, ids=str)
def test_a_column_equals_arrows_own(values: list[Any], kind: pa.DataType) -> None:
    made = column(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))
    if not (pa.types.is_string(kind) or kind == pa.list_(pa.int32())):
        joined = pa.chunked_array([made, made.slice(1)])
        assert plain(joined).tolist() == [list(v) if isinstance(v, tuple) else v for v in values + values[1:]]


def test_what_is_missing_is_null() -> None:
    missing = np.array([False, True] * 5)
    for kind, values in ((pa.int64(), list(range(10))), (pa.string(), list("abcdefghij"))):
        made = column(values, kind, missing=missing)
        made.validate(full=True)
        assert made.to_pylist() == [None if gone else value for value, gone in zip(values, missing, strict=True)]


def test_truth_values_and_a_text_to_compare_with() -> None:
    values = np.arange(21) % 3 == 0
    assert mask(values).equals(pa.array(values)) and (plain(mask(values).slice(5)) == values[5:]).all()
    assert text("é").equals(pa.scalar("é"))


def test_sampling_does_not_import_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=20, first=30 * ord(name))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.footage.conftest import sampler\n"
        f"work = Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__':\n"
        "    found, _, _ = sampler(work)(work / 'videos')\n"
        "    found.shots(found.select())\n"
        "    assert 'pandas' not in sys.modules\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    subprocess.run(
        [sys.executable, script], check=True, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."}
    )
