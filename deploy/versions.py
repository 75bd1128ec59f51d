"""Compares the releases that the files name with `versions.yaml`: `python -m deploy.versions`, a part of `make check`.

Nothing is asked of a registry: which release is the newest is for a person to find out.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import yaml
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
FILE = "deploy/versions.yaml"
OURS = ("rushes/", "registry.example.com/")
"""How the names of the images that are built here begin."""
_IMAGES = (
    r"(?m)^ARG \w+=([\w./-]+):([\w.-]+)$",  # a Dockerfile's base
    r"(?m)^\s*(?:- )?image: ([\w./-]+):([\w.-]+)\s*(?:#.*)?$",  # a manifest's
    r"(?m)^\s*- name: ([\w./-]+)[^\n]*\n(?:\s+newName: [^\n]+\n)?\s+newTag: ([\w.-]+)$",  # a kustomization's
)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An entry of versions.yaml; its comment says what the fields mean."""

    name: str
    since: date
    oldest: str
    why: str
    pinned: str | None = None
    used: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in filter(None, (self.oldest, self.pinned)):
            Version(text)


def read_pins(root: Path) -> list[Pin]:
    """The entries of versions.yaml.

    Raises:
        TypeError: an entry lacks a field, or has one that is not known.
        InvalidVersion: a release is none.
    """
    record = yaml.safe_load((root / FILE).read_text())
    return [Pin(name=name, used=entry.pop("in", {}), **entry) for name, entry in record.items()]


def faults(root: Path = ROOT) -> list[str]:
    """What does not agree, one sentence each; empty where all does."""
    pins = read_pins(root)
    return [fault for pin in pins for fault in _faults(pin, root)] + list(_unknown_images(pins, root))


def _faults(pin: Pin, root: Path) -> Iterator[str]:
    if pin.pinned is not None and Version(pin.pinned) < Version(pin.oldest):
        yield f"{FILE}: {pin.name}: {pin.pinned} is pinned, and {pin.oldest} is the oldest allowed"
    for path, pattern in pin.used.items():
        found = re.findall(pattern, (root / path).read_text())
        if not found:
            yield f"{path}: {pin.name}: nothing matches {pattern!r} ({FILE})"
        for release in found:
            yield from _unlike(pin, path, release)
    for path, pattern in pin.said.items():
        found = re.findall(pattern, (root / path).read_text())
        if not found or set(found) != {pin.oldest}:
            said = ", ".join(sorted(set(found))) or "nothing"
            yield f"{path}: {pin.name}: says {said}, and {pin.oldest} is the oldest allowed ({FILE})"


def _unlike(pin: Pin, path: str, release: str) -> Iterator[str]:
    """What is wrong with a release that a file names."""
    try:
        old = Version(release) < Version(pin.oldest)
    except InvalidVersion:
        yield f"{path}: {pin.name}: {release!r} is not a release"
        return
    if old:
        yield f"{path}: {pin.name} {release} is older than {pin.oldest}: {pin.why}"
    elif pin.pinned is not None and release != pin.pinned:
        yield f"{path}: {pin.name} {release}, and {FILE} pins {pin.pinned}: change both"


def _unknown_images(pins: list[Pin], root: Path) -> Iterator[str]:
    """Images of others that no entry covers."""
    for file in sorted((root / "deploy").rglob("*")):
        if file.name != "Dockerfile" and file.suffix not in (".yaml", ".yml"):
            continue
        path, text = file.relative_to(root).as_posix(), file.read_text()
        covered = [match.span(1) for pin in pins for match in re.finditer(pin.used.get(path, r"(?!)"), text)]
        for match in (match for pattern in _IMAGES for match in re.finditer(pattern, text)):
            start, end = match.span(2)
            known = any(start <= first and last <= end for first, last in covered)
            if not known and not match[1].startswith(OURS):
                yield f"{path}: the image {match[1]}:{match[2]} has no entry in {FILE}"


def main() -> int:
    """Prints what does not agree; returns 1 if anything does not."""
    found = faults()
    sys.stderr.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
