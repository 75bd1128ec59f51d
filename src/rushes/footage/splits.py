"""Which split each group of videos belongs to: given splits win, the rest follows a fixed hash of the group's name."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from rushes.config import SampleConfig
from rushes.errors import UserError
from rushes.footage.annotation import Annotation


def group_of(path: str, annotation: Annotation | None = None) -> str:
    """The given group, the gXX of a UCF-style name (v_Class_gXX_cYY), or the file itself."""
    if annotation is not None and annotation.group:
        return annotation.group
    match = re.search(r"_(g\d+)_c\d+$", PurePosixPath(path).stem)
    return match[1] if match else path


def share_of(name: str) -> float:
    """A fixed number in [0, 1) that looks random: the hash of a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64


class Splits:
    """The group of each file and the split of each segment.

    Args:
        paths: of all files.
        annotations: of each file that has any, by path.
        config: `val_share` and `test_share` count.

    Raises:
        UserError: a group is on both sides of test.
    """

    def __init__(
        self, paths: Sequence[str], annotations: Mapping[str, Sequence[Annotation]], config: SampleConfig
    ) -> None:
        self.val_share = config.val_share
        grouped = {path: next((a for a in known if a.group), None) for path, known in annotations.items()}
        self.groups = {path: group_of(path, grouped.get(path)) for path in paths}
        known = [a for path in paths for a in annotations.get(path, ())]
        self.val_given = any(a.split == "val" for a in known)
        self.test = {self.groups[a.path] for a in known if a.split == "test"}
        others = {self.groups[a.path] for a in known if a.split not in (None, "test")}
        if both := sorted(self.test & others):
            raise UserError(
                f"split: {_some(both)} on both sides of test: "
                "a group (a person, a scene, a recording) is all test or not at all"
            )
        if not self.test:
            labelled = {self.groups[a.path] for a in known if a.label and a.split is None}
            self.test = {group for group in labelled if share_of(f"test:{group}") < config.test_share}

    def group(self, path: str) -> str:
        """The group of a file."""
        return self.groups[path]

    def split(self, path: str, *, label: str | None, annotation: Annotation | None) -> str:
        """The split of a segment of a file, which has this label and lies in this annotation."""
        group = self.groups[path]
        if group in self.test:
            return "test"
        if annotation is not None and annotation.split == "val":
            return "val"
        if not self.val_given and share_of(group) < self.val_share:
            return "val"
        return "train" if label else "unlabelled"


def check_coverage(rows: Iterable[tuple[str, str, str]]) -> None:
    """Checks that every class has training segments, that something can be tested, and that no group is in both.

    Args:
        rows: (label, split, group) of each segment.

    Raises:
        UserError: names the class that lacks segments, and what to do.
    """
    classes: set[str] = set()
    trained: set[str] = set()
    labelled_groups: set[str] = set()
    groups: dict[bool, set[str]] = {True: set(), False: set()}  # tested or not
    tested = False
    for label, split, group in rows:
        groups[split == "test"].add(group)
        if label:
            classes.add(label)
            labelled_groups.add(group)
            trained |= {label} if split == "train" else set()
            tested |= split == "test"
    divided = sorted(groups[True] & groups[False])
    assert not divided, f"groups on both sides of test: {_some(divided)}"
    if not classes:
        return
    remedy = "label more groups, lower sample.val_share and sample.test_share, or give a split column"
    if lacking := sorted(classes - trained):
        raise UserError(f"split: no training segment is left for the class {_some(lacking)}: {remedy}")
    if not tested:
        raise UserError(f"split: none of the {len(labelled_groups)} labelled groups falls to the test split: {remedy}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
