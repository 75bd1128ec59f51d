"""`rushes choose`: the best of several classifiers on validation. The test set is not read."""

from collections.abc import Mapping
from pathlib import Path

from rushes.errors import UserError
from rushes.steps.base import Context, read_input, reported
from rushes.store import Manifest


@reported("choose")
def choose(*, classifiers: Mapping[str, Path], out: Path) -> Manifest:
    """Chooses by accuracy on the validation split, then by loss, then by order.

    Args:
        classifiers: pointers from `finetune`, by name of the model.
        out: where the pointer to the choice goes.

    Raises:
        UserError: there are several, and one was not scored on validation.
    """
    context = Context(step="choose")
    found = {name: read_input(path, "classifier") for name, path in classifiers.items()}
    if not found:
        raise UserError("classifiers: none given: name what `rushes finetune` wrote")
    scores = {name: _score(name, manifest, alone=len(found) == 1) for name, manifest in found.items()}
    chosen = min(scores, key=lambda name: scores[name])
    return context.publish(
        out,
        kind="choice",
        digest=found[chosen].digest,
        inputs=found,
        summary={"chosen": chosen, "validation": {name: -score[0] for name, score in scores.items()}},
    )


def _score(name: str, manifest: Manifest, *, alone: bool) -> tuple[float, float]:
    """Less is better: minus accuracy, loss."""
    summary = manifest.summary
    if "val_accuracy" in summary:
        return -float(summary["val_accuracy"]), float(summary["val_loss"])
    if alone:
        return -0.0, 0.0
    raise UserError(
        f"models: {name!r} was not scored on validation, so that the best model is unknown: label more groups, raise "
        "sample.val_share, or give one model"
    )
