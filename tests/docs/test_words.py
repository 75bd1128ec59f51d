"""One name per idea: class names, and the words of docs/glossary.md."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
SHARED_NAMES = {
    "TritonPythonModel": "Triton looks for this name in each of its Python models",
}
"""Class names that may be there twice, each with its reason."""
FORBIDDEN = (
    "whoever",
    "what is what",
    "promised",
    "surroundings",
    "twins",
    "gone on with",
    "foretell",
    "foretold",
    "died",
    "a row a segment",
    "one a core",
    "thrice",
)
"""Words that docs/glossary.md has others for, and phrases that read as a riddle; in docstrings of src."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def docstrings() -> Iterator[tuple[str, str]]:
    """Of modules, classes, functions and fields, each with where it is."""
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(node.value.value.split())


def test_class_names_are_unique() -> None:
    names = Counter(node.name for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == set(SHARED_NAMES)


@pytest.mark.parametrize("word", FORBIDDEN)
def test_docstrings_use_the_words_of_the_glossary(word: str) -> None:
    pattern = re.compile(rf"\b{word}\b", re.IGNORECASE)
    assert [where for where, text in docstrings() if pattern.search(text)] == []


def test_what_the_glossary_rejects_is_not_a_word_of_it() -> None:
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    rows = [line.split("|")[1:4] for line in lines if line.startswith("| **")]
    words = [word for row, _, _ in rows for word in re.findall(r"\*\*(.+?)\*\*", row)]
    rejected = {word.strip() for _, _, row in rows for word in row.split(",") if word.strip()}
    assert len(words) > 60
    assert sorted(word for word, count in Counter(words).items() if count > 1) == ["index"]
    assert rejected & set(words) == set()


def test_docstrings_point_at_nothing_outside_the_repository() -> None:
    outside = re.compile(r"facts: (?:CRF|[\w-]+\.md)|methods\.md, trap|design\.md|\.\./shared(?!/data)|\bissue \d")
    folders = ("src", "components", "pipelines", "benchmarks", "tests", "examples", "deploy")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    assert [str(path) for path in files if outside.search(path.read_text())] == []


def test_the_architecture_shows_every_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    names = [name.strip() for layer in layers for name in layer.split("|")]
    drawing, page = (ROOT / "docs/layers.svg").read_text(), (ROOT / "docs/architecture.md").read_text()
    drawn = [
        name.strip() for text in re.findall(r'font-weight="600"[^>]*>([^<]+)<', drawing) for name in text.split(",")
    ]
    assert [name for layer in layers for name in drawn if name in layer.split(" | ")] == drawn, "in this order"
    assert set(drawn) == set(names)
    assert [name for name in names if f"`{name}/`" not in page and f"`{name}.py`" not in page] == []
