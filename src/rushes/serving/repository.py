"""Triton's model repository, generated: two Triton models per endpoint.

    <home>/triton/models/<endpoint>/             python: encoded video -> prediction
        config.pbtxt, 1/model.py, routing.json   routing.json names the version that answers
        classifier                               the name of the other model
    <home>/triton/models/<endpoint>_classifier_<random>/  the ONNX graphs
        config.pbtxt, <version>/{model.onnx, contract.json, golden.mp4}
    <home>/triton/backends/, lib/                what a local Triton needs beside it (rushes.serving.server)

The same bytes serve here and in NVIDIA's container. Only the reconciler writes here.

Clients may ask the endpoint, and not the classifier, which takes any number of clips of any size. Triton cannot tell
them from the endpoint's own requests, so the classifier's name is a secret: 64 random bits, drawn once per endpoint and
home. What lists models (the repository's index, statistics) is closed to clients; the metrics' port shows names, too.
"""

import re
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rushes.errors import UserError
from rushes.serving.bundle import FILES, Bundle, read_bundle
from rushes.serving.model_config import CLASSIFIER_SUFFIX, classifier_config, config_text, endpoint_config
from rushes.serving.routing import FILE as ROUTING
from rushes.serving.routing import Routing
from rushes.store import fsync, write_atomic

CLASSIFIER = "classifier"
"""File beside routing.json with the name of the classifier's model."""
BACKENDS = Path(__file__).parent / "backends"


def check_endpoint(endpoint: str) -> None:
    """Checks that a name can be that of a Triton model and of a folder.

    Raises:
        UserError: it cannot.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", endpoint) or re.search(rf"{CLASSIFIER_SUFFIX}(_|$)", endpoint):
        raise UserError(
            f"endpoint: {endpoint!r} is not allowed; lower-case letters, digits and _ (at most 64), "
            f"without {CLASSIFIER_SUFFIX} as its last word or before another"
        )


@dataclass(frozen=True)
class Repository:
    """The files of one endpoint under `<home>/triton/models`."""

    home: Path
    endpoint: str

    def __post_init__(self) -> None:
        check_endpoint(self.endpoint)

    @property
    def classifier(self) -> str:
        """Name of the Triton model that holds the graphs: a secret; until it is drawn, that of earlier versions."""
        try:
            return (self._endpoint_folder / CLASSIFIER).read_text().strip()
        except FileNotFoundError:
            return self.endpoint + CLASSIFIER_SUFFIX

    def name_classifier(self) -> bool:
        """Draws the classifier's name where it has none; True if a model with the name of earlier versions was there.

        Its bundles are deleted: those that are needed come from the store again.
        """
        path = self._endpoint_folder / CLASSIFIER
        if path.exists():
            return False
        earlier = self._classifier_folder
        there = earlier.exists()
        shutil.rmtree(earlier, ignore_errors=True)
        write_atomic(path, f"{self.endpoint}{CLASSIFIER_SUFFIX}_{secrets.token_hex(8)}\n".encode())
        return there

    @property
    def _classifier_folder(self) -> Path:
        return models_folder(self.home) / self.classifier

    @property
    def _endpoint_folder(self) -> Path:
        return models_folder(self.home) / self.endpoint

    def version_folder(self, version: int) -> Path:
        """Folder of a version's bundle."""
        return self._classifier_folder / str(version)

    def versions(self) -> list[int]:
        """Versions whose bundles are here."""
        folders = self._classifier_folder.glob("[0-9]*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())

    def bundle(self, version: int) -> Bundle | None:
        """The bundle of a version, or None if it is absent or damaged."""
        try:
            return read_bundle(self.version_folder(version))
        except UserError:
            return None

    def routing(self) -> Routing | None:
        """What is routed now, or None before the first deployment.

        Raises:
            UserError: routing.json is damaged.
        """
        path = self._endpoint_folder / ROUTING
        return Routing.read(path) if path.exists() else None

    def route(self, routing: Routing) -> None:
        """Routes requests to a version, atomically."""
        write_atomic(self._endpoint_folder / ROUTING, routing.to_json().encode())

    def publish(self, staged: Path, version: int) -> Path | None:
        """Moves a staged bundle to its version folder; returns where the folder that had that number is now, if any."""
        for name in FILES:
            fsync(staged / name)
        fsync(staged)
        self._classifier_folder.mkdir(parents=True, exist_ok=True)
        replaced = self._move_aside(version)
        staged.rename(self.version_folder(version))
        fsync(self._classifier_folder)
        return replaced

    def restore(self, version: int, replaced: Path | None) -> None:
        """Undoes `publish`."""
        self.remove(version)
        if replaced is not None:
            replaced.rename(self.version_folder(version))

    def remove(self, version: int) -> None:
        """Deletes a version folder; it is moved out of the repository first, so that Triton never sees half of it."""
        gone = self._move_aside(version)
        if gone is not None:
            shutil.rmtree(gone, ignore_errors=True)

    def prune(self, *, keep: tuple[int, ...]) -> None:
        """Deletes all other versions, and what interrupted runs left."""
        for version in set(self.versions()) - set(keep):
            self.remove(version)
        for left in staging_folder(self.home).glob(f"{self.endpoint}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _move_aside(self, version: int) -> Path | None:
        if not self.version_folder(version).exists():
            return None
        staging_folder(self.home).mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{self.endpoint}-{version}-aside-", dir=staging_folder(self.home)))
        # A rename onto an empty folder is atomic.
        return self.version_folder(version).rename(aside)

    def write_classifier(self, versions: tuple[int, ...]) -> None:
        """Writes which versions the next load brings up."""
        config = classifier_config(self.classifier, versions=versions)
        _write_if_new(self._classifier_folder / "config.pbtxt", config_text(config))

    def write_endpoint(self) -> bool:
        """Writes the endpoint's model; True if that changed it, so that it must be loaded again."""
        source = (BACKENDS / "action_recognition" / "model.py").read_text()
        changed = _write_if_new(self._endpoint_folder / "1" / "model.py", source)
        text = config_text(endpoint_config(self.endpoint))
        return _write_if_new(self._endpoint_folder / "config.pbtxt", text) or changed


def models_folder(home: Path) -> Path:
    """Triton's `--model-repository`."""
    return home / "triton" / "models"


def staging_folder(home: Path) -> Path:
    """For unfinished versions: on the repository's file system, but outside the repository."""
    return home / "triton" / "staging"


def deployed_endpoints(home: Path) -> list[str]:
    """Endpoints that have been deployed to this home."""
    return sorted(path.parent.name for path in models_folder(home).glob(f"*/{ROUTING}"))


def _write_if_new(path: Path, text: str) -> bool:
    # Triton reloads what has a new modification time, so equal text is not written again.
    if path.is_file() and path.read_text() == text:
        return False
    write_atomic(path, text.encode())
    return True
