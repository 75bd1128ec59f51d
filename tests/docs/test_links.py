"""Links, anchors and paths in what people read lead somewhere."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "models/*.md", "models/*/README.md", "benchmarks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
MADE = {"docs/cli.md", "docs/recipes.md"}
"""Pages that exist on the site only."""
LINK = re.compile(r"\]\((?P<target>[^()\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.md")
"""What in backticks looks like a path: `a/b`, `a/`, `a.md`."""
FOLDERS = {
    *("src", "tests", "docs", "models", "benchmarks", "components", "pipelines", "deploy", "requirements", "examples"),
    *(path.name for path in (ROOT / "src/rushes").iterdir() if path.is_dir()),
}
"""Paths that begin so are meant to be there, in the repository or in the package."""
YOURS = re.compile(r"(?:^|[/_])my[-_]")
"""A name that the reader chooses."""
README_LINES = 120


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: str) -> set[str]:
    """Those of a page's headings, as the site and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(text_of(page)), flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def broken(page: str, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    return [target for target in LINK.findall(prose(text)) if not leads(page, target)]


def leads(page: str, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    name = file.resolve().relative_to(ROOT).as_posix()
    if name in MADE:
        return True
    return file.exists() and (not anchor or (name.endswith(".md") and anchor in anchors(name)))


def missing_paths(text: str) -> list[str]:
    """Paths in backticks that are meant to be there, and are not."""
    words = [code.strip() for code in CODE.findall(prose(text))]
    paths = [word for word in words if PATH.fullmatch(word) and not YOURS.search(word)]
    paths = [path for path in paths if path.split("/")[0] in FOLDERS or "/" not in path]
    return [path for path in paths if not any((ROOT / folder / path).exists() for folder in ("", "src/rushes", "docs"))]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_lead_somewhere(page: str) -> None:
    assert broken(page, text_of(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_backticks_exist(page: str) -> None:
    assert missing_paths(text_of(page)) == []


def test_the_checker_sees_what_is_broken() -> None:
    links = "[a](docs/guide.md) [b](docs/nowhere.md) [c](docs/guide.md#labels) [d](docs/guide.md#nowhere)"
    assert broken("README.md", links) == ["docs/nowhere.md", "docs/guide.md#nowhere"]
    assert missing_paths("`src/nowhere.py` `src/rushes/digests.py` `digests.py` `a/b`") == ["src/nowhere.py"]


def test_anchors_are_unique_in_a_page() -> None:
    for page in PAGES:
        headings = re.findall(r"^#+ (.+)$", prose(text_of(page)), flags=re.MULTILINE)
        assert len(anchors(page)) == len(headings), f"{page}: two headings have one anchor"


def test_docstrings_point_at_anchors_that_exist() -> None:
    folders = ("src", "components", "pipelines", "examples")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    cited = [(path, cite) for path in sources for cite in re.findall(r"docs/(\w+\.md)(?:#([\w-]+))?", path.read_text())]
    assert cited
    for path, (page, anchor) in cited:
        assert (ROOT / "docs" / page).is_file(), path
        assert not anchor or anchor in anchors(f"docs/{page}"), f"{path}: docs/{page}#{anchor}"


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES
