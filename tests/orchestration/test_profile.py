"""Profiles: strict, and a mistake is told with file and field."""

from pathlib import Path

import pytest

from rushes.errors import UserError
from rushes.orchestration.profile import Profile, read_profile


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_those_that_come_along_are_read_by_name(name: str) -> None:
    profile = read_profile(name)
    assert profile.name == name
    assert profile.secrets and profile.settings.keys


def test_an_empty_file_is_a_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    assert read_profile(str(tmp_path / "mine.yaml")) == Profile(name="mine")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "image: r.example.com/rushes@sha256:" + "a" * 64 + "\n"
        "gpu: {count: 2, tolerations: [{key: pool, operator: Equal, value: gpu}], node_selector: {zone: b}}\n"
        "volumes: {data: /data}\nretry: {count: 5, wait: 10s}\n"
    )
    profile = read_profile(str(file))
    assert (profile.gpu.count, profile.gpu.tolerations[0].value, profile.gpu.node_selector) == (2, "gpu", {"zone": "b"})
    assert (profile.volumes, profile.retry.count, profile.retry.wait) == ({"data": "/data"}, 5, "10s")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imgae: x", "profile mine.yaml: unknown key 'imgae'; did you mean 'image'?"),
        ("image: rushes/python:latest", "profile mine.yaml: image: 'rushes/python:latest' is not allowed, since a tag"),
        ("image: host:5000/rushes:1", "image: 'host:5000/rushes:1' is not allowed"),
        ("user: 0", "user: 0 is not allowed; the UID of somebody who is not root"),
        ("retry: {count: 0}", "retry: count: 0 is not allowed"),
        ("retry: {wait: 1 minute}", "retry: wait: '1 minute' is not allowed"),
        ("gpu: {count: -1}", "gpu: count: -1 is not allowed"),
        ("gpu: {shared_memory: lots}", "gpu: shared_memory: 'lots' is not allowed"),
        ("gpu: {tolerations: [{key: a, effect: Never}]}", "effect: 'Never' is not allowed; one of NoSchedule"),
        ("train: {memory: 16 GB}", "memory: '16 GB' is not allowed"),
        ("light: {timeout_minutes: 0}", "timeout_minutes: 0 is not allowed"),
        ("volumes: {cache: cache}", "volumes: cache: 'cache' is not allowed; a whole path"),
        ("partitions: 0", "partitions: 0 is not allowed; 1 or more"),
        ("- a", "holds list, not fields"),
        ("image: [", "is no YAML"),
    ],
)
def test_a_mistake_names_the_file_the_field_and_the_value(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as told:
        read_profile(str(file))
    assert words in str(told.value) and "mine.yaml" in str(told.value)


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"profile: 'nope' cannot be read .*: cpu, gpu, or a file.yaml"):
        read_profile("nope")
