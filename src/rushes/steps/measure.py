"""How good one initialisation is downstream; a step of `rushes compare`, not of the pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes import plugins
from rushes.config import Recipe
from rushes.steps.base import Job, network_record, read_input, reported, require_labels, run_step
from rushes.store import Manifest
from rushes.strict import digest_record

ANSWERS = "answers.parquet"


@reported("measure")
def measure(*, recipe: Recipe, footage: Path, backbone: Path, classifiers: Mapping[int, Path], out: Path) -> Manifest:
    """Answers about the test split: nearest neighbour, linear probe and fine-tuned, one row per segment.

    Args:
        recipe: sections `evaluate` and `seed` count.
        footage: pointer from `sample`.
        backbone: pointer from `pretrain`.
        classifiers: pointers from `finetune` on this backbone, by labels per class; 0 is all.
        out: where the pointer to the answers goes.
    """
    tuned = {labels: read_input(path, "classifier") for labels, path in classifiers.items()}
    inputs = {"footage": read_input(footage, "footage"), "backbone": read_input(backbone, "backbone")}
    plugins.use(recipe.plugins)
    return run_step(
        "measure",
        kind="measurement",
        config=digest_record(recipe.evaluate) | {"seed": recipe.seed} | network_record(inputs["backbone"]),
        inputs=inputs | {f"classifier-{labels}": manifest for labels, manifest in tuned.items()},
        out=out,
        build=lambda job: _measure(job, recipe=recipe, inputs=inputs, tuned=tuned),
    )


def _measure(
    job: Job, *, recipe: Recipe, inputs: Mapping[str, Manifest], tuned: Mapping[int, Manifest]
) -> Mapping[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rushes.evaluation.measure import measure_answers
    from rushes.footage.reader import Footage
    from rushes.training.weights import read_model

    model = read_model(inputs["backbone"], job.store)
    footage = Footage(inputs["footage"], job.store, short_side=model["short_side"])
    require_labels(footage.labels, need="a comparison")
    answers = measure_answers(
        footage,
        config=recipe.evaluate,
        seed=recipe.seed,
        store=job.store,
        backbone=inputs["backbone"],
        classifiers=tuned,
        progress=job.progress,
    )
    pq.write_table(pa.table(answers), job.folder / ANSWERS)
    return {"segments": len(answers["key"]), "classes": len(footage.labels)}
