"""`rushes export`: a classifier as one ONNX graph, with the contract that serving holds it to and a golden clip."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.errors import UserError
from rushes.footage.provenance import encoding_of
from rushes.home import open_store
from rushes.steps.base import Job, network_record, read_input, reported, run_step
from rushes.store import Manifest
from rushes.strict import digest_record
from rushes.video.coding import Encoding

GOLDEN = Path(__file__).parents[1] / "serving" / "golden.mp4"
"""The clip that a bundle is checked with wherever it is served: the first video of the tiny demonstration."""


@reported("export")
def export(*, recipe: Recipe, classifier: Path, out: Path) -> Manifest:
    """Writes model.onnx, contract.json and golden.mp4; torch and onnxruntime must agree.

    The golden clip is part of this package, and drawn: a bundle travels far, and holds nobody's footage.

    Args:
        recipe: section `export` counts.
        classifier: pointer from `finetune`.
        out: where the pointer to the bundle goes.
    """
    inputs = {"classifier": read_input(classifier, "classifier")}
    plugins.use(recipe.plugins)
    encoding = encoding_record(inputs["classifier"]) if recipe.export.encode else None
    return run_step(
        "export",
        kind="bundle",
        config=digest_record(recipe.export) | network_record(inputs["classifier"]) | {"encoding": encoding},
        inputs=inputs,
        out=out,
        build=lambda job: _export(job, recipe=recipe, classifier=inputs["classifier"], encoding=encoding),
    )


def encoding_record(classifier: Manifest) -> dict[str, Any]:
    """How the footage that a classifier was trained on is encoded.

    Raises:
        UserError: the footage is not in the store.
    """
    encoding = encoding_of(classifier, open_store())
    if encoding is None:
        raise UserError(
            f"classifier: its footage {classifier.inputs.get('footage', '')} is not in the store, so that its encoding "
            "is unknown: sample it again, or export with --export.no-encode"
        )
    return asdict(encoding)


def _export(job: Job, *, recipe: Recipe, classifier: Manifest, encoding: Mapping[str, Any] | None) -> Mapping[str, Any]:
    from rushes.serving.export import BundleSpec, export_bundle
    from rushes.serving.graph import ServingGraph
    from rushes.training.networks import MEAN, STD
    from rushes.training.weights import load_classifier

    net, model = load_classifier(classifier, job.store)
    spec = BundleSpec(
        labels=model["labels"],
        clips=recipe.export.clips,
        clip_frames=model["clip_frames"],
        crop=model["crop"],
        short_side=model["short_side"],
        fps=model["fps"],
        classifier=classifier.ref,
        encoding=Encoding(**encoding) if encoding else None,
        opset=recipe.export.opset,
    )
    bundle, agreement = export_bundle(
        ServingGraph(net=net.backbone, head=net.head, mean=MEAN, std=STD),
        job.folder,
        spec=spec,
        golden=GOLDEN.read_bytes(),
        tolerance=recipe.export.tolerance,
    )
    return {
        "parity": agreement.probabilities,
        "onnx_sha256": bundle.contract.onnx_sha256,
        "labels": list(bundle.contract.labels),
        "bytes": bundle.onnx.stat().st_size,
    }
