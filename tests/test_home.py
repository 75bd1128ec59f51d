"""Where things are, by the environment."""

from pathlib import Path

import pytest

from rushes.errors import UserError
from rushes.home import home_folder, open_store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUSHES_HOME", "RUSHES_STORE", "RUSHES_CACHE", "RUSHES_CACHE_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_by_default_all_is_in_one_folder_here(tmp_path: Path) -> None:
    assert home_folder() == tmp_path / ".rushes"
    assert open_store().local == tmp_path / ".rushes" / "store"
    # Asking where things are makes nothing.
    assert list(tmp_path.iterdir()) == []


def test_an_empty_variable_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUSHES_HOME", "RUSHES_STORE", "RUSHES_CACHE", "RUSHES_CACHE_GB"):
        monkeypatch.setenv(name, "")
    assert home_folder() == tmp_path / ".rushes"
    assert open_store().local == tmp_path / ".rushes" / "store"


def test_each_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", "mine")
    assert open_store().local == tmp_path / "mine" / "store"
    monkeypatch.setenv("RUSHES_STORE", "memory://bucket/prefix")
    store = open_store()
    assert (store.local, store.cache.folder) == (None, tmp_path / "mine" / "cache")
    monkeypatch.setenv("RUSHES_CACHE", str(tmp_path / "fast"))
    file = open_store().put_bytes(b"x")
    assert open_store().path(file).is_relative_to(tmp_path / "fast")


def test_the_cache_has_the_limit_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_STORE", "memory://bucket/prefix")
    assert open_store().cache.limit is None
    monkeypatch.setenv("RUSHES_CACHE_GB", "1.5")
    assert open_store().cache.limit == 1_500_000_000
    for bad in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("RUSHES_CACHE_GB", bad)
        with pytest.raises(UserError, match=f"RUSHES_CACHE_GB: '{bad}' is not allowed; a number of GB"):
            open_store()
