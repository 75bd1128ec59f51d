"""A store that version 0.1 wrote (`tests/data/store_0.1`): its footage is found without encoding.

It was made by `rushes pin --videos videos` and `rushes sample pace-r2plus1d --size cpu` of that version.
"""

import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rushes.config import PretrainConfig, Recipe, SampleConfig
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.index import read_shards
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.store import Manifest

OLD = Path(__file__).parents[1] / "data" / "store_0.1"
MADE = Manifest.read(OLD / "sample.json", kind="footage")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a copy of the old store, and its videos beside it."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "old"))
    return tmp_path / "old"


def recipe() -> Recipe:
    """That run's recipe, in today's fields."""
    fields = {name: value for name, value in MADE.config.items() if name != "motion"}
    return Recipe(name="old", sample=SampleConfig(**fields, workers=1), pretrain=PretrainConfig(crop=48))


def sampled(home: Path, recipe: Recipe) -> Manifest:
    pin(data=DataReference(videos=str(home / "videos")), out=home / "pin.json")
    return sample(recipe=recipe, pin=home / "pin.json", out=home / "footage.json")


def the_same_pyav() -> None:
    if metadata.version("av") != MADE.versions["av"]:
        pytest.skip(f"made by PyAV {MADE.versions['av']}, here is {metadata.version('av')}: bytes may differ")


def test_its_footage_is_found_without_encoding(old: Path) -> None:
    the_same_pyav()
    made = sampled(old, recipe())
    assert (made.summary["new_shards"], made.summary["segments"]) == (0, 5)
    assert made.inputs["pin"] == MADE.inputs["pin"], "what was pinned is what was pinned then"
    assert made.ref != MADE.ref
    assert_same(made, MADE)


def test_what_is_encoded_today_is_byte_for_byte_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    the_same_pyav()
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    shutil.copytree(OLD / "videos", tmp_path / "videos")
    made = sampled(tmp_path, recipe())
    assert made.summary["new_shards"] == MADE.summary["shards"]
    shutil.copytree(OLD / "store" / "objects", tmp_path / "store" / "objects", dirs_exist_ok=True)
    assert_same(made, MADE)


def test_footage_of_another_pyav_or_another_recipe_is_encoded_again(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(recipe(), sample=replace(recipe().sample, qp=30))
    assert sampled(old, other).summary["new_shards"] == 1
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if name == "av" else version(name))
    assert sampled(old, recipe()).summary["new_shards"] == 1


def assert_same(one: Manifest, other: Manifest) -> None:
    """The shards and their motion by SHA-256, the index in all its columns, and every file of a segment."""
    store = open_store()
    shards, earlier = (read_shards(store.checked(made.files[SHARDS])) for made in (one, other))
    assert shards == earlier and shards
    index, known = (pq.read_table(store.checked(made.files[INDEX])) for made in (one, other))
    assert index.select(known.column_names).equals(known)
    footage = [Footage(made, store) for made in (one, other)]
    rows = footage[0].select().tolist()
    assert len(rows) == 5
    assert all(footage[0].mp4(row) == footage[1].mp4(row) for row in rows)
