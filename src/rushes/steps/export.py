"""`rushes export`: a classifier as one ONNX graph, with the contract that serving holds it to and a golden clip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.steps.base import Build, Context, network_record, read_input, reported, run_step
from rushes.store import Manifest
from rushes.strict import digest_record


@reported("export")
def export(*, recipe: Recipe, classifier: Path, out: Path) -> Manifest:
    """Writes model.onnx, contract.json and golden.mp4; torch and onnxruntime must agree.

    The golden clip is drawn: a bundle travels far, and holds nobody's footage.

    Args:
        recipe: section `export` counts.
        classifier: pointer from `finetune`.
        out: where the pointer to the bundle goes.
    """
    inputs = {"classifier": read_input(classifier, "classifier")}
    plugins.use(recipe.plugins)
    return run_step(
        "export",
        kind="bundle",
        config=digest_record(recipe.export) | network_record(inputs["classifier"]),
        inputs=inputs,
        out=out,
        build=lambda context: _build(context, recipe=recipe, inputs=inputs),
    )


def _build(context: Context, *, recipe: Recipe, inputs: Mapping[str, Manifest]) -> Build:
    from rushes.demo.films import FPS, draw_film, plan_films
    from rushes.serving.export import BundleSpec, export_bundle
    from rushes.serving.graph import ServingGraph
    from rushes.training.networks import MEAN, STD
    from rushes.training.weights import load_classifier
    from rushes.video.encode import encode_h264

    def build(folder: Path, digest: str) -> Mapping[str, Any]:
        net, model = load_classifier(inputs["classifier"], context.store)
        golden = encode_h264(draw_film(plan_films(size="tiny")[0]), fps=FPS, qp=26, gop=12)
        spec = BundleSpec(
            labels=model["labels"],
            clips=recipe.export.clips,
            clip_frames=model["clip_frames"],
            crop=model["crop"],
            short_side=model["short_side"],
            fps=model["fps"],
            classifier=inputs["classifier"].ref,
            opset=recipe.export.opset,
        )
        graph = ServingGraph(net=net.backbone, head=net.head, mean=MEAN, std=STD)
        bundle, agreement = export_bundle(graph, folder, spec=spec, golden=golden, tolerance=recipe.export.tolerance)
        return {
            "parity": agreement.probabilities,
            "onnx_sha256": bundle.contract.onnx_sha256,
            "labels": list(bundle.contract.labels),
            "bytes": bundle.onnx.stat().st_size,
        }

    return build
