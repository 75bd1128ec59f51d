"""Pretext tasks and backbones by name: built in, from a file given by `--plugin`, or from an installed package.

A module defines them by a dict that is written out at its end, `TASKS = {"pace": Pace}` or
`BACKBONES = {"my_net": MyNet}`: the name in recipes, and the class or a function that makes the network. Names are read
from the source, so that nothing is imported before it is used. Three kinds of modules are searched:

- those of `rushes.pretext` and `rushes.backbones`;
- files given by `--plugin`;
- installed packages, by their entry points:

      [project.entry-points."rushes.pretext"]
      infonce = "my_package:InfoNCE"

      [project.entry-points."rushes.backbones"]
      my_net = "my_package.networks:MyNet"

A step's digest covers the code of the task and the backbone that it uses, and of no other: their module, or all modules
of the installed package and its version; and what these import from this package, or from modules that are not
installed. It does not cover other installed packages, nor data that the code reads from files.
"""

import ast
import functools
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from rushes import digests
from rushes.config import NO_TASK
from rushes.digests import code_digest, source_digest
from rushes.errors import UserError

Kind = Literal["task", "backbone"]
PACKAGES: dict[Kind, str] = {"task": "rushes.pretext", "backbone": "rushes.backbones"}
"""Package of the built-in ones, and group of the entry points."""
DICTS: dict[Kind, str] = {"task": "TASKS", "backbone": "BACKBONES"}
"""Name of the dict in a module."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A task or a backbone, not imported yet."""

    source: str
    """Where it is defined, for people."""
    load: Callable[[], Any]
    """Imports it."""
    digest: Callable[[], str]
    """Of its code, 16 hex characters; imports nothing."""


_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages."""
_NOT_FOLLOWED = frozenset({digests.PACKAGE, *sys.stdlib_module_names})

_files: dict[Path, ModuleType] = {}  # of the last `use`


def use(files: Iterable[str | Path]) -> None:
    """Runs these files, so that a mistake in one is known at once; they take the place of those used before.

    Raises:
        UserError: a file is missing, cannot be run, or defines neither dict.
    """
    fresh = {path: _run(path) for path in dict.fromkeys(Path(file).resolve() for file in files)}
    _files.clear()
    _files.update(fresh)


def known(kind: Kind) -> dict[str, Definition]:
    """All tasks, or all backbones, by name: built-in ones, then those of the files in use, then installed ones.

    Raises:
        UserError: two have the same name.
    """
    found: dict[str, Definition] = {}
    for name, definition in [*_built_in(kind), *_from_files(kind), *_installed(kind)]:
        if name in found:
            both = f"{found[name].source} and by {definition.source}"
            raise UserError(f"pretrain.{kind}: {name!r} is defined by {both}: rename or remove one")
        found[name] = definition
    if kind == "task" and NO_TASK in found:
        raise UserError(f"pretrain.task: {NO_TASK!r}, by {found[NO_TASK].source}, stands for no task: rename it")
    return found


def built_in(kind: Kind) -> tuple[str, ...]:
    """Names of the built-in tasks or backbones."""
    return tuple(name for name, _ in _built_in(kind))


def load(kind: Kind, name: str) -> Any:
    """Imports the task or the backbone that a recipe names.

    Raises:
        UserError: the name is unknown or ambiguous, or its module does not import.
    """
    definition = _find(kind, name)
    found = definition.load()
    if not callable(found):
        raise UserError(f"{definition.source}: {name!r} is {found!r}; expected a class or a function of a {kind}")
    return found


def record(*, task: str = NO_TASK, backbone: str = "") -> dict[str, Any]:
    """What a step's config says of the task and the backbone that it uses: their names and their code's digests.

    Raises:
        UserError: a name is unknown or ambiguous.
    """
    used: dict[Kind, str] = {"task": "" if task == NO_TASK else task, "backbone": backbone}
    return {
        "definitions": {kind: {"name": name, "code": _find(kind, name).digest()} for kind, name in used.items() if name}
    }


def code_of(kind: Kind, name: str) -> str | None:
    """Digest of the code of a task or a backbone; None where the name is not known."""
    definition = known(kind).get(name)
    return definition.digest() if definition else None


def _find(kind: Kind, name: str) -> Definition:
    definitions = known(kind)
    if name not in definitions:
        names = ", ".join(definitions)
        raise UserError(f"pretrain.{kind}: {name!r} is not known; one of {names}; or give --plugin FILE.py")
    return definitions[name]


def _built_in(kind: Kind) -> list[tuple[str, Definition]]:
    package = PACKAGES[kind]
    folder = digests.ROOT.joinpath(*package.split("."))
    return [
        (name, _of_module(f"{package}.{path.stem}", kind, name))
        for path in sorted(folder.glob("[!_]*.py"))
        for name in _names(path.read_text(), DICTS[kind], str(path))
    ]


def _of_module(module: str, kind: Kind, name: str) -> Definition:
    return Definition(
        source=module,
        load=lambda: _defined(importlib.import_module(module), kind, name, module),
        digest=lambda: code_digest(module),
    )


def _defined(module: ModuleType, kind: Kind, name: str, where: str) -> Any:
    """What a module's dict holds once it has run, which need not be what is written there."""
    found = getattr(module, DICTS[kind], None)
    if not isinstance(found, Mapping) or name not in found:
        raise UserError(f"{where}: {DICTS[kind]} does not hold {name!r} any more once it has run: write the dict once")
    return found[name]


