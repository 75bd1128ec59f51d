"""The licences of locked packages: what the locks hold, and what each package says of itself.

`requirements/licences.json` keeps what the package index answered, by name and release; `make sbom` asks it for what is
missing there. `licences.yaml` has what has to be said by hand.
"""

import json
import re
import subprocess
import tempfile
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from license_expression import ExpressionError, get_spdx_licensing
from packaging.markers import Marker

ROOT = Path(__file__).parents[1]
RECORD = "requirements/licences.json"
BY_HAND = "deploy/licences.yaml"
LOCKS = ("image", "torch", "triton-image", "rushes", "triton", "build")
PYTHONS = ("3.11", "3.12")
_PIN = re.compile(r"(?m)^([a-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\\n]+))?")
_SPDX = get_spdx_licensing()
_WORDS = (
    (r"3.clause bsd|bsd.3.clause|new bsd", "BSD-3-Clause"),
    (r"bsd.2.clause", "BSD-2-Clause"),
    (r"apache", "Apache-2.0"),
    (r"^mit\b", "MIT"),
    (r"^isc\b", "ISC"),
    (r"python software foundation|^psf", "PSF-2.0"),
    (r"mozilla public license 2", "MPL-2.0"),
    (r"proprietary", "LicenseRef-proprietary"),
    (r"bsd", "LicenseRef-BSD"),  # which of them, the package does not say in a word
)


@dataclass(frozen=True, kw_only=True, order=True)
class Package:
    """A locked release."""

    name: str
    version: str

    @property
    def key(self) -> str:
        """As in the record."""
        return f"{self.name}=={self.version}"


def locked(name: str, *, python: str, root: Path = ROOT) -> set[Package]:
    """The packages that a lock file gives a Python on Linux, x86-64."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }
    text = (root / "requirements" / f"{name}.lock").read_text()
    return {
        Package(name=package, version=version)
        for package, version, marker in _PIN.findall(text)
        if not marker or Marker(marker.strip()).evaluate(environment)
    }


def all_locked(root: Path = ROOT) -> dict[Package, list[str]]:
    """Every package of every lock, with the names of the locks."""
    found: dict[Package, list[str]] = {}
    for name in LOCKS:
        for package in set().union(*(locked(name, python=python, root=root) for python in PYTHONS)):
            found.setdefault(package, []).append(name)
    return dict(sorted(found.items()))


def spdx(metadata: Mapping[str, Any]) -> str | None:
    """The SPDX expression of what a package says of itself, or None where no rule reads it."""
    expression, text = metadata.get("license_expression"), (metadata.get("license") or "").strip()
    classifiers = [c.split(" :: ")[-1] for c in metadata.get("classifier", []) if c.startswith("License ::")]
    if len(classifiers) > 1:  # of several, it does not say whether one may choose
        classifiers = []
    for said in filter(None, (expression, text)):
        if re.fullmatch(r"LicenseRef-[\w.-]+", said):
            return str(said)
        try:
            return str(_SPDX.parse(said, validate=True, strict=True))
        except (ExpressionError, AttributeError):
            continue
    for said in (text.split("\n")[0][:60], *classifiers):
        for pattern, name in _WORDS:
            if re.search(pattern, said, re.IGNORECASE):
                return name
    return None


def licences(packages: Iterable[Package], root: Path = ROOT) -> dict[Package, str]:
    """The licence of each.

    Raises:
        ValueError: of some, none is known: `make sbom` asks for it, or it has to be said by hand.
    """
    by_hand = yaml.safe_load((root / BY_HAND).read_text())["by_hand"]
    record = json.loads((root / RECORD).read_text())
    found = {package: by_hand.get(package.name) or record.get(package.key) for package in packages}
    if missing := sorted(package.key for package, licence in found.items() if not licence):
        raise ValueError(f"{', '.join(missing)}: no licence in {RECORD} (make sbom), nor in {BY_HAND} by hand")
    return {package: str(licence) for package, licence in found.items()}


def update(root: Path = ROOT) -> None:
    """Asks the package index for what the record lacks, and drops from it what no lock has; downloads no package."""
    path = root / RECORD
    record: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    by_hand = yaml.safe_load((root / BY_HAND).read_text())["by_hand"]
    wanted = [package for package in all_locked(root) if package.name not in by_hand]
    missing = [package for package in wanted if package.key not in record]
    while missing:  # one release of a package at a time, which is all that pip takes
        batch = list({package.name: package for package in missing}.values())
        for package, metadata in zip(batch, _metadata(batch), strict=True):
            record[package.key] = spdx(metadata) or ""
        missing = [package for package in missing if package not in batch]
    kept = {package.key: record[package.key] for package in wanted}
    path.write_text(json.dumps(kept, indent=1) + "\n")


def _metadata(packages: list[Package]) -> list[dict[str, Any]]:
    """What each says of itself, by a dry run of the newest pip; older ones do not show licence expressions."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(Path(folder) / "venv", with_pip=True, upgrade_deps=True)
        lines = Path(folder) / "lines.txt"
        lines.write_text("".join(f"{package.key}\n" for package in packages))
        argv = [f"{folder}/venv/bin/python", "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
        argv += ["--ignore-installed", "--ignore-requires-python", "--python-version", PYTHONS[-1]]
        argv += ["--only-binary=:all:", "--target", f"{folder}/none", "--report", f"{folder}/report.json"]
        subprocess.run([*argv, "--requirement", str(lines)], check=True)
        report = json.loads(Path(folder, "report.json").read_text())
    by_name = {
        re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower(): entry["metadata"] for entry in report["install"]
    }
    return [by_name[re.sub(r"[-_.]+", "-", package.name)] for package in packages]
