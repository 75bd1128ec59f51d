"""The process of one chain: `python -m rushes.comparing.chain_process FOLDER`.

Pretrains, fine-tunes at each number of labels, and measures. Each is the step of that name: what the store holds is
not computed again, and what was interrupted continues. A pod of a comparison on a cluster runs the same function.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from rushes.config import Recipe
from rushes.steps.finetune import finetune
from rushes.steps.measure import measure
from rushes.steps.pretrain import pretrain
from rushes.store import Manifest
from rushes.strict import build

ORDER, ANSWERS = "chain.json", "answers.json"


def run_chain(folder: Path) -> Manifest:
    """Runs the chain that `<folder>/chain.json` describes; writes the pointers into the folder, returns the last.

    The order holds recipe (plain data), footage (path of a pointer) and labels (numbers of labels per class, 0 for
    all).
    """
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
