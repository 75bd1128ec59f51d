"""`rushes register`: a bundle as an MLflow model version, with its lineage. The same bundle twice is one version."""

import json
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from rushes.config import Recipe
from rushes.steps.base import Context, read_input, reported
from rushes.steps.belonging import Given, require_input
from rushes.store import Manifest, sha256_file
from rushes.strict import to_record
from rushes.tracking.registry import Registration, Registry
from rushes.tracking.server import tracking_url

WAIT_SECONDS = 240.0
"""A local server may still be migrating its database when the first run gets here."""


@reported("register")
def register(*, recipe: Recipe, endpoint: str, bundle: Path, evaluation: Path, out: Path) -> Manifest:
    """Registers the bundle under the endpoint's name, with metrics, curves, report and lineage.

    Args:
        recipe: logged whole; section `register` counts.
        endpoint: name of the registered model.
        bundle: pointer from `export`.
        evaluation: pointer from `evaluate`.
        out: where the pointer to the version goes.

    Raises:
        UserError: the evaluation is of another bundle.
    """
    context = Context(step="register")
    exported, evaluated = read_input(bundle, "bundle"), read_input(evaluation, "evaluation")
    require_input(
        Given(field="evaluation", manifest=evaluated),
        Given(field="bundle", manifest=exported),
        name="bundle",
        store=context.store,
    )
    registry = Registry(tracking_url(context.home), wait_seconds=WAIT_SECONDS)
    found = registry.find(endpoint, exported.ref)
    version = found
    if version is None:
        with tempfile.TemporaryDirectory(prefix="rushes-register-") as folder:
            version = registry.register(
                _registration(
                    context, Path(folder), recipe=recipe, endpoint=endpoint, exported=exported, evaluated=evaluated
                )
            )
    return context.publish(
        out,
        kind="version",
        digest=f"{endpoint}-{version}",
        inputs={"bundle": exported, "evaluation": evaluated},
        summary={"endpoint": endpoint, "version": version, "tracking": registry.url},
        cached=found is not None,
    )


def _registration(
    context: Context, folder: Path, *, recipe: Recipe, endpoint: str, exported: Manifest, evaluated: Manifest
) -> Registration:
    store = context.store
    model = folder / "bundle"
    _lay_out(context, exported, model)
    artifacts = folder / "artifacts"
    _lay_out(context, evaluated, artifacts)
    (artifacts / "recipe.json").write_text(json.dumps(to_record(recipe), indent=1))
    chain = _chain(context, evaluated) | {"export": exported}
    metrics = json.loads((artifacts / "metrics.json").read_text())
    served = metrics.get("served", {})  # none in an evaluation by earlier code that a person accepted
    return Registration(
        endpoint=endpoint,
        bundle=exported.ref,
        experiment=recipe.register.experiment,
        parameters=_flat(to_record(recipe)),
        metrics={
            f"top1/{row['protocol']}/{row['init']}".replace(" ", "_"): row["top1"]["value"] for row in metrics["rows"]
        }
        | {f"served/{name}": served[name]["value"] for name in ("agreement", "difference") if served.get("sent")},
        curves={
            name: json.loads(store.path(manifest.files["history.json"]).read_text())
            for name, manifest in chain.items()
            if "history.json" in manifest.files
        },
        tags={
            "model": recipe.name,
            "onnx.sha256": sha256_file(model / "model.onnx"),
            "test.manifest_sha256": metrics["test"]["manifest_sha256"],
            "data.commit": str(chain["pin"].summary.get("commit", "")) if "pin" in chain else "",
            **{f"rushes.{name}": manifest.ref for name, manifest in chain.items()},
            **{f"rushes.{name}.accepted": _accepted(manifest) for name, manifest in chain.items() if manifest.accepted},
        },
        artifacts={path.name: path for path in sorted(artifacts.iterdir())},
        model=model,
    )


def _lay_out(context: Context, manifest: Manifest, folder: Path) -> None:
    folder.mkdir()
    for name, file in manifest.files.items():
        (folder / name).symlink_to(context.store.checked(file))


def _chain(context: Context, manifest: Manifest) -> dict[str, Manifest]:
    """Every output that a manifest depends on, by input name; itself under `evaluation`.

    Of several under one name, as where training started from an earlier run's weights, the nearest.
    """
    found: dict[str, Manifest] = {"evaluation": manifest}
    pending = deque(manifest.inputs.items())
    while pending:
        name, ref = pending.popleft()
        known = context.store.find(ref) if name not in found else None
        if known is not None:
            found[name] = known
            pending.extend(known.inputs.items())
    return found


def _accepted(manifest: Manifest) -> str:
    """Whose word it is that this output of earlier code stands."""
    about = manifest.accepted
    return f"{about['ref']} of code {about['code']}: {about['reason']} ({about['by']}, {about['time']})"


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
