"""Sampling survives kills: complete shards stay as they are, and the end is an undisturbed run's, byte by byte.

The step itself runs, as a process with workers, in a place of its own: a home folder with its store and its pin.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import pytest

from rushes.footage.index import read_shards
from rushes.footage.reference import DataReference
from rushes.progress import read_events
from rushes.steps.pin import pin
from rushes.store import Manifest, Store, sha256_file
from tests.footage.conftest import write_video

SHARDS = 8
LATE = 3
"""Of the shards, those of the videos that come later."""
RUN = """
import sys
from pathlib import Path
from rushes.config import PretrainConfig, Recipe, SampleConfig
from rushes.steps.sample import sample

if __name__ == "__main__":
    config = SampleConfig(short_side=48, qp=10, segment_seconds=8.0, shard_segments=1, workers=int(sys.argv[1]))
    recipe = Recipe(name="small", sample=config, pretrain=PretrainConfig(crop=48))
    sample(recipe=recipe, pin=Path("pin.json"), out=Path("footage.json"), partition=sys.argv[2])
"""
Victim = Literal["group", "parent"]


@dataclass(frozen=True)
class Place:
    """Where `rushes sample` runs, and what it leaves there."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def copy(self) -> "Place":
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent)) / "place"
        return Place(shutil.copytree(self.folder, folder))

    def pin(self, videos: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUSHES_HOME", str(self.folder))
            patch.setenv("RUSHES_STORE", str(self.store))
            pin(data=DataReference(videos=str(videos)), out=self.folder / "pin.json")

    def start(self, *, workers: int, partition: str = "") -> "subprocess.Popen[bytes]":
        (self.folder / "tmp").mkdir(exist_ok=True)
        if not (self.folder / "run.py").exists():  # a run beside this one may be reading it
            (self.folder / "run.py").write_text(RUN)
        (self.folder / "events.jsonl").unlink(missing_ok=True)
        places = {"HOME": self.folder, "STORE": self.store, "PROGRESS": self.folder / "events.jsonl"}
        environment = os.environ | {f"RUSHES_{name}": str(path) for name, path in places.items()}
        environment |= {"TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "run.py", str(workers), partition]
        return subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True)

    def run(self, *, workers: int, partition: str = "") -> bool:
        """Runs to the end; whether all was done before."""
        assert self.start(workers=workers, partition=partition).wait() == 0
        events, _ = read_events(self.folder / "events.jsonl")
        return bool(events[-1]["cached"])

    def is_done(self) -> bool:
        return (self.folder / "footage.json").exists()

    def said(self) -> list[str]:
        events, _ = read_events(self.folder / "events.jsonl")
        return [event["message"] for event in events if event["event"] == "say"]

    def records(self) -> dict[Path, int]:
        """The records of complete shards, by the time of their writing."""
        return _written(self.store.glob("partial/*/shard-*.json"))

    def objects(self) -> dict[Path, int]:
        """The objects, all of them whole, by the time of their writing."""
        paths = [path for path in self.store.glob("objects/*/*") if not path.name.startswith(".")]
        assert all(path.name == sha256_file(path) for path in paths)
        return _written(paths)

    def made(self) -> dict[str, str]:
        """Digests of all that a finished run made, read from the disk: manifest, tables, shards and sidecars."""
        manifest, store = Manifest.read(self.folder / "footage.json", kind="footage"), Store(str(self.store))
        paths = {name: store.path(file) for name, file in manifest.files.items()}
        for shard in read_shards(paths["shards.parquet"]):
            for kind, sha256 in (("shard", shard.sha256), ("motion", shard.motion_sha256)):
                paths[f"{kind} {shard.shard}"] = self.store / "objects" / sha256[:2] / sha256
        paths["manifest"] = self.folder / "footage.json"
        return {name: sha256_file(path) for name, path in paths.items()}


def _written(paths: Iterable[Path]) -> dict[Path, int]:
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a run that ends removes its records
            found[path] = path.stat().st_mtime_ns
    return found


def running(group: int) -> list[int]:
    """The living processes of a process group."""
    return [process.pid for process in psutil.process_iter() if _lives_in(process, group)]


def _lives_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def kill(process: "subprocess.Popen[bytes]", victim: Victim) -> None:
    if victim == "group":
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def kill_a_run(place: Place, *, victim: Victim, workers: int, hand: random.Random) -> subprocess.Popen[bytes]:
    """Starts a run and kills it at a random moment, if it does not end before; what was complete stays as it is."""
    objects, records = place.objects(), place.records()
    process = place.start(workers=workers)
    # The first time as soon as there is something to go on from.
    enough = len(records) + hand.randrange(3) if records else 1
    wait_until(lambda: process.poll() is not None or len(place.records()) >= enough)
    time.sleep(hand.uniform(0, 0.3) if records else 0)
    kill(process, victim)
    assert objects.items() <= place.objects().items()
    assert place.is_done() or records.items() <= place.records().items()
    return process


def check_kills(
    start: Place, whole: dict[str, str], *, shards: int, kills: int, victim: Victim, workers: int = 2
) -> list[int]:
    """Kills and starts again, without waiting for orphans; once it is done, at another place from the beginning.

    Returns:
        How many shards were complete at most when a run took over from another, for each place.
    """
    hand, found, processes = random.Random(1), [], []
    while kills > 0:
        place, most = start.copy(), 0
        while kills > 0 and not place.is_done():
            most = max(most, len(place.records()))
            processes.append(kill_a_run(place, victim=victim, workers=workers, hand=hand))
            kills -= processes[-1].returncode == -signal.SIGKILL
        complete = len(place.records())
        cached = place.run(workers=workers)
        assert place.made() == whole
        expected = [f"{complete} of {shards} shards are complete from an earlier run"]
        assert place.said() == (expected if complete and not cached else []), "no complete shard is redone"
        left = [path.name for path in place.store.glob("partial/*/*") if not path.name.startswith(".")]
        assert not left, "unfinished work is not kept"
        found.append(max(most, complete))
    wait_until(lambda: not any(running(process.pid) for process in processes), seconds=20.0)
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long file, short ones, one content under two names, and one that is no video."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "a.mp4", frames=500)
    for n in range(SHARDS - 3):
        write_video(root / f"b{n}.mp4", frames=150, first=10 * n)
    shutil.copy(root / "b0.mp4", root / "copy.mp4")
    (root / "no.mp4").write_bytes(b"nonsense" * 50)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Place:
    """A place where nothing has been sampled yet; to be copied."""
    folder = tmp_path_factory.mktemp("places") / "start"
    folder.mkdir()
    place = Place(folder)
    place.pin(videos)
    return place


@pytest.fixture(scope="module")
def whole(start: Place) -> dict[str, str]:
    """What an undisturbed run with one worker makes."""
    place = start.copy()
    place.run(workers=1)
    return place.made()


@pytest.fixture(scope="module")
def grown(start: Place, tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Place:
    """A place where all but the last videos are sampled, and all are pinned."""
    root = shutil.copytree(videos, tmp_path_factory.mktemp("growing") / "videos")
    late = [path.rename(root.parent / path.name) for path in sorted(root.glob("b*.mp4"))[-LATE:]]
    place = start.copy()
    place.pin(root)
    place.run(workers=2)
    for path in late:
        path.rename(root / path.name)
    place.pin(root)
    (place.folder / "footage.json").unlink()
    return place


@pytest.mark.parametrize("victim", ["group", "parent"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    start: Place, whole: dict[str, str], victim: Victim
) -> None:
    assert any(check_kills(start, whole, shards=SHARDS, kills=3, victim=victim)), "some run went on from another"


def test_an_archive_that_is_killed_while_it_grows(grown: Place) -> None:
    undisturbed = grown.copy()
    undisturbed.run(workers=1)
    assert len(undisturbed.objects()) - len(grown.objects()) == 2 * LATE + 3, "shards, sidecars and tables"
    check_kills(grown, undisturbed.made(), shards=LATE, kills=2, victim="group")


def test_workers_end_with_their_parent_and_leave_nothing_that_counts(start: Place, whole: dict[str, str]) -> None:
    place = start.copy()
    process = place.start(workers=2)
    wait_until(lambda: len(place.records()) >= 2)
    assert len(running(process.pid)) >= 3, "the parent and its workers"
    kill(process, "parent")
    wait_until(lambda: not running(process.pid), seconds=20.0)
    records = place.records()
    for record in records:  # what a kill may leave of the files that were being written
        (record.parent / f"{record.stem}.part").write_bytes(record.read_bytes()[:100])
    for path in place.objects():
        path.with_name(f".part-{path.name[:8]}").write_bytes(b"half")
    place.run(workers=2)
    assert place.made() == whole


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_makes_the_same_bytes(start: Place, whole: dict[str, str], workers: int) -> None:
    place = start.copy()
    place.run(workers=workers)
    assert place.made() == whole


@pytest.mark.parametrize(("workers", "together"), [(2, False), (1, True)])
def test_three_parts_in_turn_or_at_once_make_the_same_bytes(
    start: Place, whole: dict[str, str], workers: int, together: bool
) -> None:
    place = start.copy()
    started = []
    for part in ("1/3", "2/3", "3/3"):
        started.append(place.start(workers=workers, partition=part))
        assert together or started[-1].wait() == 0
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(place.records()) == SHARDS
    place.run(workers=workers)
    assert place.said() == [f"{SHARDS} of {SHARDS} shards are complete from an earlier run"]
    assert place.made() == whole


def test_a_part_that_is_killed_is_made_up_for_by_the_run_that_joins_them(start: Place, whole: dict[str, str]) -> None:
    place = start.copy()
    one, two = place.start(workers=1, partition="1/2"), place.start(workers=1, partition="2/2")
    wait_until(lambda: len(place.records()) >= 1)
    kill(one, "group")
    assert two.wait() == 0
    assert SHARDS // 2 <= len(place.records()) < SHARDS
    place.run(workers=1)
    assert place.made() == whole


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["group", "parent"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_many_kills(start: Place, whole: dict[str, str], victim: Victim, workers: int) -> None:
    check_kills(start, whole, shards=SHARDS, kills=20, victim=victim, workers=workers)


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["group", "parent"])
def test_many_kills_while_an_archive_grows(grown: Place, victim: Victim) -> None:
    undisturbed = grown.copy()
    undisturbed.run(workers=1)
    check_kills(grown, undisturbed.made(), shards=LATE, kills=20, victim=victim)
