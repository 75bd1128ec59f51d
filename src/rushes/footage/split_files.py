"""The official split files of UCF-101 (`trainlist01.txt`, ...) and HMDB-51 (`<class>_test_split1.txt`)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rushes.errors import UserError
from rushes.footage.annotation import Annotation
from rushes.footage.file_names import VideoNames, shown
from rushes.footage.label_table import class_name
from rushes.footage.text_table import read_text

_CLASSES = "classInd.txt"


def read_split_files(folder: Path, videos: Sequence[str], *, fold: int) -> list[Annotation]:
    """Reads the split files of a fold; videos that they do not list are unlabelled.

    Raises:
        UserError: there is no such folder or fold, or it lists an absent video.
    """
    if not folder.is_dir():
        raise UserError(f"splits: {str(folder)!r} is not a folder: give the one with the official split files")
    if (folder / _CLASSES).is_file():
        return _read_ucf(folder, VideoNames(videos), fold)
    if any(folder.glob("*_test_split*.txt")):
        return _read_hmdb(folder, VideoNames(videos), fold)
    raise UserError(
        f"splits: {str(folder)!r} holds neither {_CLASSES} (UCF-101's format) nor <class>_test_split<N>.txt (HMDB-51's)"
    )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not empty, each with its file and number for an error."""
    text = read_text(path, field="splits", expected="lines of text in UTF-8")
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            yield line.strip(), f"{path}: line {number}"


# UCF-101 -------------------------------------------------------------------------------------------------------------


def _read_ucf(folder: Path, names: VideoNames, fold: int) -> list[Annotation]:
    classes = _classes(folder / _CLASSES)
    found = []
    for split in ("train", "test"):
        path = folder / f"{split}list{fold:02d}.txt"
        if not path.is_file():
            folds = sorted(int(p.stem[-2:]) for p in folder.glob("trainlist[0-9][0-9].txt"))
            raise UserError(f"splits: no {path.name} in {str(folder)!r}: fold {fold} is not one of {folds}")
        for line, where in _lines(path):
            name = re.sub(r"\s+\d+$", "", line)  # the number of the class
            category, _, file = name.replace("\\", "/").partition("/")
            label = classes.get((class_name(category, where) or "").casefold())
            if label is None or not file.strip("/. "):
                raise UserError(f"{where}: {shown(name)}: expected <class>/<file>, with a class of {_CLASSES}")
            found.append(Annotation(path=names.find_loosely(name, where), label=label, split=split))
    return found


def _classes(path: Path) -> Mapping[str, str]:
    """The classes by their names in small letters: the lists spell some of HandstandPushups' v_HandStandPushups.

    A line is a number and a name, which may hold spaces; or, in all lines, a name alone.
    """
    lines = list(_lines(path))
    numbered = [re.fullmatch(r"\d+(?:\s+|\s*[,;:.)]\s*)(\S.*)", line) for line, _ in lines]
    classes: dict[str, str] = {}
    for (line, where), match in zip(lines, numbered, strict=True):
        label = class_name(match[1] if match and all(numbered) else line, where) or ""
        if label.casefold() in classes:
            raise UserError(
                f"{where}: the class {label!r} is there already, as {classes[label.casefold()]!r}: keep one"
            )
        classes[label.casefold()] = label
    return classes


# HMDB-51 -------------------------------------------------------------------------------------------------------------


def _read_hmdb(folder: Path, names: VideoNames, fold: int) -> list[Annotation]:
    suffix = f"_test_split{fold}.txt"
    lists = sorted(folder.glob(f"*{suffix}"))
    if not lists:
        raise UserError(f"splits: no <class>{suffix} in {str(folder)!r}: the official folds are 1, 2 and 3")
    found = []
    for path in lists:
        label = class_name(path.name.removesuffix(suffix), str(path))
        for line, where in _lines(path):
            match = re.fullmatch(r"(.*\S)\s+([012])", line)
            if match is None:
                raise UserError(f"{where}: {line!r}: expected a file name and 0 (unused), 1 (train) or 2 (test)")
            if match[2] != "0":
                split = "train" if match[2] == "1" else "test"
                path_of = names.find_loosely(f"{label}/{match[1]}", where)
                found.append(Annotation(path=path_of, label=label, split=split))
    return found
