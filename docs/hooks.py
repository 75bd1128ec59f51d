"""What `make docs` adds to docs/: pages that lie elsewhere in the repository, and the reference of the command line.

A page's path on the site is its path in the repository without `docs/`. Links are written for the repository, so that
they work there too, and are turned as a page is built; a link to a file that is not on the site becomes its name.
"""

import dataclasses
import functools
import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rushes.cli import GROUPS
from rushes.config import Optimizer, RecipeSections

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "models/*.md",
    "models/*/README.md",
    "benchmarks/*.md",
    "examples/*.md",
)
"""Pages of the site that lie outside docs/."""
WIDE = ("models/RESULTS", "benchmarks/")
"""Pages whose tables take the room of the table of contents."""
_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\))*)\]\((?P<target>[^()\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the model cards and the benchmarks in the navigation."""
    for section in config.nav or []:
        for entries in section.values():
            if section.get("Methods") is entries:
                entries.append({"Model cards": [_entry(path) for path in _found("models/*/README.md")]})
                entries.append({"Benchmarks": [_entry(path) for path in _found("benchmarks/*.md")]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of `ELSEWHERE`, and the command line's."""
    for pattern in ELSEWHERE:
        for path in _found(pattern):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "cli.md", content=command_line()))
    files.append(File.generated(config, "recipes.md", content=recipes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the links of a page."""
    home = page.file.src_uri if (ROOT / page.file.src_uri).is_file() else f"docs/{page.file.src_uri}"
    known = {file.src_uri for file in files}

    def turn(match: re.Match[str]) -> str:
        text = _LINK.sub(turn, match["text"])
        return f"{match['bang']}[{text}]({target})" if (target := _turned(match["target"], home, known)) else text

    if page.file.src_uri.startswith(WIDE):
        page.meta["hide"] = ["toc"]
    return _LINK.sub(turn, markdown)


def _turned(target: str, home: str, known: set[str]) -> str | None:
    """The link on the site, or None where its file is not there."""
    path, _, anchor = target.partition("#")
    if ":" in path or not path:
        return target
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(home), path)).removeprefix("docs/")
    if wanted not in known:
        return None
    here = posixpath.dirname(home.removeprefix("docs/"))
    return posixpath.relpath(wanted, here or ".") + (f"#{anchor}" if anchor else "")


def _found(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def _entry(path: str) -> dict[str, str]:
    name = Path(path)
    return {name.parent.name if name.name == "README.md" else name.stem: path}


def command_line() -> str:
    """The page of all commands, from the classes that the command line is made of."""
    lines = [
        "# Command line",
        "",
        "Made from the commands as the site is built. Commands that take a model also take its recipe's fields as "
        "flags, such as `--pretrain.epochs 5`: [recipes](recipes.md). `rushes COMMAND --help` says the same, "
        "with the chosen model's values as defaults. Exit status: 0 done, 1 failed or found something, 2 a mistake "
        "in what was typed or given, 75 stopped by SIGTERM while training, which is saved, 130 interrupted.",
    ]
    for title, commands in GROUPS.items():
        lines += ["", f"## {title}"]
        for name, command in commands.items():
            lines += ["", f"### rushes {name}", "", *_described(command), "", *_table(name, command)]
    return "\n".join(lines) + "\n"


def recipes() -> str:
    """The page of all hyperparameters, from the dataclasses that a recipe fills."""
    lines = [
        "# Recipes",
        "",
        "Every hyperparameter, made from `rushes.config` as the site is built. A recipe (`models/<name>/recipe.yaml`) "
        "has a section for each step; flags (`--pretrain.epochs 5`) override it. Here are the defaults, which a recipe "
        "may leave as they are. Fields marked * change the speed and no result, and are in no digest.",
    ]
    for field in dataclasses.fields(RecipeSections):
        section = field.default_factory
        if isinstance(section, type):
            lines += ["", f"## {field.name}", "", inspect.getdoc(section) or "", "", *_fields(section, field.name)]
    lines += ["", "## optimizer", "", f"Of `pretrain` and `finetune`. {inspect.getdoc(Optimizer)}", ""]
    return "\n".join([*lines, *_fields(Optimizer, "SECTION.optimizer")]) + "\n"


def _fields(section: type, prefix: str) -> Iterator[str]:
    """A table of a section's fields."""
    meanings = _meanings(section)
    yield from ("| field | default | |", "|---|---|---|")
    for field in dataclasses.fields(section):
        star = "" if field.metadata.get("digest", True) else " *"
        yield f"| `{prefix}.{field.name}`{star} | {_default(field)} | {_cell(meanings.get(field.name, ''))} |"


def _described(command: type) -> Iterator[str]:
    """The docstring; a line of it that is a command is shown as one."""
    for line in (inspect.getdoc(command) or "").splitlines():
        yield from ["```sh", line, "```"] if line.startswith("rushes ") else [line]


def _table(name: str, command: type) -> Iterator[str]:
    flags = [field for field in dataclasses.fields(command) if field.name != "recipe"]
    if not flags:
        return
    meanings = _meanings(command)
    yield from ("| | default | |", "|---|---|---|")
    for field in flags:
        text = _cell(meanings.get(field.name, ""))
        yield f"| `{_flag(field)}` | {_default(field)} | {text} |"
    if len(flags) < len(dataclasses.fields(command)):
        yield "| `--SECTION.FIELD` | the recipe's | [a field of the recipe](recipes.md) |"


def _flag(field: "dataclasses.Field[Any]") -> str:
    if "Positional" in str(field.type):
        return field.name.upper()
    return f"--{field.name}"


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value):
        return "see below"
    return "" if value in ("", (), None, {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meanings(command: type) -> dict[str, str]:
    """The text under each field, of the class and of those that it extends."""
    found: dict[str, str] = {}
    for cls in reversed(command.__mro__):
        if cls.__module__.startswith("rushes"):
            members = _package()[f"{cls.__module__.removeprefix('rushes.')}.{cls.__name__}"].members
            found |= {name: member.docstring.value for name, member in members.items() if member.docstring}
    return found


@functools.cache
def _package() -> griffe.Module:
    """The package's sources, read and not imported."""
    package = griffe.load("rushes", search_paths=[ROOT / "src"])
    assert isinstance(package, griffe.Module)
    return package


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