def _from_files(kind: Kind) -> list[tuple[str, Definition]]:
    return [
        (name, _of_file(path, _defined(module, kind, name, f"--plugin {path}")))
        for path, module in _files.items()
        for name in _names(path.read_text(), DICTS[kind], f"--plugin {path}")
    ]


def _of_file(path: Path, made: Any) -> Definition:
    return Definition(source=str(path), load=lambda: made, digest=lambda: source_digest(_with_imports([path])))


def _run(path: Path) -> ModuleType:
    try:
        source = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--plugin {path}: cannot be read ({error})") from error
    name = f"rushes_plugin_{path.stem}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look for it there
    try:
        # Not by an import: that may run bytecode of an earlier content.
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"--plugin {path}: cannot be run: {type(error).__name__}: {error}") from error
    if not any(_names(source, variable, f"--plugin {path}") for variable in DICTS.values()):
        raise UserError(f"--plugin {path}: defines neither TASKS nor BACKBONES: add e.g. TASKS = {{'my_task': MyTask}}")
    return module


@functools.cache
def _names(source: str, variable: str, where: str) -> tuple[str, ...]:
    """Keys of the dict that a module assigns to `variable` outside of functions and classes; none where it does not."""
    names: list[str] = []
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(ast.Name(id=name), value=value):
                if name == variable:
                    names += _written_keys(value, variable, where)
    return tuple(names)


def _written_keys(value: ast.expr | None, variable: str, where: str) -> list[str]:
    keys = value.keys if isinstance(value, ast.Dict) else [None]
    written = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    if len(written) < len(keys):
        raise UserError(f"{where}: {variable} must be a dict with its names written out, as {{'my_name': MyClass}}")
    return written


def _installed(kind: Kind) -> list[tuple[str, Definition]]:
    path = tuple((folder, _changed(folder)) for folder in sys.path)
    return [(point.name, _of_entry_point(point)) for point in _entry_points(PACKAGES[kind], path)]


@functools.cache
def _entry_points(group: str, _path: tuple[tuple[str, int], ...]) -> tuple[metadata.EntryPoint, ...]:
    """What the packages on the path offer: looking into some hundred of them takes 7 ms and more."""
    return tuple(metadata.entry_points(group=group))


def _changed(folder: str) -> int:
    """When a folder's list of files last changed, as it does where a package is installed; 0 where there is none."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _of_entry_point(point: metadata.EntryPoint) -> Definition:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
    source = f"{package} ({point.group}: {point.name} = {point.value})"

    def load() -> Any:
        try:
            return point.load()
        except Exception as error:
            raise UserError(f"{source}: cannot be imported: {type(error).__name__}: {error}") from error

    def digest() -> str:
        files = _with_imports(_modules(point.module.partition(".")[0]))
        return hashlib.sha256(f"{package}\0{source_digest(files)}".encode()).hexdigest()[:16]

    return Definition(source=source, load=load, digest=digest)


def _with_imports(files: Iterable[Path]) -> list[Path]:
    """These files, and those of all modules that they import, at any depth, neither of Python nor installed."""
    found = dict.fromkeys(files)
    pending = list(found)
    while pending:
        tree = ast.parse(pending.pop().read_text())
        for name in sorted({name.partition(".")[0] for node in ast.walk(tree) for name in _imported(node)}):
            fresh = [file for file in _modules(name, installed=False) if file not in found]
            found |= dict.fromkeys(fresh)
            pending += fresh
    return list(found)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _modules(name: str, *, installed: bool = True) -> list[Path]:
    """Source files of a top-level module or package; none of Python's and this project's, or of an installed one."""
    spec = None if name in _NOT_FOLLOWED else util.find_spec(name)
    if spec is None:
        return []
    single = spec.submodule_search_locations is None
    folders = [spec.origin or ""] if single else list(spec.submodule_search_locations or ())
    found = [Path(folder).resolve() for folder in folders]
    if not installed and any(_INSTALLED.intersection(path.parts) for path in found):
        return []
    if single:
        return [path for path in found if path.suffix == ".py"]
    return [path for folder in found for path in sorted(folder.rglob("*.py"))]
