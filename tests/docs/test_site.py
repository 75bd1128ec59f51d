"""`make docs` builds the site without a warning, and the site needs nothing from elsewhere."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rushes.cli import COMMANDS
from rushes.config import RecipeSections

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?(?:https?:)?//|<link[^>]*\bhref=\"?(?:https?:)?//")
"""What a browser would load from elsewhere."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it; without a network, a request would fail."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr
    return folder


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []


def test_every_page_that_is_committed_is_there(site: Path) -> None:
    for page in ("index", "guide", "methods", "decisions", "CONTRIBUTING", "models/RESULTS", "models/opn/index"):
        assert (site / f"{page}.html").is_file(), page


def test_the_reference_has_every_command_and_the_recipes_fields(site: Path) -> None:
    commands, recipes = (site / "cli.html").read_text(), (site / "recipes.html").read_text()
    assert [name for name in COMMANDS if f"rushes {name}<" not in commands] == []
    sections = dataclasses.asdict(RecipeSections())
    fields = [f"{step}.{name}" for step, section in sections.items() if isinstance(section, dict) for name in section]
    assert len(fields) > 40
    assert [field for field in fields if f"{field}</code>" not in recipes] == []


def test_links_lead_from_page_to_page(site: Path) -> None:
    broken = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'<(?:a|img)[^>]* (?:href|src)="?([^"\s>#]+)', page.read_text()):
            if ":" not in link and page.name != "404.html" and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []
