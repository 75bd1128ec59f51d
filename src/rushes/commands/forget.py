"""`rushes footage forget`: deletes a video from all that this project wrote, and lists what is left for you to do."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rushes.console import console
from rushes.errors import UserError
from rushes.footage.files import is_url
from rushes.footage.forget import footage_with, purge_copies
from rushes.footage.forget import forget as forget_content
from rushes.home import home_folder, open_store
from rushes.progress import NullProgress
from rushes.steps import STEPS
from rushes.store import Manifest, Store, sha256_file

_AFTER_SAMPLE = STEPS[STEPS.index("sample") + 1 :]


@dataclass(frozen=True, kw_only=True)
class _Content:
    """The content to forget."""

    sha256: str
    size: int
    """0 where no pin lists it."""
    paths: tuple[str, ...]
    """Paths under which pins list it."""
    roots: tuple[str, ...]
    """Folders or URLs of the archives that the pins read."""


def forget(source: str, *, yes: bool) -> int:
    """Removes every content that `source` names; prints the models that saw it, and the copies that it cannot reach."""
    store = open_store()
    contents = _contents(source, store)
    # Before anything is removed: looking for copies needs DVC in a repository of DVC.
    caches = {content.sha256: _caches(content) for content in contents}
    affected = {manifest.ref for content in contents for manifest in footage_with(store, content.sha256)}
    _announce(contents, affected)
    if not yes and not _agreed():
        return 1
    seen_by = list(_descendants(store, affected))
    for content in contents:
        done = forget_content(store, content.sha256, progress=_Lines())
        copies = purge_copies(caches[content.sha256], sha256=content.sha256, size=content.size)
        console.print(
            f"{content.sha256[:12]}: {done.shards} shards rewritten, {done.objects} objects removed, and "
            f"{len(copies)} copies in caches; it will not be sampled again",
            markup=False,
        )
    _print_the_rest(contents, seen_by)
    return 0


class _Lines(NullProgress):
    """Prints what is done, line by line."""

    def say(self, message: str) -> None:
        console.print(message, markup=False)


# The content --------------------------------------------------------------------------------------------------------


def _contents(source: str, store: Store) -> list[_Content]:
    """The contents that a file, a listed path or a (part of a) SHA-256 names.

    Raises:
        UserError: it names none.
    """
    wanted = {sha256_file(Path(source))} if Path(source).is_file() else set()
    size = Path(source).stat().st_size if wanted else 0
    listed: dict[str, tuple[int, set[str], set[str]]] = {sha256: (size, set(), set()) for sha256 in wanted}
    prefix = source.lower() if re.fullmatch(r"[0-9a-fA-F]{12,64}", source) else None
    for root, path, sha256, bytes_ in _listed(store):
        full = f"{root}/{path}"
        if sha256 in wanted or source in (path, full) or (prefix and sha256.startswith(prefix)):
            _, paths, roots = listed.setdefault(sha256, (bytes_, set(), set()))
            listed[sha256] = (bytes_, paths | {path}, roots | {root})
    if not listed and prefix and len(prefix) == 64:
        listed[prefix] = (0, set(), set())
    if not listed:
        raise UserError(
            f"source: {source!r} is neither a file nor a path or SHA-256 that a pin in this store lists: give the path "
            "in the archive"
        )
    return [
        _Content(sha256=sha256, size=size, paths=tuple(sorted(paths)), roots=tuple(sorted(roots)))
        for sha256, (size, paths, roots) in sorted(listed.items())
    ]


def _listed(store: Store) -> Iterator[tuple[str, str, str, int]]:
    """(root, path, SHA-256, size) of every file that any pin lists."""
    for manifest in _manifests(store, "pin"):
        listing = json.loads(store.checked(manifest.files["listing.json"]).read_text())
        for path, sha256, size in listing["files"]:
            for root in manifest.summary.get("roots", [manifest.summary["root"]]):
                yield root, path, sha256, size


def _manifests(store: Store, step: str) -> Iterator[Manifest]:
    for name in store.names(f"steps/{step}"):
        manifest = store.find(f"{step}/{name.removesuffix('.json')}")
        if manifest is not None:
            yield manifest


def _descendants(store: Store, refs: set[str]) -> Iterator[Manifest]:
    """The outputs that were made from these, directly or not, in order of the steps."""
    reached = set(refs)
    for step in _AFTER_SAMPLE:
        for manifest in _manifests(store, step):
            if reached & set(manifest.inputs.values()):
                reached.add(manifest.ref)
                yield manifest


# Copies of it ------------------------------------------------------------------------------------------------------


def _caches(content: _Content) -> list[Path]:
    """Folders on this machine with copies of whole videos: fetched revisions, DVC's cache, its local remotes."""
    folders = [home_folder() / "cache" / "revisions"]
    for root in {str(Path.cwd()), *(root for root in content.roots if not is_url(root))}:
        folders += _dvc_folders(Path(root))
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _dvc_folders(inside: Path) -> list[Path]:
    if not any((folder / ".dvc").is_dir() for folder in (inside, *inside.parents)):
        return []
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(inside)) as repository:
            remotes = [str(settings.get("url", "")) for settings in repository.config["remote"].values()]
            folders = [Path(repository.cache.local.path)]
    except NotDvcRepoError:
        return []
    return folders + [Path(url) for url in remotes if url and not is_url(url)]


# Words ---------------------------------------------------------------------------------------------------------------


def _announce(contents: list[_Content], affected: set[str]) -> None:
    for content in contents:
        names = ", ".join(content.paths[:5]) or "listed by no pin"
        console.print(f"{content.sha256[:12]}  {names}", markup=False)
    console.print(f"It is in {len(affected)} footages; their shards are rewritten without it. This cannot be undone.")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UserError("yes: not given, and there is no terminal to ask at: pass --yes to forget it for good")
    return console.input("Forget it? [y/N] ").strip().lower() in ("y", "yes")


def _print_the_rest(contents: list[_Content], seen_by: list[Manifest]) -> None:
    """Prints what this command does not change: models, derived outputs, the original files, remote copies."""
    models = [manifest for manifest in seen_by if manifest.step in ("pretrain", "finetune", "register")]
    if models:
        console.print(f"{len(models)} models were trained on footage that held it; they are not changed:")
        for manifest in models:
            console.print(f"  {manifest.ref}  {_named(manifest)}".rstrip(), markup=False)
    derived = [manifest.ref for manifest in seen_by if manifest.step == "evaluate"]
    if derived:
        console.print(f"Predictions and embeddings of it may be in: {', '.join(derived)}", markup=False)
    for root in sorted({root for content in contents for root in content.roots}):
        console.print(f"Left to you: the original files under {root}", markup=False)
    console.print("Left to you: remote DVC storage, backups, and stores on other machines.")


def _named(manifest: Manifest) -> str:
    known = {name: manifest.summary[name] for name in ("task", "endpoint", "version") if name in manifest.summary}
    return ", ".join(f"{name} {value}" for name, value in known.items())
