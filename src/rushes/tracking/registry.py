"""MLflow's registry: one model version per bundle, with its lineage as tags; the alias is repaired from the ledger."""

import contextlib
import http.client
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rushes.errors import ServiceError, UserError
from rushes.ledger import LedgerEntry

BUNDLE_TAG = "rushes.bundle"


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What is recorded about a bundle."""

    endpoint: str
    """Name of the registered model."""
    bundle: str
    """Ref of the export; identifies the version."""
    experiment: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, Iterable[Mapping[str, float]]]
    """Name of a training to its records, one per epoch."""
    tags: Mapping[str, str]
    artifacts: Mapping[str, Path]
    """Name within the run to a local file."""
    model: Path
    """Folder of the bundle: model.onnx, contract.json, golden.mp4."""


class Registry:
    """A tracking server, reached at `url`.

    Raises (from every method):
        ServiceError: the server does not answer, or refuses.
    """

    def __init__(self, url: str, *, wait_seconds: float = 0.0) -> None:
        import mlflow

        self.url = url
        _await_health(url, seconds=wait_seconds)
        mlflow.set_tracking_uri(url)
        self.client = mlflow.MlflowClient(tracking_uri=url)

    def register(self, registration: Registration) -> int:
        """Returns the version of this bundle; creates run and version unless the bundle is registered already."""
        found = self.find(registration.endpoint, registration.bundle)
        return found if found is not None else self._create(registration)

    def find(self, endpoint: str, bundle: str) -> int | None:
        """Version of a registered bundle, or None."""
        query = f"name = '{endpoint}' and tag.`{BUNDLE_TAG}` = '{bundle}'"
        versions = self.client.search_model_versions(query)
        return min((int(v.version) for v in versions if v.status == "READY"), default=None)

    def tags(self, model: str) -> dict[str, str]:
        """Tags of a registered version: NAME@ALIAS or NAME/VERSION.

        Raises:
            UserError: there is none of that name.
        """
        from mlflow.exceptions import MlflowException

        name, at, alias = model.partition("@")
        try:
            if at:
                return dict(self.client.get_model_version_by_alias(name, alias).tags)
            name, _, version = model.partition("/")
            return dict(self.client.get_model_version(name, version).tags)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"models:/{model}: not in MLflow at {self.url}: {reason}") from error

    def repair_alias(self, entry: LedgerEntry | None, *, endpoint: str) -> None:
        """Sets the alias `champion` to the champion of the ledger's last entry, wherever it points now.

        A database that was made anew numbers its versions anew, so that the version is found by the champion's bundle;
        where MLflow does not have that bundle, there is no alias.
        """
        from mlflow.exceptions import MlflowException

        version = self.find(endpoint, entry.champion.bundle) if entry and entry.champion else None
        try:
            current = int(self.client.get_model_version_by_alias(endpoint, "champion").version)
        except MlflowException:
            current = None
        if version is None and current is not None:
            self.client.delete_registered_model_alias(endpoint, "champion")
        elif version is not None and current != version:
            self.client.set_registered_model_alias(endpoint, "champion", str(version))

    def _create(self, registration: Registration) -> int:
        import mlflow
        from mlflow.exceptions import MlflowException

        mlflow.set_experiment(registration.experiment)
        try:
            with mlflow.start_run(run_name=registration.endpoint, tags=dict(registration.tags)) as run:
                self._log(run.info.run_id, registration)
                source = self._log_model(registration)
            try:
                self.client.create_registered_model(registration.endpoint)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = self.client.create_model_version(
                registration.endpoint,
                source.uri,
                run_id=run.info.run_id,
                model_id=source.model_id,
                tags={BUNDLE_TAG: registration.bundle, **registration.tags},
            )
        except MlflowException as error:
            raise ServiceError(f"MLflow at {self.url}: registration failed: {error}") from error
        # Two runs may have registered the same bundle at once: `find` returns the lower version to both.
        return self.find(registration.endpoint, registration.bundle) or int(version.version)

    def _log(self, run_id: str, registration: Registration) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        curves = [
            Metric(f"{name}/{key}", float(value), now, int(record["epoch"]))
            for name, records in registration.curves.items()
            for record in records
            for key, value in record.items()
            if key not in ("epoch", "step")
        ]
        metrics = [Metric(name, float(value), now, 0) for name, value in registration.metrics.items()]
        for start in range(0, len(curves + metrics), 1000):
            self.client.log_batch(run_id, metrics=(metrics + curves)[start : start + 1000])
        parameters = [Param(name, str(value)[:500]) for name, value in registration.parameters.items()]
        for start in range(0, len(parameters), 100):
            self.client.log_batch(run_id, params=parameters[start : start + 100])
        for path in registration.artifacts.values():
            self.client.log_artifact(run_id, str(path))

    def _log_model(self, registration: Registration) -> "_Source":
        """Logs the ONNX flavour, with contract and golden clip beside the graph."""
        import mlflow
        import onnx
        from mlflow.models import infer_signature

        graph = onnx.load(str(registration.model / "model.onnx"))
        example, answer = _example(registration.model)
        logged = mlflow.onnx.log_model(
            graph,
            name="model",
            signature=infer_signature(example, answer),
            save_as_external_data=False,
            # Otherwise MLflow runs the model in another process to find these out.
            pip_requirements=mlflow.onnx.get_default_pip_requirements(),
        )
        for name in ("contract.json", "golden.mp4"):
            self.client.log_model_artifact(logged.model_id, str(registration.model / name))
        return _Source(uri=f"models:/{logged.model_id}", model_id=str(logged.model_id))


@dataclass(frozen=True, kw_only=True)
class _Source:
    uri: str
    model_id: str


def _await_health(url: str, *, seconds: float) -> None:
    """Waits until the server answers; a new one first migrates its database, which takes tens of seconds."""
    deadline = time.monotonic() + seconds
    while True:
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            urllib.request.urlopen(f"{url}/health", timeout=5),  # noqa: S310
        ):
            return
        if time.monotonic() >= deadline:
            raise UserError(f"MLflow: no answer at {url}: start it with `rushes up`, or set MLFLOW_TRACKING_URI")
        time.sleep(0.5)


def _example(bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request and an answer of the graph's shapes, for the signature."""
    import json

    import numpy as np

    contract = json.loads((bundle / "contract.json").read_text())
    clips = np.zeros(
        (1, contract["clips"], contract["clip_frames"], contract["crop"] * 3 // 2, contract["crop"]), np.uint8
    )
    answer = {
        "probabilities": np.zeros((1, len(contract["labels"])), np.float32),
        "embedding": np.zeros((1, contract["embedding"]), np.float32),
    }
    return {"clips": clips}, answer
