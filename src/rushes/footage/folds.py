"""Folds of labelled groups: each group is test once, whatever splits the labels give."""

from collections.abc import Sequence
from dataclasses import replace

from rushes.errors import UserError
from rushes.footage.labels import Annotation
from rushes.footage.splits import group_of, share_of


def fold_annotations(annotations: Sequence[Annotation], *, fold: int, folds: int) -> list[Annotation]:
    """The annotations with the test split of a fold, and no other split given.

    Labelled groups are dealt in turn, in an order by a hash of their names: folds are as even in groups as can be, and
    the same on every machine.

    Args:
        annotations: what is known about the videos; splits in it are not looked at.
        fold: from 1.
        folds: how many.

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
