"""The steps, one module per step: a plain function that takes paths and a recipe, and returns a manifest.

`STEP_TRAITS` is the one list of them, in order; the pipeline's pods, dvc.yaml and the command line follow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Needs = Literal["little", "time", "cores", "gpu"]
"""What a pod needs: little; the same for as long as sampling takes; many cores or much memory; a GPU.

A cluster's profile says how much that is (`rushes.kubeflow.profile`)."""


@dataclass(frozen=True, kw_only=True)
class StepTraits:
    """What others need to know about a step."""

    output: str
    """Name of what it makes: later steps take its pointer under this name."""
    needs: Needs = "little"
    looks_outside: bool = False
    """Whether its result depends on more than its inputs (a folder, a server), so that DVC runs it each time."""


STEP_TRAITS: Mapping[str, StepTraits] = {
    "pin": StepTraits(output="pin", needs="time", looks_outside=True),
    "sample": StepTraits(output="footage", needs="cores"),
    "pretrain": StepTraits(output="backbone", needs="gpu"),
    "finetune": StepTraits(output="classifier", needs="gpu"),
    "choose": StepTraits(output="choice"),
    "export": StepTraits(output="bundle", needs="cores"),
    "evaluate": StepTraits(output="evaluation", needs="gpu"),
    "register": StepTraits(output="version", looks_outside=True),
    "promote": StepTraits(output="decision", needs="cores", looks_outside=True),
    "deploy": StepTraits(output="deployment", looks_outside=True),
}
STEPS = tuple(STEP_TRAITS)
