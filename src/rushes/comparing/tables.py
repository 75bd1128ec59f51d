"""From the answers of a comparison's chains to its table: intervals, paired differences, labels saved.

Folds and seeds are pooled: all answers about a group of videos, of all folds and seeds, are one group of values.
Intervals say how results may change with other videos, given these training runs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from rushes.evaluation.caveats import metadata_caveat
from rushes.evaluation.measure import column
from rushes.evaluation.statistics import (
    MIN_GROUPS,
    difference_interval,
    holm,
    labels_needed,
    labels_needed_bounds,
    paired_p,
    share_interval,
)

SCHEMA = 1
FLIPS = 10_000
"""Random swaps behind a p-value: the smallest is 1 / FLIPS, and Holm multiplies it by the number of comparisons."""
KNOWN = ("key", "group", "label")
METADATA = "metadata only"
"""Name of the row that sees no frame."""
Figures = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One row on one fold with one seed."""

    row: str
    """Name of the row."""
    fold: int
    seed: int
    answers: Mapping[str, Sequence[str]]
    """Columns key, group, label, and predicted labels by protocol."""
    labels_per_class: float = 0.0
    """Labelled training segments per class, 0 if nothing was fine-tuned."""
    gflops: float = 0.0
    frames: int = 0
    """Frames of all tuples, each time that they were shown."""
    hours: float = 0.0
    """Time of pretraining, validation included."""
    pretext: tuple[float, float] | None = None
    """Accuracy at the pretext task (of held-out segments where there are any), and chance."""
    caveats: Mapping[str, str] = field(default_factory=dict)
    """What to read with its figures, by kind: a sentence each."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of the table before anything is measured: an initialisation, or the metadata."""

    name: str
    init: str
    network: str
    baseline: str = ""
    """Name of the row of random weights to compare with; its own name or empty: none."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Whether a row's answers are right, over folds and seeds, in one order for all rows."""

    right: Mapping[str, Figures]
    """By protocol, [n]: 1 or 0."""
    groups: npt.NDArray[np.str_]
    """[n]."""
    measured: Sequence[Measurement] = field(repr=False)


def pool(measured: Sequence[Measurement]) -> Pooled:
    """Joins the measurements of one row."""
    ordered = sorted(measured, key=lambda m: (m.fold, m.seed))
    protocols = [name for name in ordered[0].answers if name not in KNOWN]
    right = {
        name: np.concatenate([np.array(m.answers[name]) == np.array(m.answers["label"]) for m in ordered]).astype(float)
        for name in protocols
    }
    return Pooled(right=right, groups=np.concatenate([np.array(m.answers["group"]) for m in ordered]), measured=ordered)


def compare(
    rows: Sequence[TableRow],
    measured: Sequence[Measurement],
    *,
    numbers: Sequence[int],
    resamples: int = FLIPS,
    seed: int = 0,
) -> dict[str, Any]:
    """The whole result as plain data.

    Args:
        rows: in the order of the table.
        measured: one per row, fold and seed.
        numbers: numbers of labels per class, ascending; 0 (all) is added.
        resamples: random swaps of whole groups behind a p-value.
        seed: of the swaps.
    """
    pooled = {row.name: pool([m for m in measured if m.row == row.name]) for row in rows}
    run = {"resamples": resamples, "seed": seed}
    any_row = next(iter(pooled.values()))
    labels = Counter(label for m in any_row.measured for label in m.answers["label"])
    return {
        "schema": SCHEMA,
        "labels_per_class": list(numbers),
        "test": {
            "groups": len(set(any_row.groups)),
            "folds": len({m.fold for m in any_row.measured}),
            "seeds": len({m.seed for m in any_row.measured}),
            "classes": len(labels),
            "chance": max(labels.values()) / labels.total(),
            "segments": len({key for m in any_row.measured for key in m.answers["key"]}),
        },
        "rows": [_row(row, pooled, numbers=numbers) for row in rows],
        "caveats": [sentence for row in rows for sentence in _caveats(row, pooled)],
        "against random": _against_random(rows, pooled, numbers=numbers, run=run),
        "pretraining": _pretraining(rows, pooled, numbers=numbers),
        "between members": _between_members(rows, pooled, run=run),
    }


def _caveats(row: TableRow, pooled: Mapping[str, Pooled]) -> list[str]:
    """What to read with a row's figures: each kind once, with the number of runs that it holds for."""
    own, found = pooled[row.name], []
    for kind in sorted({kind for m in own.measured for kind in m.caveats}):
        sentences = [m.caveats[kind] for m in own.measured if kind in m.caveats]
        runs = f" (the first of {len(sentences)} such runs of {len(own.measured)})" if len(own.measured) > 1 else ""
        found.append(f"{row.name}: {sentences[0]}{runs}")
    name, metadata = column("fine-tune", 0), pooled.get(METADATA)
    if metadata is not None and row.init not in ("", "random"):
        probed = metadata.right[column("linear probe", 0)]
        difference = difference_interval(own.right[name] - probed, own.groups)
        shown = metadata_caveat(asdict(share_interval(probed, own.groups)), difference=asdict(difference))
        found += [f"{row.name}: {shown}"] if shown else []
    return found


