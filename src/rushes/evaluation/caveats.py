"""What the reader of a figure must know of the training behind it: sentences to print beside the figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rushes.store import Manifest

Record = Mapping[str, Any]

FEW_GROUPS, FEW_SEGMENTS = 3, 10
"""With fewer, validation says little about which epoch is best."""
CLOSE = 0.05
"""How near to the metadata's accuracy is close, where there are too few groups for an interval."""


def training_caveats(manifest: Manifest, history: Sequence[Record]) -> dict[str, str]:
    """Caveats of a pretraining or fine-tuning, by kind; empty if there are none, or if nothing was trained.

    Args:
        manifest: of kind "backbone" or "classifier".
        history: its history.json, one record per epoch.
    """
    if not history:
        return {}
    found = {
        "task at chance": _at_chance(manifest.summary),
        "warm-up": _warm_up(manifest.config, history),
        "choice of epoch": _choice_of_epoch(manifest.summary, history),
    }
    return {kind: sentence for kind, sentence in found.items() if sentence}


def metadata_caveat(metadata: Record, *, difference: Record) -> str:
    """A sentence where metadata alone is about as good as the model, or better; else empty.

    Args:
        metadata: interval of its accuracy, as plain data.
        difference: interval of the model's accuracy minus that, paired.
    """
    clear = difference["low"] > 0 if difference["low"] is not None else difference["value"] >= CLOSE
    if clear:
        return ""
    return (
        f"metadata alone (length, size, frame rate, codec, amount of motion) is right on {100 * metadata['value']:.1f} "
        f"%, the model on {100 * (metadata['value'] + difference['value']):.1f} %: it may have learned how the files "
        "were made, not what they show"
    )


def _at_chance(summary: Record) -> str:
    """Pretraining that hardly does better than guessing: within the noise, or less than a tenth of what is possible."""
    if "chance" not in summary:
        return ""
    accuracy, chance = summary.get("val_accuracy", summary["accuracy"]), summary["chance"]
    tuples = summary.get("held_out", {}).get("clips") or summary["tuples"]
    noise = 2 * math.sqrt(chance * (1 - chance) / tuples)
    if accuracy >= chance + max(noise, (1 - chance) / 10):
        return ""
    return (
        f"the pretext task stayed at chance: {100 * accuracy:.1f} % of the tuples right, guessing gives "
        f"{100 * chance:.1f} %"
    )


def _warm_up(config: Record, history: Sequence[Record]) -> str:
    steps, planned = int(history[-1]["step"]), int(config.get("optimizer", {}).get("warmup_steps", 0))
    if planned < steps:
        return ""
    return f"the warm-up of {planned} steps is as long as the training ({steps}): lower optimizer.warmup_steps"


def _choice_of_epoch(summary: Record, history: Sequence[Record]) -> str:
    held_out = summary.get("held_out")
    if not held_out or len(history) < 2:
        return ""
    segments, groups = held_out["segments"], held_out["groups"]
    if groups >= FEW_GROUPS and segments >= FEW_SEGMENTS:
        return ""
    return (
        f"the epoch was chosen on {segments} segment{'s' * (segments != 1)} of {groups} group{'s' * (groups != 1)}, "
        "which cannot tell epochs apart: label more groups, or raise sample.val_share"
    )
