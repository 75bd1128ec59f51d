"""`sample` through the real steps: an index is a function of its own archive, and of what its files hold."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rushes.config import PretrainConfig, Recipe
from rushes.footage.catalogue import INDEX
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.store import Manifest
from tests.footage.conftest import SMALL, write_video

RECIPE = Recipe(name="small", sample=SMALL, pretrain=PretrainConfig(crop=48))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    return tmp_path


def pinned(videos: Path | str, name: str = "pin.json", **options: Any) -> Path:
    """Pins an archive; returns the pointer."""
    out = open_store().folder("tests") / name
    pin(data=DataReference(videos=str(videos)), out=out, **options)
    return out


def sampled(pointer: Path, *, recipe: Recipe = RECIPE, partition: str = "") -> Manifest:
    return sample(recipe=recipe, pin=pointer, out=pointer.with_name("footage.json"), partition=partition)


def rows(made: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(open_store().checked(made.files[INDEX])).to_pylist()
    return found


def statuses(made: Manifest) -> list[tuple[str, str]]:
    return [(row["source"], row["status"]) for row in rows(made)]


# Archives that share a home ------------------------------------------------------------------------------------------


def test_the_second_archive_of_a_home_lists_no_file_of_the_first(home: Path) -> None:
    for n, name in enumerate("abc"):
        write_video(home / "one" / f"{name}.mp4", frames=30, first=10 * n)
    write_video(home / "two" / "d.mp4", frames=30, first=50)
    first, second = sampled(pinned(home / "one")), sampled(pinned(home / "two"))
    assert (first.summary["removed"], second.summary["removed"]) == (0, 0)
    assert statuses(second) == [("d.mp4", "sampled")]
    (home / "one" / "a.mp4").unlink()
    again = sampled(pinned(home / "one"))
    assert statuses(again) == [("a.mp4", "removed"), ("b.mp4", "sampled"), ("c.mp4", "sampled")]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4), min_size=2, max_size=4))
def test_an_index_is_a_function_of_its_own_archive(
    tmp_path_factory: pytest.TempPathFactory, archives: list[set[str]]
) -> None:
    """Whatever archives were sampled in the same home before: their shards are used, their files are not listed."""
    folder = tmp_path_factory.mktemp("shared")
    place = ("shard", "offset", "frame_offset")

    def indexed(home: str, number: int) -> list[dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUSHES_HOME", str(folder / home))
            made = sampled(pinned(folder / f"archive-{number}"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUSHES_HOME", str(folder / home))
            return [{name: value for name, value in row.items() if name not in place} for row in rows(made)]

    for number, names in enumerate(archives):
        for name in sorted(names):
            write_video(folder / f"archive-{number}" / f"{name}.mp4", frames=10, first=20 * ord(name))
    for number in range(len(archives)):
        assert indexed("shared", number) == indexed(f"alone-{number}", number)
