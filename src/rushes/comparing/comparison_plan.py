"""What a comparison runs: its settings, the initialisations, and the pinned and sampled videos per fold.

One machine keeps the plan in memory; between the tasks of a cluster it travels as a file of kilobytes.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rushes.comparing.chains import Chain, footage_in
from rushes.comparing.initialisations import Initialisation, initialisations_of
from rushes.comparing.members import Member, common_sample
from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.folds import fold_annotations
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.store import Manifest, Store
from rushes.strict import Json, build, to_record


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """The settings that all members share.

    Raises:
        UserError: folds or seeds below 1, or a budget that is no number of FLOPs.
    """

    data: DataReference
    """Its fold is not used: the folds of a comparison are 1, 2, ..."""
    folds: int = 3
    seeds: int = 1
    numbers: tuple[int, ...] = (5,)
    """Numbers of labels per class, besides all of them."""
    budget: float = 0.0
    """Backbone training FLOPs of every pretraining; 0 leaves each recipe's own length."""

    def __post_init__(self) -> None:
        for name, value in (("folds", self.folds), ("seeds", self.seeds)):
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; at least 1")
        if not 0 <= self.budget < math.inf:
            raise UserError(f"budget: {self.budget:g} is not allowed; FLOPs, or 0 for the recipes' own lengths")

    def to_record(self) -> dict[str, Json]:
        """Plain data for comparison.json."""
        data = {name: getattr(self.data, name) for name in ("videos", "labels", "splits")}
        return data | {name: getattr(self, name) for name in ("folds", "seeds", "numbers", "budget")}


def numbers_of(text: str) -> tuple[int, ...]:
    """Numbers of labels per class from `1,2,5`, ascending; `0` gives none, so that only all labels are used.

    Raises:
        UserError: something else.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = [-1]
    if numbers[0] < 0:
        raise UserError(f"labels_per_class: {text!r} is not allowed; numbers such as 5 or 1,2,5,10, or 0 for all only")
    return tuple(number for number in numbers if number)


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What is compared, and on which footage."""

    settings: ComparisonSettings
    initialisations: tuple[Initialisation, ...]
    pins: tuple[str, ...]
    """The pinned videos of folds 1, 2, ...: the text of a pointer each."""
    footage: tuple[str, ...] = ()
    """The same for their footage; empty until it is sampled."""

    @property
    def chains(self) -> list[Chain]:
        """All chains to run, fold by fold."""
        return [
            Chain(initialisation=initialisation, fold=fold, seed=seed, labels=(*self.settings.numbers, 0))
            for fold in range(1, self.settings.folds + 1)
            for seed in range(self.settings.seeds)
            for initialisation in self.initialisations
        ]

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(to_record(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "ComparisonPlan":
        """Reads what `write` wrote."""
        return build(cls, json.loads(path.read_text()), "plan")


# The videos ----------------------------------------------------------------------------------------------------------


def make_plan(members: Sequence[Member], settings: ComparisonSettings, *, work: Path) -> ComparisonPlan:
    """Pins the videos for each fold; the pointers go into the folder `work`, which is created.

    Raises:
        UserError: members that cannot be compared, videos without labels, more folds than groups.
    """
    initialisations = initialisations_of(members, common_sample(members), budget=settings.budget)
    work.mkdir(parents=True, exist_ok=True)
    pins = [_pin(settings, fold=fold, out=work / f"pin-{fold}.json") for fold in range(1, settings.folds + 1)]
    return ComparisonPlan(
        settings=settings, initialisations=tuple(initialisations), pins=tuple(pin.to_json() for pin in pins)
    )


def sample_folds(plan: ComparisonPlan, *, work: Path) -> ComparisonPlan:
    """Samples the videos for each fold; the pointers go into the folder `work`.

    Shards do not depend on folds: only the first fold encodes, or finds what others have encoded.

    Returns:
        The plan, with footage.
    """
    from rushes.steps.sample import sample

    recipe, made = plan.initialisations[0].recipe, []
    for fold, pointer in enumerate(plan.pins, 1):
        pin = work / f"pin-{fold}.json"
        pin.write_text(pointer)
        made.append(sample(recipe=recipe, pin=pin, out=footage_in(work, fold=fold)))
    return replace(plan, footage=tuple(manifest.to_json() for manifest in made))


def _pin(settings: ComparisonSettings, *, fold: int, out: Path) -> Manifest:
    """The labelled videos, with the test split of a fold."""
    from rushes.steps.pin import pin

    official = bool(settings.data.splits)
    manifest = pin(data=replace(settings.data, fold=fold if official else 1), out=out)
    if not manifest.summary["annotations"]:
        raise UserError("labels: none found: give --labels FILE.csv, class folders or --splits")
    if official or settings.folds == 1:
        return manifest
    folded = _folded(manifest, open_store(), fold=fold, folds=settings.folds)
    folded.write(out)
    return folded


def _folded(manifest: Manifest, store: Store, *, fold: int, folds: int) -> Manifest:
    listing = json.loads(store.checked(manifest.files["listing.json"]).read_text())
    annotations = [Annotation(**record) for record in listing["annotations"]]
    listing["annotations"] = [asdict(a) for a in fold_annotations(annotations, fold=fold, folds=folds)]
    text = json.dumps(listing, indent=0, sort_keys=True).encode()
    folded = replace(
        manifest, digest=hashlib.sha256(text).hexdigest()[:16], files={"listing.json": store.put_bytes(text)}
    )
    store.publish(folded)
    return folded
