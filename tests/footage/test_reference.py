from pathlib import Path

import pytest

from rushes.errors import UserError
from rushes.footage.reference import DataReference


def test_paths_become_absolute_and_a_url_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataReference(videos="films", labels="l.csv", fold=2, revision="main")
    expected = DataReference(videos=f"{tmp_path}/films", labels=f"{tmp_path}/l.csv", fold=2, revision="main")
    assert data.absolute() == expected and data.root == expected.videos
    assert DataReference(videos="s3://bucket/films/").absolute().videos == "s3://bucket/films"


def test_a_reference_that_nothing_can_resolve_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"data\.fold: 0 is not allowed; 1 or more"):
        DataReference(videos="films", fold=0)
    with pytest.raises(UserError, match=r"revision: 'main' with the URL 's3://films'"):
        DataReference(videos="s3://films", revision="main")


def test_labels_are_read_from_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("path,label\na/1.mp4,swim\nb/2.mp4,run\n")
    paths = ["a/1.mp4", "b/2.mp4"]
    folders = DataReference(videos=str(tmp_path)).annotations(paths)
    assert [annotation.label for annotation in folders] == ["a", "b"]
    table = DataReference(videos=str(tmp_path), labels=str(tmp_path / "other.csv"))
    assert [annotation.label for annotation in table.annotations(paths)] == ["swim", "run"]
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "labels.csv").write_text("path,label\na/1.mp4,old\nb/2.mp4,older\n")
    at = DataReference(videos=str(tmp_path)).annotations(paths, root=str(tmp_path / "checkout"))
    assert [annotation.label for annotation in at] == ["old", "older"]


def test_a_command_that_follows_gets_the_same_labels() -> None:
    assert DataReference(videos="films").flags() == []
    data = DataReference(videos="films", labels="l.csv", splits="ucf", fold=3)
    assert data.flags() == ["--labels", "l.csv", "--splits", "ucf", "--fold", "3"]
