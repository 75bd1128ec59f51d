"""Sampling: every awkward file has its outcome, and neither workers nor kills change a byte."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage import probes, shard_writer
from rushes.footage.annotation import Annotation
from rushes.footage.archive import list_archive
from rushes.footage.labels import read_annotations
from rushes.footage.reader import Footage
from rushes.footage.rows import MOTION
from rushes.footage.shards import ShardRecord, ShardTask, Sidecar, is_abandoned, try_sources, write_shard
from rushes.footage.workers import Pool
from rushes.store import Store
from tests.decoding import decode_all
from tests.footage.conftest import SMALL, Said, Sampler, numbered_frames, numbers, write_video

QUARANTINED = {
    "derived/audio_only.mp4": "no_video_stream",
    "derived/corrupt_no_moov.mp4": "not_a_video",
    "derived/lfs_pointer.mp4": "lfs_pointer",
    "derived/random_bytes.mp4": "not_a_video",
    "derived/text_named.mp4": "not_a_video",
    "derived/zero_bytes.mp4": "empty",
}


def contents(out: Path, footage: Footage) -> dict[str, str]:
    """Digests of everything that a run made."""
    shards = pq.read_table(out / "shards.parquet").to_pylist()
    files = {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ("index.parquet", "shards.parquet")
    }
    return files | {str(shard["shard"]): shard["sha256"] for shard in shards}


def rows_of(footage: Footage, source: str) -> list[int]:
    return [row for row in range(len(footage.segments)) if footage.texts("source")[row] == source]


def small_dataset(root: Path, *, files: int = 6) -> list[Annotation]:
    """Files of two classes and one long one with intervals."""
    annotations = []
    for n in range(files):
        write_video(root / f"{n}.mp4", frames=20 + 3 * n, first=7 * n)
        split = "test" if n in (0, 1) else "train"
        annotations.append(Annotation(path=f"{n}.mp4", label="even" if n % 2 == 0 else "odd", split=split))
    write_video(root / "long.mp4", frames=190)
    annotations.append(Annotation(path="long.mp4", start=2.0, end=3.0, label="even", split="train"))
    annotations.append(Annotation(path="long.mp4", start=3.24, end=4.52, label="odd", split="train"))
    return annotations


@pytest.mark.real
def test_every_odd_video_is_sampled_or_quarantined_with_its_reason(shared_data: Path, sample: Sampler) -> None:
    root = shared_data / "odd_videos"
    config = SampleConfig(short_side=64, workers=2, shard_segments=8, segment_seconds=9.0)
    footage, summary, out = sample(root, config=config)
    table = pq.read_table(out / "index.parquet").to_pylist()
    assert {row["source"]: row["reason"] for row in table if row["status"] == "quarantined"} == QUARANTINED
    assert {row["source"] for row in table} == set(list_archive(str(root)).paths)
    assert summary["quarantine_reasons"]["not_a_video"] == 3
    assert all(str(root) not in entry["message"] for entry in summary["quarantine"]), "places are no part of footage"
    for name in ("derived/vfr.mp4", "derived/rot90_meta.mp4", "real/vfr_h264_yuv444p_128.mp4", "real/h264_dog.mp4"):
        whole = decode_all(root / name, short_side=64, fps=25.0)
        rows = rows_of(footage, name)
        assert footage.segments.frames[rows].sum() == len(whole), "pieces add up to the whole"
        pieces = np.concatenate([footage.window(row, 0, int(footage.segments.frames[row])) for row in rows])
        assert np.abs(pieces.astype(int) - whole).mean() < 5


def test_an_interval_yields_exactly_its_frames(tmp_path: Path, sample: Sampler) -> None:
    footage, summary, _ = sample(tmp_path / "videos", small_dataset(tmp_path / "videos"))
    segments = footage.segments
    rows = rows_of(footage, "long.mp4")
    found = [(segments.label[row], numbers(footage.window(row, 0, int(segments.frames[row])))) for row in rows]
    assert found == [
        ("", list(range(0, 50))),
        ("even", list(range(50, 75))),
        ("odd", list(range(81, 113))),
        ("", list(range(113, 190))),
    ]
    assert [round(float(s), 2) for s in segments.end[rows]] == [2.0, 3.0, 4.52, 7.6]
    assert summary["segments"] == 10 and summary["classes"] == ["even", "odd"]
    assert summary["splits"]["test"]["segments"] == 2
    assert summary["per_class"]["odd"] == {"test": 1, "train": 3}


def test_bytes_depend_on_the_plan_and_not_on_the_workers(tmp_path: Path, sample: Sampler) -> None:
    annotations = small_dataset(tmp_path / "videos")
    one, _, out_one = sample(tmp_path / "videos", annotations, name="one")
    two, _, out_two = sample(tmp_path / "videos", annotations, name="two", config=dataclasses.replace(SMALL, workers=2))
    assert contents(out_one, one) == contents(out_two, two)
    assert len(contents(out_one, one)) == 2 + 3, "three shards of at most four segments"


def test_processes_that_probed_many_files_are_replaced_and_no_byte_changes(
    tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, close, ended = small_dataset(tmp_path / "videos"), Pool.close, list[bool]()

    def counted(pool: Pool) -> None:
        ended.append(pool._executor is not None)
        close(pool)

    monkeypatch.setattr(Pool, "close", counted)
    few, _, out_few = sample(tmp_path / "videos", annotations, name="few")
    assert ended == [True]
    monkeypatch.setattr(probes, "_FILES_PER_TASK", 1)
    monkeypatch.setattr(probes, "_LASTING", 1)
    many, _, out_many = sample(tmp_path / "videos", annotations, name="many")
    assert ended == [True, True, True], "after probing, and at the end"
    assert contents(out_few, few) == contents(out_many, many)


def slow_first(task: ShardTask) -> ShardRecord:
    if task.number == 0:
        time.sleep(2)
    return write_shard(task)


def test_shards_that_finish_out_of_order_are_listed_in_order(
    tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writer, "write_shard", slow_first)
    annotations = small_dataset(tmp_path / "videos")
    footage, _, out = sample(tmp_path / "videos", annotations, config=dataclasses.replace(SMALL, workers=2))
    assert footage.segments.shard.tolist() == sorted(footage.segments.shard.tolist())
    assert [shard["shard"] for shard in pq.read_table(out / "shards.parquet").to_pylist()] == [0, 1, 2]


def test_shards_are_tars_whose_offsets_find_the_members(tmp_path: Path, sample: Sampler) -> None:
    footage, _, out = sample(tmp_path / "videos", small_dataset(tmp_path / "videos"))
    store = Store(str(tmp_path / "store-a"))
    for shard in pq.read_table(out / "shards.parquet").to_pylist():
        path = store.local
        assert path is not None
        with tarfile.open(path / "objects" / shard["sha256"][:2] / shard["sha256"]) as tar:
            members = tar.getmembers()
            for member in members:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            names = [member.name for member in members]
            rows = [row for row in range(len(footage.segments)) if footage.segments.shard[row] == shard["shard"]]
            keys = [str(key) for key in footage.texts("key")[rows]]
            assert names == [f"{key}.{kind}" for key in keys for kind in ("mp4", "json")]
            for row, key in zip(rows, keys, strict=True):
                file, card = tar.extractfile(f"{key}.mp4"), tar.extractfile(f"{key}.json")
                assert file is not None and card is not None
                assert file.read() == footage.mp4(row)
                assert json.load(card)["source_sha256"] == footage.texts("source_sha256")[row]


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from rushes.footage.sample import Archive, sample_footage
from rushes.progress import NullProgress
from rushes.store import Store
from tests.footage.conftest import SMALL, sources_of
import dataclasses
if __name__ == "__main__":
    Path({out!r}).mkdir()
    sample_footage(archive=Archive(root={root!r}, sources=sources_of(Path({root!r}))), digest="0123",
                   config=dataclasses.replace(SMALL, shard_segments=1), store=Store({store!r}), out=Path({out!r}),
                   progress=NullProgress())
"""


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_bytes(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    for n in range(12):
        write_video(root / f"{n:02d}.mp4", frames=300, first=n)
    config = dataclasses.replace(SMALL, shard_segments=1)
    script = tmp_path / "run.py"
    store = tmp_path / "store-b"
    places = {"root": str(root), "store": str(store), "out": str(tmp_path / "lost")}
    script.write_text(KILLED.format(path=[*sys.path, str(Path(__file__).parents[2])], **places))
    process = subprocess.Popen([sys.executable, str(script)])
    partial = store / "partial" / "0123"
    while len(list(partial.glob("shard-*.json"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in partial.glob("shard-*.json")}
    assert 2 <= len(done) < 12

    said = Said()
    resumed, _, out_resumed = sample(root, config=config, name="b", progress=said)
    whole, _, out_whole = sample(root, config=config, name="c")
    assert contents(out_resumed, resumed) == contents(out_whole, whole)
    assert said.messages == [f"{len(done)} of 12 shards are complete from an earlier run"]
    assert all((partial / name).stat().st_mtime_ns == stamp for name, stamp in done.items()), "none was redone"
    for child in children:
        assert not Path(f"/proc/{child}/exe").exists() or _ends(int(child)), "workers end with their parent"


def _ends(pid: int) -> bool:
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def test_a_shard_whose_object_has_gone_is_written_again(tmp_path: Path, sample: Sampler) -> None:
    annotations = small_dataset(tmp_path / "videos")
    first, _, out = sample(tmp_path / "videos", annotations)
    before = contents(out, first)
    shutil.rmtree(tmp_path / "store-a" / "objects")
    again, _, out = sample(tmp_path / "videos", annotations)
    assert contents(out, again) == before
    again.window(0, 0, 1)


def test_a_record_of_another_plan_is_not_taken_for_this_one(tmp_path: Path, sample: Sampler) -> None:
    annotations = small_dataset(tmp_path / "videos")
    sample(tmp_path / "videos", annotations)
    longer, _, _ = sample(tmp_path / "videos", annotations, config=dataclasses.replace(SMALL, qp=30))
    fresh, _, _ = sample(tmp_path / "videos", annotations, config=dataclasses.replace(SMALL, qp=30), name="fresh")
    assert longer.segments.length.tolist() == fresh.segments.length.tolist()


LOCKING = """
import fcntl, sys, time
file = open(sys.argv[1], "wb")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


def test_only_what_the_dead_left_counts_as_abandoned(tmp_path: Path) -> None:
    part = tmp_path / "shard-00001-x.part"
    process = subprocess.Popen([sys.executable, "-c", LOCKING, str(part)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert not is_abandoned(part)
    process.kill()
    process.communicate()
    assert is_abandoned(part)
    part.unlink()
    assert not is_abandoned(part)


# Decoders that crash or hang -----------------------------------------------------------------------------------------


def _crashes(task: ShardTask) -> bool:
    sources = {planned.segment.source for planned in task.planned}
    return "2.mp4" in sources - set(task.crashed)


def crashing_write(task: ShardTask) -> ShardRecord:
    if _crashes(task):
        os.kill(os.getpid(), signal.SIGSEGV)
    return write_shard(task)


def crashing_try(task: ShardTask) -> int:
    if _crashes(task):
        os.kill(os.getpid(), signal.SIGSEGV)
    return try_sources(task)


def test_a_file_that_kills_the_decoder_is_quarantined_alone(
    tmp_path: Path, sample: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writer, "write_shard", crashing_write)
    monkeypatch.setattr(shard_writer, "try_sources", crashing_try)
    _, summary, _ = sample(tmp_path / "videos", small_dataset(tmp_path / "videos"))
    assert [(bad["source"], bad["reason"]) for bad in summary["quarantine"]] == [("2.mp4", "decoder_crash")]
    assert "exit -11" in summary["quarantine"][0]["message"]
    assert summary["segments"] == 9


def test_a_decoder_over_its_time_is_a_timeout(tmp_path: Path, sample: Sampler) -> None:
    write_video(tmp_path / "videos" / "a.mp4", frames=30)
    with pytest.raises(UserError, match=r"no decodable video among 1 files: timeout \(1\)"):
        sample(tmp_path / "videos", config=dataclasses.replace(SMALL, decode_seconds=1e-9))


# Outcomes ------------------------------------------------------------------------------------------------------------


def test_nothing_decodable_is_an_error_with_the_reasons(tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"")
    (root / "b.avi").write_bytes(b"nonsense" * 100)
    (root / "c.avi").write_bytes(b"nonsense" * 99)
    with pytest.raises(UserError, match=r"no decodable video among 3 files: empty \(1\), not_a_video \(2\)"):
        sample(root)


@pytest.mark.real
@pytest.mark.parametrize(("share", "status"), [(0.5, "sampled"), (0.52, "quarantined")])
def test_a_cut_off_file_counts_by_the_share_that_decodes(
    shared_data: Path, tmp_path: Path, sample: Sampler, share: float, status: str
) -> None:
    root = tmp_path / "videos"
    write_video(root / "good.mp4", frames=30)
    shutil.copy(shared_data / "odd_videos" / "derived" / "corrupt_truncated.avi", root)  # 121 of 240 frames
    _, _, out = sample(root, config=dataclasses.replace(SMALL, min_share_decoded=share))
    row = pq.read_table(out / "index.parquet").to_pylist()[0]
    assert (row["source"], row["status"]) == ("corrupt_truncated.avi", status)
    assert row["reason"] == ("truncated" if status == "quarantined" else "")


def test_a_recording_without_a_length_in_its_header_is_cut_all_the_same(tmp_path: Path, sample: Sampler) -> None:
    class Pipe(io.RawIOBase):
        """A file that cannot be sought, so that the muxer writes no length: what a browser records."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with av.open(pipe, "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"crf": "4", "b": "2M", "deadline": "realtime", "cpu-used": "8"}
        for frame in numbered_frames(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode())
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "live.webm").write_bytes(bytes(pipe.data))
    footage, _, _ = sample(tmp_path / "videos", config=dataclasses.replace(SMALL, segment_seconds=1.5))
    assert footage.segments.frames.sum() == 100 and len(footage.segments) == 3


def test_footage_that_keeps_the_source_rate(tmp_path: Path, sample: Sampler) -> None:
    write_video(tmp_path / "videos" / "slow.mp4", frames=20, fps=10.0)
    write_video(tmp_path / "videos" / "usual.mp4", frames=50)
    footage, _, _ = sample(tmp_path / "videos", config=dataclasses.replace(SMALL, fps=None, segment_seconds=1.0))
    assert footage.fps is None
    assert footage.segments.fps.tolist() == [10.0, 10.0, 25.0, 25.0]
    assert numbers(footage.window(1, 0, 10)) == list(range(10, 20))


@pytest.mark.real
def test_ut_interaction_by_its_official_lists(shared_data: Path, tmp_path: Path, sample: Sampler) -> None:
    root = tmp_path / "videos"
    for path in list_archive(str(shared_data / "ut_interaction")).paths:
        if path.split("/")[0] in ("Push", "Kick"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(shared_data / "ut_interaction" / path)
    lists = tmp_path / "lists"
    lists.mkdir()
    for official in (shared_data / "splits" / "ut_interaction").glob("*.txt"):
        lines = [line for line in official.read_text().splitlines() if "Push" in line or "Kick" in line]
        (lists / official.name).write_text("\n".join(lines))
    annotations = read_annotations(root, list_archive(str(root)).paths, splits=lists, fold=1)
    footage, summary, _ = sample(root, annotations, config=dataclasses.replace(SMALL, workers=2, shard_segments=10))
    assert summary["segments"] == 40 and summary["quarantined"] == 0
    assert set(footage.texts("group")) <= {f"g{n:02d}" for n in range(1, 21)}
    test = {str(g) for g in footage.texts("group")[footage.select("test")]}
    assert test and not test & {str(g) for g in footage.texts("group")[footage.select("train", "val")]}
    assert len(footage.select("test")) == sum(a.split == "test" for a in annotations)


@pytest.mark.parametrize("lengths", [[], [0], [3], [7, 1, 2], [60_000, 60_000]])
def test_a_sidecar_filled_bit_by_bit_is_the_file_that_numpy_writes(lengths: list[int]) -> None:
    rng, sidecar, whole = np.random.default_rng(0), Sidecar(), io.BytesIO()
    parts = [np.frombuffer(rng.bytes(length * MOTION.itemsize), MOTION) for length in lengths]
    for part in parts:
        sidecar.add(part)
    np.save(whole, np.concatenate([np.empty(0, MOTION), *parts]))
    assert sidecar.to_bytes() == whole.getvalue()
    assert (sidecar.segments, sidecar.frames) == (len(lengths), sum(lengths))
