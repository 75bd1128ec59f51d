"""An archive that grows, shrinks and is relabelled: only what is new is encoded, and no shard changes."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.index import read_index, write_index
from rushes.footage.sample import Partition, sample_footage
from rushes.footage.workers import Pool
from rushes.progress import NullProgress
from rushes.store import Store
from tests.footage.conftest import SMALL, Sampler, archive_of, numbers, write_video


def films(root: Path, names: str, *, frames: int = 40) -> None:
    for name in names:
        write_video(root / f"{name}.mp4", frames=frames, first=5 * ord(name))


def objects(store: Store) -> dict[Path, int]:
    assert store.local is not None
    return {path: path.stat().st_mtime_ns for path in (store.local / "objects").rglob("*") if path.is_file()}


def segments(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "index.parquet").to_pylist()
    return rows


def no_decoder(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a video was opened")


def test_new_files_append_shards_and_alter_none(tmp_path: Path, sample: Sampler) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "bdfh")
    before, first, out = sample(root, store=store, digest="aa")
    was, shards = objects(store), pq.read_table(out / "shards.parquet").to_pylist()
    films(root, "ae")
    after, second, out = sample(root, store=store, digest="bb", last="sample/aa")
    assert (first["new_shards"], second["new_shards"], second["shards"]) == (1, 1, 2)
    assert was.items() <= objects(store).items(), "what was there is as it was"
    assert pq.read_table(out / "shards.parquet").to_pylist()[:1] == shards
    assert after.texts("source").tolist() == [f"{name}.mp4" for name in "abdefh"]
    for row, name in enumerate("abdefh"):
        assert numbers(after.window(row, 0, 3)) == [(5 * ord(name) + n) % 200 for n in range(3)]
    assert np.array_equal(after.motion(1)[0], before.motion(0)[0])


def test_the_rows_of_a_grown_archive_are_those_of_a_fresh_one(tmp_path: Path, sample: Sampler) -> None:
    """Training draws by row: where a segment's bytes lie must not change what is learnt."""
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "bdfh")
    sample(root, store=store, digest="aa")
    films(root, "ae")
    _, _, grown = sample(root, store=store, digest="bb", last="sample/aa")
    kept = segments(grown)
    _, _, fresh = sample(root, name="fresh")
    place = {"shard", "offset", "frame_offset"}
    assert [{k: v for k, v in row.items() if k not in place} for row in kept] == [
        {k: v for k, v in row.items() if k not in place} for row in segments(fresh)
    ]


def test_an_unchanged_archive_opens_no_video(tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "abc")
    (root / "bad.mp4").write_bytes(b"nonsense" * 50)
    _, _, out = sample(root, store=store, digest="aa")
    before = segments(out)
    monkeypatch.setattr(Pool, "run", lambda pool, function, tasks: no_decoder() if tasks else iter(()))
    _, summary, out = sample(root, store=store, digest="bb", last="sample/aa")
    assert summary["new_shards"] == summary["new_bytes"] == 0
    assert segments(out) == before, "the quarantined file too"


def test_other_labels_and_splits_cost_no_encoding(tmp_path: Path, sample: Sampler) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "abcd")
    sample(root, store=store, digest="aa")
    annotations = [
        Annotation(path=f"{name}.mp4", label="xy"[n % 2], split="test" if n < 2 else "train")
        for n, name in enumerate("abcd")
    ]
    footage, summary, _ = sample(root, annotations, store=store, digest="bb", last="sample/aa")
    assert summary["new_shards"] == 0
    assert footage.segments.label.tolist() == ["x", "y", "x", "y"]
    assert footage.segments.split.tolist() == ["test", "test", "train", "train"]


def test_a_moved_file_is_known_by_its_content_and_a_removed_one_leaves_a_tombstone(
    tmp_path: Path, sample: Sampler
) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "abc")
    sample(root, store=store, digest="aa")
    (root / "a.mp4").rename(root / "moved.mp4")
    (root / "b.mp4").unlink()
    footage, summary, out = sample(root, store=store, digest="bb", last="sample/aa")
    assert (summary["new_shards"], summary["removed"]) == (0, 2)
    assert footage.texts("source").tolist() == ["c.mp4", "moved.mp4"]
    assert [(row["source"], row["status"]) for row in segments(out)] == [
        ("a.mp4", "removed"),
        ("b.mp4", "removed"),
        ("c.mp4", "sampled"),
        ("moved.mp4", "sampled"),
    ]
    films(root, "b")
    _, summary, _ = sample(root, store=store, digest="cc", last="sample/bb")
    assert (summary["removed"], summary["new_shards"]) == (1, 1), "back again, encoded anew"


