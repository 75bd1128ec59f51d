"""Folders that are classes, folders that are splits, and what is said of files that have neither."""

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.footage.labels import read_annotations


def read(videos: Sequence[str]) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    said: list[str] = []
    found = read_annotations(None, videos, say=said.append)
    return {a.path: (a.label, a.split) for a in found}, said


def test_split_folders_with_class_folders_in_them() -> None:
    videos = [
        "test/jump/c.mp4",
        "test/run/d.mp4",
        "train/jump/a.mp4",
        "train/run/b.mp4",
        "unlabelled/x.mp4",
        "val/run/e.mp4",
    ]
    found, said = read(videos)
    assert found == {
        "test/jump/c.mp4": ("jump", "test"),
        "test/run/d.mp4": ("run", "test"),
        "train/jump/a.mp4": ("jump", "train"),
        "train/run/b.mp4": ("run", "train"),
        "val/run/e.mp4": ("run", "val"),
    }
    assert said == ["folders are splits (<split>/<class>/<file>): 5 of 6 videos have a class"]


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "Testing"), ("TRAIN", "Test")])
def test_split_folders_in_other_spellings_and_inside_of_classes(names: tuple[str, str]) -> None:
    train, test = names
    found, said = read([f"jump/{test}/c.mp4", f"jump/{train}/a.mp4", f"run/{test}/d.mp4", f"run/{train}/b.mp4"])
    assert list(found.values()) == [("jump", "test"), ("jump", "train"), ("run", "test"), ("run", "train")]
    assert said == ["folders are splits (<class>/<split>/<file>): 4 of 4 videos have a class"]
    found, _ = read([f"{test}/jump/c.mp4", f"{train}/jump/a.mp4", f"{test}/run/d.mp4", f"{train}/run/b.mp4"])
    assert list(found.values()) == [("jump", "test"), ("jump", "train"), ("run", "test"), ("run", "train")]


def test_split_folders_without_classes_are_no_classes() -> None:
    found, said = read(["test/y.mp4", "train/x.mp4"])
    assert found == {"test/y.mp4": (None, "test"), "train/x.mp4": (None, "train")}
    assert said == ["folders are splits (<split>/<class>/<file>): 0 of 2 videos have a class"]


def test_without_a_test_folder_the_hash_decides_what_is_held_out() -> None:
    found, _ = read(["train/jump/a.mp4", "train/run/b.mp4", "validation/run/c.mp4"])
    assert list(found.values()) == [("jump", None), ("run", None), ("run", "val")]


def test_files_that_lie_deeper_have_the_split_of_their_folder() -> None:
    found, _ = read(["test/jump/day 1/c.mp4", "test/run/d.mp4", "train/jump/a.mp4", "train/run/b.mp4"])
    assert found["test/jump/day 1/c.mp4"] == (None, "test")


def test_splits_among_classes_are_refused() -> None:
    with pytest.raises(UserError, match="the folders 'test', 'train' look like splits, and 'dev' do not: name all of"):
        read(["dev/a.mp4", "test/b.mp4", "train/c.mp4"])


def test_one_class_of_a_splits_name_is_a_class() -> None:
    found, said = read(["bus/a.mp4", "car/b.mp4", "train/c.mp4"])
    assert found["train/c.mp4"] == ("train", None) and not said


def test_files_deeper_than_a_class_folder_are_named() -> None:
    found, said = read(["jump/b.mp4", "run/a.mp4", "run/day 1/c.mp4", "run/day 2/d.mp4", "unlabelled/x/y.mp4"])
    assert set(found) == {"jump/b.mp4", "run/a.mp4"}
    assert said == ["2 of 5 videos are unlabelled, as they lie deeper than <class>/<file>: run/day 1/c.mp4"]


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "Unlabelled", "UNLABELED"])
def test_the_folder_without_labels_is_no_class_in_any_spelling(name: str) -> None:
    found, _ = read(["jump/b.mp4", "run/a.mp4", f"{name}/c.mp4"])
    assert set(found) == {"jump/b.mp4", "run/a.mp4"}


def test_a_class_in_two_normal_forms_is_one_class() -> None:
    apart = unicodedata.normalize("NFD", "café")
    found, _ = read(["café/a.mp4", f"{apart}/b.mp4", "run/c.mp4"])
    assert {label for label, _ in found.values()} == {"café", "run"}


folders = st.sampled_from(["train", "test", "val", "run", "jump", "unlabelled", "Training", "a"])


@given(paths=st.lists(st.tuples(st.lists(folders, max_size=3), st.sampled_from(["x", "y", "z"])), max_size=10))
def test_any_folders_give_no_split_as_a_class_beside_another_and_keep_test_apart(
    paths: list[tuple[list[str], str]],
) -> None:
    videos = sorted({"/".join([*folders, f"{name}.mp4"]) for folders, name in paths})
    assume(not any(len(f) > 1 and {f[0].lower(), f[1].lower()} <= {"train", "test", "val"} for f, _ in paths))
    try:
        found, _ = read(videos)
    except UserError:
        return
    labels = {label.casefold() for label, _ in found.values() if label}
    assert not {"train", "test"} <= labels
    assert "unlabelled" not in labels
    for path, (_, split) in found.items():
        assert split != "test" or "test" in path.split("/")
