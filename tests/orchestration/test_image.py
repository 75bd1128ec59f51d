"""The images' tag: one for each state of the code, and filled in only where a compiled pipeline is read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rushes import __version__
from rushes.orchestration.image import IMAGE_SOURCES, PLACEHOLDER, tag, with_tag
from rushes.orchestration.local import compiled_comparison, compiled_pipeline
from rushes.resources import bundle

IGNORED = shutil.ignore_patterns("__pycache__")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of everything that the tag covers."""
    shutil.copytree(bundle() / "src", tmp_path / "src", ignore=IGNORED)
    for name in IMAGE_SOURCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(bundle() / name, tmp_path / name)
    return tmp_path


def tag_of(source: Path) -> str:
    command = [sys.executable, "-m", "rushes.orchestration.image"]
    ran = subprocess.run(command, cwd=source, env={"PYTHONPATH": str(source)}, capture_output=True, check=True)
    return ran.stdout.decode().strip()


def test_the_tag_is_a_version_and_a_digest() -> None:
    assert re.fullmatch(re.escape(__version__) + "-[0-9a-f]{12}", tag())


@pytest.mark.parametrize("changed", ["src/rushes/errors.py", *IMAGE_SOURCES])
def test_whatever_the_image_holds_changes_the_tag(checkout: Path, changed: str) -> None:
    before = tag_of(checkout / "src")
    assert before == tag()
    with (checkout / changed).open("a") as file:
        file.write("# another line\n")
    assert tag_of(checkout / "src") != before


def test_what_python_compiles_by_the_way_changes_no_tag(checkout: Path) -> None:
    before = tag_of(checkout / "src")
    cache = checkout / "src" / "rushes" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "errors.cpython-399.pyc").write_bytes(b"anything")
    assert tag_of(checkout / "src") == before


def test_a_wheel_has_the_tag_of_the_checkout_that_it_was_built_from(checkout: Path) -> None:
    before, package = tag_of(checkout / "src"), checkout / "installed" / "rushes"
    shutil.copytree(checkout / "src" / "rushes", package, ignore=IGNORED)
    for name in ("deploy", "requirements"):
        shutil.move(checkout / name, package / "_bundled" / name)
    assert tag_of(package.parent) == before


@pytest.mark.parametrize("compiled", [compiled_pipeline(), compiled_comparison()])
def test_the_tag_is_filled_in_for_every_image_and_nothing_else_changes(compiled: Path) -> None:
    committed = compiled.read_text()
    filled = with_tag(committed)
    assert filled.replace(tag(), PLACEHOLDER) == committed
    images = re.findall(r"image: (\S+)", filled)
    assert images and {image.rpartition(":")[2] for image in images} == {tag()}
    assert with_tag(filled) == filled


def test_only_the_tag_of_an_image_is_a_placeholder() -> None:
    text = "command: [echo, 'image: x:this-code']\nimage: a/b@sha256:0\nvalue: rushes/python:this-code\n"
    assert with_tag(text) == text
    assert with_tag("  image: r.example.com:5000/a/b:this-code\n") == f"  image: r.example.com:5000/a/b:{tag()}\n"