def test_one_content_under_two_names_is_encoded_once(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    films(root, "ab")
    shutil.copy(root / "a.mp4", root / "copy.mp4")
    footage, _, out = sample(root)
    assert footage.texts("source").tolist() == ["a.mp4", "b.mp4", "copy.mp4"]
    assert footage.segments.offset[0] == footage.segments.offset[2]
    assert pq.read_table(out / "shards.parquet").to_pylist()[0]["segments"] == 2


def test_a_shard_that_has_gone_is_encoded_again(tmp_path: Path, sample: Sampler) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "abcde")
    _, _, out = sample(root, store=store, digest="aa")
    store.discard(pq.read_table(out / "shards.parquet").to_pylist()[0]["sha256"])
    footage, summary, _ = sample(root, store=store, digest="bb", last="sample/aa")
    assert (summary["new_shards"], summary["shards"]) == (1, 2)
    for row, name in enumerate("abcde"):
        assert numbers(footage.window(row, 0, 1)) == [5 * ord(name) % 200]


def test_a_decoder_that_took_too_long_is_tried_again(tmp_path: Path, sample: Sampler) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    films(root, "ab")
    _, _, out = sample(root, store=store, digest="aa")
    table, geometry = read_index(out / "index.parquet")
    rows = table.to_pylist()
    rows[0] |= {"status": "quarantined", "reason": "timeout", "shard": -1, "frames": 0}
    write_index(out / "index.parquet", pa.Table.from_pylist(rows, schema=table.schema), geometry)
    manifest = store.find("sample/aa")
    assert manifest is not None
    changed = {**manifest.files, "index.parquet": store.put(out / "index.parquet")}
    store.publish(dataclasses.replace(manifest, files=changed))
    footage, summary, _ = sample(root, store=store, digest="bb", last="sample/aa")
    assert (summary["new_shards"], len(footage.segments)) == (1, 2)


# Parts ---------------------------------------------------------------------------------------------------------------


def test_three_parts_and_a_merge_are_one_run(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    films(root, "abcdefghij")
    config = dataclasses.replace(SMALL, shard_segments=2)
    _, _, whole = sample(root, config=config, name="whole")
    store = Store(str(tmp_path / "store-parts"))
    done = []
    for n in (3, 1, 2):
        empty = tmp_path / f"part-{n}"
        empty.mkdir()
        done.append(
            sample_footage(
                archive=archive_of(root),
                config=config,
                store=store,
                digest="0123",
                out=empty,
                progress=NullProgress(),
                partition=Partition(number=n, count=3),
            )
        )
        assert not list(empty.iterdir())
    assert [part["shards"] for part in done] == [1, 2, 2]
    before = objects(store)
    _, _, merged = sample(root, config=config, name="parts", store=store)
    assert before.items() <= objects(store).items()
    for name in ("index.parquet", "shards.parquet", "probes.parquet"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()


def test_parts_agree_on_what_was_there_before_though_the_archive_grows_meanwhile(
    tmp_path: Path, sample: Sampler
) -> None:
    root, store = tmp_path / "videos", Store(str(tmp_path / "store"))
    config = dataclasses.replace(SMALL, shard_segments=1)
    films(root, "ab")
    sample(root, config=config, store=store, digest="aa")
    films(root, "cdef")
    common: dict[str, Any] = {"config": config, "store": store, "digest": "bb", "progress": NullProgress()}
    sample_footage(
        archive=archive_of(root, last="sample/aa"), out=tmp_path, partition=Partition(number=1, count=2), **common
    )
    sample(root, config=config, store=store, digest="other", last="sample/aa")  # another run, which ends first
    second = sample_footage(
        archive=archive_of(root, last="sample/other", previous=["sample/aa"]),
        out=tmp_path,
        partition=Partition(number=2, count=2),
        **common,
    )
    assert second == {"shards": 2, "of": 4, "partition": "2/2"}


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "a/b", "1/0", "-1/2"])
def test_a_part_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="1/3 to 3/3"):
        Partition.parse(text)
