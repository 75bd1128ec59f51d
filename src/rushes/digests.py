"""Digests of work and of code, known before the work is done; `rushes.steps.identity` says what they cover.

The code of a module is that of all project modules that it imports, directly or not, without comments, docstrings and
layout. So a change in serving/ re-runs no training, and a comment re-runs nothing.

`PLUMBING` is left out: modules that carry a result without computing it. The values of `rushes.config` are in a digest,
so a new field re-runs its own step and no other; objects of the store are checked against their SHA-256.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "rushes"
ROOT = Path(__file__).parents[1]
"""Folder that holds the package."""

PLUMBING = frozenset(
    f"{PACKAGE}{module}"
    for module in (
        "",
        ".acceptance",
        ".config",
        ".digests",
        ".errors",
        ".home",
        ".journal",
        ".store.backend",
        ".store.cache",
        ".store.files",
        ".store.folder",
        ".store.manifest",
        ".store.ranges",
        ".store.remote",
        ".store.store",
        ".plugins",
        ".progress",
        ".recipes",
        ".training.checkpoints",
        ".training.stopping",
        ".steps",
        ".steps.base",
        ".steps.belonging",
        ".steps.identity",
        ".steps.ranks",
        ".store",
        ".strict",
    )
)
"""Modules that every step imports and no result depends on."""


def step_digest(*, step: str, config: Mapping[str, Any], inputs: Mapping[str, str], code: str) -> str:
    """Digest (16 hex characters of a SHA-256) of a piece of work.

    Args:
        step: name of the step.
        config: plain data that the result depends on.
        inputs: name of each input to its manifest's `content`.
        code: digest of the code.
    """
    record = {"step": step, "config": config, "inputs": dict(inputs), "code": code}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(module: str, *, root: Path | None = None) -> str:
    """Digest of a project module and of every project module that it imports, at any depth, but for the plumbing.

    A package's `templates/` and videos count as code of the package.

    Args:
        module: dotted name, e.g. "rushes.steps.pretrain".
        root: folder that holds the package; the installed one by default.
    """
    return _digest(_closure([module], root or ROOT), root or ROOT)


def source_digest(files: Iterable[Path], *, root: Path | None = None) -> str:
    """Digest of modules outside of the project, in this order, wherever they lie, and of what they import from it."""
    parsed, root = [_parsed(path.read_text()) for path in files], root or ROOT
    code = "\0".join(module.essence for module in parsed)
    ours = _closure([name for module in parsed for name in _files_among(module.imports, root)], root)
    return hashlib.sha256(f"{code}\0{_digest(ours, root)}".encode()).hexdigest()[:16]


def project_imports(module: str, *, root: Path) -> set[str]:
    """Names of the project modules that `module` reaches by import statements anywhere in its code, itself included.

    A package's `__init__` counts as imported by its members, as in Python. `PLUMBING` is neither listed nor followed.
    """
    return _closure([module], root)


def _closure(modules: Iterable[str], root: Path) -> set[str]:
    found: set[str] = set()
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in found or name in PLUMBING:
            continue
        found.add(name)
        parts = name.split(".")
        pending += [".".join(parts[:n]) for n in range(1, len(parts))]
        pending += _files_among(_parsed(_source_path(name, root).read_text()).imports, root)
    return found


def _digest(modules: Iterable[str], root: Path) -> str:
    digest = hashlib.sha256()
    for name in sorted(modules):
        path = _source_path(name, root)
        digest.update(f"{name}\0{_parsed(path.read_text()).essence}\0".encode())
        if path.name == "__init__.py":
            for data in sorted([*path.parent.glob("templates/*"), *path.parent.glob("*.mp4")]):
                digest.update(f"{data.name}\0".encode() + data.read_bytes())
    return digest.hexdigest()[:16]


def _files_among(targets: Iterable[str], root: Path) -> list[str]:
    """Those targets of import statements that are modules; the others are names in one."""
    return [target for target in targets if _source_path(target, root).is_file()]


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        # `from package import x`: x may be a module or a name; the caller keeps what is a file.
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        names = []
    return [name for name in names if name.split(".")[0] == PACKAGE]


def _source_path(name: str, root: Path) -> Path:
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """The parts of a module that digests need."""

    essence: str
    """The code without comments, docstrings (of fields and constants too) and layout."""
    imports: tuple[str, ...]
    """Project modules, or names in them, that any statement imports."""


@functools.cache
def _parsed(source: str) -> _Parsed:
    tree = ast.parse(source)
    imports = tuple(target for node in ast.walk(tree) for target in _targets(node))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            code = [statement for statement in node.body if not _is_text(statement)]
            node.body = code or [ast.Pass()]
    return _Parsed(essence=ast.unparse(tree), imports=imports)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
