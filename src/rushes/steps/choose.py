"""`rushes choose`: of several classifiers the one that is best on validation. The test set is not looked at."""

from collections.abc import Mapping
from pathlib import Path

from rushes.errors import UserError
from rushes.steps.base import Context, read_input, reported, versions
from rushes.store import Manifest


@reported("choose")
def choose(*, classifiers: Mapping[str, Path], out: Path) -> Manifest:
    """Chooses by accuracy on the validation split, then by loss, then by order.

    Args:
        classifiers: pointers from `finetune`, by name of the model.
        out: where the pointer to the choice goes.

    Raises:
        UserError: there are several, and one was not measured on validation.
    """
    context = Context(step="choose")
    found = {name: read_input(path, "classifier") for name, path in classifiers.items()}
    if not found:
        raise UserError("classifiers: none given: name what `rushes finetune` wrote")
    scores = {name: _score(name, manifest, alone=len(found) == 1) for name, manifest in found.items()}
    chosen = min(scores, key=lambda name: scores[name])
    manifest = Manifest(
        kind="choice",
        step="choose",
        digest=found[chosen].digest,
        code="",
        config={},
        files={},
        inputs={name: manifest.ref for name, manifest in found.items()},
        summary={"chosen": chosen, "validation": {name: -score[0] for name, score in scores.items()}},
        versions=versions(),
    )
    context.store.publish(manifest)
    return context.done(manifest, out, cached=False)


def _score(name: str, manifest: Manifest, *, alone: bool) -> tuple[float, float]:
    """Less is better: minus accuracy, loss."""
    summary = manifest.summary
    if "val_accuracy" in summary:
        return -float(summary["val_accuracy"]), float(summary["val_loss"])
    if alone:
        return -0.0, 0.0
    raise UserError(
        f"models: {name!r} was not measured on validation, so that nothing tells which model is best: label more "
        "groups, raise sample.val_share, or give one model"
    )
