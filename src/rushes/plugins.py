"""Pretext tasks and backbones from outside this package: installed ones, and files given by `--plugin`.

A package is a plugin by its entry points: the name is what a recipe says, the value is the class or factory.

    [project.entry-points."rushes.pretext"]
    infonce = "my_package:InfoNCE"

    [project.entry-points."rushes.backbones"]
    my_net = "my_package.networks:MyNet"

A file is one by the same dicts as `rushes.pretext` and `rushes.backbones` have: `TASKS = {"infonce": InfoNCE}`,
`BACKBONES = {"my_net": MyNet}`. It stands alone: code in several modules belongs in a package.

A step's digest covers the code of the plugin that it uses, and of no other: a file's, or that of all modules of the
installed package and its version.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from rushes.digests import source_digest
from rushes.errors import UserError

T = TypeVar("T")
Kind = Literal["task", "backbone"]
GROUPS: dict[Kind, str] = {"task": "rushes.pretext", "backbone": "rushes.backbones"}
"""Entry points."""
DICTS: dict[Kind, str] = {"task": "TASKS", "backbone": "BACKBONES"}
"""Names of the dicts in a file."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A task or a backbone from outside."""

    source: str
    """Where it comes from, for people."""
    load: Callable[[], Any]
    """Imports it."""
    digest: Callable[[], str]
    """Of its code, 16 hex characters; imports nothing."""


_files: dict[Path, ModuleType] = {}  # what `use` was given last


def use(files: Iterable[str | Path]) -> None:
    """Runs these files; from now on, what they define is known in this process, and what earlier ones did is not.

    Raises:
        UserError: a file is missing, cannot be run, or defines neither dict.
    """
    fresh = {path: _module(path) for path in dict.fromkeys(Path(file).resolve() for file in files)}
    _files.clear()
    _files.update(fresh)


def known(kind: Kind) -> dict[str, Plugin]:
    """The plugins of a kind by name: those of the files in use, then the installed ones.

    Raises:
        UserError: two have the same name.
    """
    found: dict[str, Plugin] = {}
    for name, plugin in [*_from_files(kind), *_installed(kind)]:
        if name in found:
            both = f"{found[name].source} and by {plugin.source}"
            raise UserError(f"pretrain.{kind}: {name!r} is defined by {both}: rename or remove one")
        found[name] = plugin
    return found


def look_up(kind: Kind, name: str, builtin: Mapping[str, T]) -> T:
    """What a recipe means by a name: one of ours, or a plugin.

    Raises:
        UserError: nobody knows the name, two do, or the plugin does not import.
    """
    plugins = known(kind)
    if name not in plugins:
        if name in builtin:
            return builtin[name]
        names = ", ".join([*builtin, *plugins])
        raise UserError(f"pretrain.{kind}: {name!r} is not known; one of {names}; or give --plugin FILE.py")
    plugin = plugins[name]
    if name in builtin:
        raise UserError(f"pretrain.{kind}: {name!r} is built in, and defined by {plugin.source}: rename that one")
    found: T = plugin.load()
    if not callable(found):
        raise UserError(f"{plugin.source}: {name!r} is {found!r}; expected a class or a function that makes a {kind}")
    return found


def record(*, task: str = "", backbone: str = "") -> dict[str, Any]:
    """What a step's config says of the plugins among these names: their code's digest; nothing of what is built in."""
    wanted: dict[Kind, str] = {"task": task, "backbone": backbone}
    found = {
        kind: {"name": name, "code": known(kind)[name].digest()} for kind, name in wanted.items() if name in known(kind)
    }
    return {"plugins": found} if found else {}


def inherited(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a step that goes on with the network of an earlier step, by that one's config.

    Raises:
        UserError: the network is a plugin's that is not known here.
    """
    name = config.get("plugins", {}).get("backbone", {}).get("name", "")
    if name and name not in known("backbone"):
        raise UserError(f"backbone: {name!r} is a plugin's: give --plugin FILE.py, or install the package again")
    return record(backbone=name)


def _from_files(kind: Kind) -> list[tuple[str, Plugin]]:
    return [
        (name, Plugin(source=str(path), load=lambda made=made: made, digest=lambda path=path: source_digest([path])))  # type: ignore[misc]
        for path, module in _files.items()
        for name, made in getattr(module, DICTS[kind], {}).items()
    ]


def _module(path: Path) -> ModuleType:
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
    if not any(isinstance(getattr(module, name, None), dict) for name in DICTS.values()):
        raise UserError(f"--plugin {path}: defines neither TASKS nor BACKBONES: add e.g. TASKS = {{'my_task': MyTask}}")
    return module


def _installed(kind: Kind) -> list[tuple[str, Plugin]]:
    return [(point.name, _of_entry_point(point)) for point in metadata.entry_points(group=GROUPS[kind])]


def _of_entry_point(point: metadata.EntryPoint) -> Plugin:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
    source = f"{package} ({point.group}: {point.name} = {point.value})"

    def load() -> Any:
        try:
            return point.load()
        except Exception as error:
            raise UserError(f"{source}: cannot be imported: {type(error).__name__}: {error}") from error

    def digest() -> str:
        files = _modules(point.module.partition(".")[0])
        return hashlib.sha256(f"{package}\0{source_digest(files)}".encode()).hexdigest()[:16]

    return Plugin(source=source, load=load, digest=digest)


def _modules(name: str) -> list[Path]:
    """Source files of a top-level module or package."""
    spec = util.find_spec(name)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin else []
    return [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).rglob("*.py"))]
