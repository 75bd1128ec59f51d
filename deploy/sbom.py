"""The bills of materials of the images, and the table of licences: `python -m deploy.sbom`, by `make sbom`.

Both are made of the lock files: `deploy/sbom/IMAGE.cdx.json` (CycloneDX 1.6) and `docs/licence-table.md`. With
`--check`, which `make check` runs, nothing is asked of the network, and nothing is written: files that do not match the
locks are named. What the images' bases hold is not listed: their makers say it.
"""

import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from deploy.licences import BY_HAND, ROOT, Package, all_locked, licences, locked, update

TABLE = "docs/licence-table.md"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of deploy/Dockerfile."""

    locks: tuple[str, ...]
    base: str
    """Build argument with its base."""
    python: str
    inside: str = "inside"
    """Section of licences.yaml with what the wheels hold."""


IMAGES = {
    "cpu": Image(locks=("image", "torch"), base="BASE", python="3.11"),
    "gpu": Image(locks=("image", "torch"), base="BASE", python="3.11"),
    "triton": Image(locks=("triton-image",), base="TRITON_BASE", python="3.12"),
    "triton-lgpl": Image(locks=("triton-image",), base="TRITON_BASE", python="3.12", inside="lgpl"),
}
_HEAD = """# Licences of the locked packages

Made by `make sbom` from the lock files; do not edit. The licence is what each package says of itself, as an SPDX
expression. `LicenseRef-BSD` is one that says "BSD", and not which. PyAV's wheels hold more than PyAV:
[what may be shipped how](licences.md). What each image holds, as CycloneDX: `deploy/sbom/`.

| package | release | licence | locked for |
|---|---|---|---|
"""
_WHERE = {
    "image": "images cpu, gpu",
    "torch": "images cpu, gpu; laptop",
    "triton-image": "image triton",
    "rushes": "laptop",
    "triton": "laptop's Triton",
    "build": "building only",
}


def files(root: Path = ROOT) -> dict[str, str]:
    """Path to text of all that is made from the locks.

    Raises:
        ValueError: a package has no known licence.
    """
    made = {f"deploy/sbom/{name}.cdx.json": bill(name, image, root) for name, image in IMAGES.items()}
    return made | {TABLE: table(root)}


def bill(name: str, image: Image, root: Path) -> str:
    """The CycloneDX text of an image; equal locks give equal text."""
    packages = set().union(*(locked(lock, python=image.python, root=root) for lock in image.locks))
    inside = yaml.safe_load((root / BY_HAND).read_text())[image.inside]
    known = licences(packages, root)
    components = [
        _component(package, known[package], inside.get(package.name, ()), root) for package in sorted(packages)
    ]
    about = Component(
        name=f"rushes/{name}",
        type=ComponentType.CONTAINER,
        bom_ref=f"rushes/{name}",
        licenses=[LicenseExpression("Apache-2.0")],
        properties=[
            Property(name="rushes:base", value=_argument(image.base, root)),
            Property(name="rushes:locks", value=", ".join(f"requirements/{lock}.lock" for lock in image.locks)),
        ],
    )
    texts = "".join((root / "requirements" / f"{lock}.lock").read_text() for lock in image.locks)
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"rushes/{name}\n{texts}"),
        metadata=BomMetaData(component=about, timestamp=_locked_on(root)),
    )
    bom.register_dependency(about, components)
    return f"{JsonV1Dot6(bom).output_as_string(indent=1)}\n"


def _component(package: Package, licence: str, inside: Iterable[Mapping[str, Any]], root: Path) -> Component:
    address = PackageURL(type="pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        bom_ref=str(address),
        purl=address,
        licenses=[LicenseExpression(licence)],
        components=[
            Component(
                name=part["name"],
                version=_version_inside(part, package, root),
                bom_ref=f"{address}#{part['name']}",
                licenses=[LicenseExpression(part["licence"])],
            )
            for part in inside
        ],
    )


def _version_inside(part: Mapping[str, Any], package: Package, root: Path) -> str | None:
    """Of a library within a wheel, where it is known."""
    if "from" in part:
        return _argument(part["name"].upper(), root)
    version: str | None = part.get("versions", {}).get(package.version)
    return version


def _argument(name: str, root: Path) -> str:
    """The default of a build argument."""
    (value,) = re.findall(rf"(?m)^ARG {name}=(\S+)$", (root / "deploy" / "Dockerfile").read_text())
    return str(value)


def _locked_on(root: Path) -> datetime:
    """The day up to which releases were locked: the bill's time, so that it changes with the locks alone."""
    (day,) = re.findall(r"CUTOFF:-(\d{4}-\d{2}-\d{2})", (root / "requirements" / "lock.sh").read_text())
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def table(root: Path) -> str:
    """The page with the licence of every locked package."""
    packages = all_locked(root)
    known = licences(packages, root)
    rows = [
        f"| {package.name} | {package.version} | {known[package]} | {_where(locks)} |"
        for package, locks in packages.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _where(locks: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(place for lock in locks for place in _WHERE[lock].split("; ")))


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Writes the files, or with --check names those that do not match the locks; returns the exit status."""
    check = arguments == ["--check"]
    if not check:
        update(root)
    try:
        made = files(root)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    old = [path for path, text in made.items() if not (root / path).is_file() or (root / path).read_text() != text]
    if check:
        sys.stderr.writelines(f"{path}: does not match the locks: make sbom\n" for path in old)
        return 1 if old else 0
    for path in old:
        (root / path).write_text(made[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
