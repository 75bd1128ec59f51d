"""A store that version 0.1 wrote (`tests/data/store_0.1`): its footage is found by a person's word, without encoding.

That version did not check that a file was still the pinned one when it was encoded, so today's code does not use its
shards by itself.

It was made by `rushes pin --videos videos` and `rushes sample pace-r2plus1d --size cpu` of that version.
"""

import shutil
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rushes.acceptance import Acceptance, add_acceptance
from rushes.config import PretrainConfig, Recipe, SampleConfig
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.index import read_shards
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.steps.identity import step_code
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.store import Manifest
from tests.footage.conftest import write_video

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


def accept() -> None:
    acceptance = Acceptance(
        step="sample",
        earlier=MADE.code,
        code=step_code("sample"),
        reason="its files did not change",
        by="me",
        time="2026",
    )
    add_acceptance(open_store(), acceptance)


def test_its_footage_is_found_without_encoding_by_a_persons_word(old: Path) -> None:
    accept()
    made = sampled(old, recipe())
    assert made.accepted and made.accepted["ref"] == MADE.ref
    assert made.ref != MADE.ref
    assert_same(made, MADE)


def test_a_grown_archive_uses_accepted_shards_only(old: Path) -> None:
    write_video(old / "videos" / "new.mp4", frames=30)
    summary = sampled(old, recipe()).summary
    assert (summary["new_shards"], summary["shards"]) == (1, 1), "all of it: no person said that the old footage stands"
    store = open_store()
    for family in store.names("footage"):
        for name in store.names(f"footage/{family}"):
            store.remove(f"footage/{family}/{name}")
    accept()
    write_video(old / "videos" / "newer.mp4", frames=30, first=30)
    summary = sampled(old, recipe()).summary
    assert (summary["new_shards"], summary["shards"], summary["segments"]) == (1, 2, 7)


def test_what_is_encoded_today_is_byte_for_byte_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    the_same_pyav()
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    shutil.copytree(OLD / "videos", tmp_path / "videos")
    made = sampled(tmp_path, recipe())
    assert made.summary["new_shards"] == MADE.summary["shards"]
    shutil.copytree(OLD / "store" / "objects", tmp_path / "store" / "objects", dirs_exist_ok=True)
    assert_same(made, MADE)


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
