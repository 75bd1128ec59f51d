"""One chain of a comparison: `python -m rushes.comparing.chains FOLDER`.

A process of its own, started by `rushes compare`, or all that a pod of a cluster's comparison does: pretrain, fine-tune
at each number of labels, measure. Each is the step of that name, so what has been done is found in the store, and what
was interrupted goes on.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from rushes.config import Recipe
from rushes.store import Manifest
from rushes.strict import build

ORDER, ANSWERS = "chain.json", "answers.json"


def run_chain(folder: Path) -> Manifest:
    """Runs what `<folder>/chain.json` says; the pointers go into the folder, the last is returned.

    The order has recipe (plain data), footage (a pointer's path) and labels (numbers a class, 0 for all).
    """
    from rushes.steps.finetune import finetune
    from rushes.steps.measure import measure
    from rushes.steps.pretrain import pretrain

    order = json.loads((folder / ORDER).read_text())
    recipe, footage = build(Recipe, order["recipe"], "recipe"), Path(order["footage"])
    backbone = folder / "backbone.json"
    pretrain(recipe=recipe, footage=footage, out=backbone)
    classifiers = {labels: folder / f"classifier-{labels}.json" for labels in order["labels"]}
    for labels, out in classifiers.items():
        tuned = replace(recipe, finetune=replace(recipe.finetune, labels_per_class=labels))
        finetune(recipe=tuned, footage=footage, backbone=backbone, out=out)
    return measure(recipe=recipe, footage=footage, backbone=backbone, classifiers=classifiers, out=folder / ANSWERS)


if __name__ == "__main__":
    run_chain(Path(sys.argv[1]))