def protocols_of(numbers: Sequence[int]) -> list[str]:
    """The columns of figures: nearest neighbour, linear probe and fine-tune at each number of labels and all."""
    several = [*numbers, 0]
    names = [column(protocol, labels) for protocol in ("linear probe", "fine-tune") for labels in several]
    return [column("nearest neighbour", 0), *names]


def _row(row: TableRow, pooled: Mapping[str, Pooled], *, numbers: Sequence[int]) -> dict[str, Any]:
    own = pooled[row.name]
    pretext = [m.pretext for m in own.measured if m.pretext is not None]
    return {
        **asdict(row),
        "gflops": float(np.mean([m.gflops for m in own.measured])),
        "frames": float(np.mean([m.frames for m in own.measured])),
        "hours": float(np.sum([m.hours for m in own.measured])),
        "pretext": {"accuracy": float(np.mean([accuracy for accuracy, _ in pretext])), "chance": pretext[0][1]}
        if pretext
        else None,
        "top1": {name: asdict(share_interval(values, own.groups)) for name, values in own.right.items()},
        "labels_saved": {
            str(labels): asdict(labels_saved(own, pooled[row.baseline], labels=labels, numbers=numbers))
            for labels in numbers
        }
        if row.baseline not in ("", row.name)
        else {},
    }


@dataclass(frozen=True, kw_only=True)
class LabelsSaved:
    """How many labels per class random weights need to be as good as another row with fewer."""

    needed: float | None
    """None if they are not as good with all labels."""
    low: float | None
    """Lower bound of `needed`; None if it is beyond all labels, or if there are too few groups."""
    high: float | None
    most: float
    """Labels per class when all are used: nothing is known beyond it."""
    known: bool
    """Whether there are enough groups for bounds."""


def labels_saved(own: Pooled, random: Pooled, *, labels: int, numbers: Sequence[int]) -> LabelsSaved:
    """With how many labels fine-tuned random weights reach this row's accuracy at `labels` per class.

    Linear between the numbers of labels that were run, and all.
    """
    most = float(np.mean([m.labels_per_class for m in random.measured]))
    tried = [*(n for n in numbers if n < most), 0]
    right = np.stack([random.right[column("fine-tune", n)] for n in tried], axis=1)
    target = own.right[column("fine-tune", labels)]
    at = np.array([n or most for n in tried], dtype=float)
    known = len(set(own.groups)) >= MIN_GROUPS
    low, high = labels_needed_bounds(at, right, target, own.groups) if known else (np.inf, np.inf)
    return LabelsSaved(
        needed=_finite(labels_needed(at, right.mean(axis=0), float(target.mean()))),
        low=_finite(low),
        high=_finite(high),
        most=most,
        known=known,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _against_random(
    rows: Sequence[TableRow], pooled: Mapping[str, Pooled], *, numbers: Sequence[int], run: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Every row against the random weights of its network, in every protocol: one family of tests."""
    found = [
        {"member": row.name, "other": row.baseline, "protocol": name}
        | _difference(pooled[row.name], pooled[row.baseline], name, run=run)
        for row in rows
        if row.baseline not in ("", row.name)
        for name in protocols_of(numbers)
    ]
    return _with_holm(found)


def _pretraining(
    rows: Sequence[TableRow], pooled: Mapping[str, Pooled], *, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """All pretrained rows together, each against the random weights of its network; empty without several."""
    trained = [row for row in rows if "pretext" in row.init]
    if len(trained) < 2:
        return []
    groups = pooled[trained[0].name].groups
    found = []
    for name in protocols_of(numbers):
        each = [pooled[row.name].right[name] - pooled[row.baseline].right[name] for row in trained]
        interval = difference_interval(np.mean(each, axis=0), groups)
        found.append({"members": len(trained), "protocol": name, "difference": asdict(interval)})
    return found


def _between_members(rows: Sequence[TableRow], pooled: Mapping[str, Pooled], *, run: Mapping[str, int]) -> list[Any]:
    """Each pair of pretrained rows, fine-tuned with all labels: another family of tests."""
    name = column("fine-tune", 0)
    trained = [row for row in rows if row.baseline not in ("", row.name)]
    found = [
        {"member": one.name, "other": other.name, "protocol": name}
        | _difference(pooled[one.name], pooled[other.name], name, run=run)
        for one, other in combinations(trained, 2)
    ]
    return _with_holm(found)


def _difference(one: Pooled, other: Pooled, name: str, *, run: Mapping[str, int]) -> dict[str, Any]:
    for mine, theirs in zip(one.measured, other.measured, strict=True):
        assert mine.answers["key"] == theirs.answers["key"], "answers about other segments cannot be paired"
    differences = one.right[name] - other.right[name]
    interval = difference_interval(differences, one.groups)
    enough = interval.groups >= MIN_GROUPS
    return {"difference": asdict(interval), "p": paired_p(differences, one.groups, **run) if enough else None}


def _with_holm(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any(record["p"] is None for record in found):
        return [record | {"p_holm": None} for record in found]
    adjusted = holm([record["p"] for record in found])
    return [record | {"p_holm": p} for record, p in zip(found, adjusted, strict=True)]
