"""deploy/versions.yaml: `make check` fails where a release is older than allowed, or is pinned in one file only."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from deploy.versions import FILE, Pin, faults, read_pins
from tests.deploy.manifests import REPOSITORY

PINS = read_pins(REPOSITORY)
USED = [(pin, path) for pin in PINS for path in pin.used]
SAID = [(pin, path) for pin in PINS for path in pin.said]


def names(value: object) -> str:
    return value.name if isinstance(value, Pin) else str(value)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of all files that releases are read from."""
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for path in {path for _, path in USED + SAID}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    return tmp_path


def change(file: Path, pattern: str, release: str) -> None:
    """Puts another release where the pattern finds one."""
    text = file.read_text()
    found = re.search(pattern, text)
    assert found, f"{pattern} in {file}"
    file.write_text(text[: found.start(1)] + release + text[found.end(1) :])


def test_what_is_committed_agrees(checkout: Path) -> None:
    assert faults(REPOSITORY) == faults(checkout) == []


@pytest.mark.parametrize(("pin", "path"), USED, ids=names)
def test_an_older_release_is_found_wherever_one_is_named(pin: Pin, path: str, checkout: Path) -> None:
    change(checkout / path, pin.used[path], "0.0.9")
    (fault,) = faults(checkout)
    assert fault.startswith(f"{path}: {pin.name} 0.0.9 is older than {pin.oldest}: ") and pin.why in fault


@pytest.mark.parametrize(("pin", "path"), [(pin, path) for pin, path in USED if pin.pinned], ids=names)
def test_a_newer_release_stands_in_both_files(pin: Pin, path: str, checkout: Path) -> None:
    change(checkout / path, pin.used[path], "9999.1")
    (fault,) = faults(checkout)
    assert fault == f"{path}: {pin.name} 9999.1, and {FILE} pins {pin.pinned}: change both"


@pytest.mark.parametrize(("pin", "path"), SAID, ids=names)
def test_the_oldest_release_is_the_same_wherever_it_is_said(pin: Pin, path: str, checkout: Path) -> None:
    change(checkout / path, pin.said[path], "1.2")
    (fault,) = faults(checkout)
    assert fault == f"{path}: {pin.name}: says 1.2, and {pin.oldest} is the oldest allowed ({FILE})"


def test_a_pattern_that_finds_nothing_is_a_fault(checkout: Path) -> None:
    (checkout / "deploy" / "Dockerfile").write_text("FROM scratch AS wheel\n")
    assert {fault.split(": nothing")[0] for fault in faults(checkout)} == {
        "deploy/Dockerfile: triton-image",
        "deploy/Dockerfile: python-image",
        "deploy/Dockerfile: ffmpeg",
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("deploy/Dockerfile", "ARG OTHER=ghcr.io/else/thing:1.2.3\n"),
        ("deploy/kubernetes/base/triton.yaml", "          image: ghcr.io/else/thing:1.2.3 # a comment\n"),
        ("deploy/kind/else.yaml", "  - image: ghcr.io/else/thing:1.2.3\n"),
        ("deploy/kubernetes/small/kustomization.yaml", "  - name: ghcr.io/else/thing\n    newTag: 1.2.3\n"),
    ],
)
def test_an_image_without_an_entry_is_found(path: str, line: str, checkout: Path) -> None:
    file = checkout / path
    file.parent.mkdir(exist_ok=True)
    file.write_text((file.read_text() if file.exists() else "") + line)
    assert faults(checkout) == [f"{path}: the image ghcr.io/else/thing:1.2.3 has no entry in {FILE}"]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_releases_are_compared_as_numbers(one: list[int], other: list[int]) -> None:
    """Also 26.10 and 26.9, 1.28 and 1.28.0."""
    from deploy.versions import _unlike

    release, oldest = (".".join(map(str, parts)) for parts in (one, other))
    pin = Pin(name="x", since=PINS[0].since, oldest=oldest, why="reason")
    length = max(len(one), len(other))
    padded = [parts + [0] * (length - len(parts)) for parts in (one, other)]
    assert bool(list(_unlike(pin, "file", release))) == (padded[0] < padded[1])


def test_make_check_fails_by_a_planted_old_triton(checkout: Path) -> None:
    recipe = subprocess.run(
        ["make", "-n", "check"], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "-m deploy.versions" in recipe
    dockerfile = checkout / "deploy" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("tritonserver:26.08-py3", "tritonserver:24.12-py3"))
    argv = [sys.executable, "-m", "deploy.versions"]
    ran = subprocess.run(argv, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        "deploy/Dockerfile: triton-image 24.12 is older than 26.07: Published security bulletins"
    )


def test_every_pin_is_one_that_is_allowed() -> None:
    for pin in PINS:
        assert pin.pinned is None or Version(pin.pinned) >= Version(pin.oldest), pin.name
        assert pin.used or pin.said, f"{pin.name}: stands in no file"
