"""Folds of labelled groups: each group is in the test split of one fold, whatever splits the labels give."""

from collections.abc import Sequence
from dataclasses import replace

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.splits import group_of, share_of


def fold_annotations(annotations: Sequence[Annotation], *, fold: int, folds: int) -> list[Annotation]:
    """The annotations with the test split of a fold, and without any other split.

    Labelled groups are dealt in turn, in the order of a hash of their names: folds differ by at most one group, and are
    the same on every machine.

    Args:
        annotations: of the videos; their splits are ignored.
        fold: from 1.
        folds: how many there are.

    Raises:
        UserError: fewer labelled groups than folds.
    """
    of_path = {a.path: group_of(a.path, a) for a in reversed(annotations) if a.group}
    groups = [of_path.get(a.path) or group_of(a.path, a) for a in annotations]
    labelled = {group for group, a in zip(groups, annotations, strict=True) if a.label}
    if len(labelled) < folds:
        raise UserError(f"folds: {folds} is not allowed; the labels have {len(labelled)} groups: lower --folds")
    dealt = sorted(labelled, key=lambda name: (share_of(f"fold:{name}"), name))
    test = set(dealt[fold - 1 :: folds])
    return [replace(a, split="test" if group in test else None) for group, a in zip(groups, annotations, strict=True)]
