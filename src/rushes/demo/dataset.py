"""The synthetic films as files: the data that the project brings along, for its demo and its tests.

    write_dataset(Path("films"), seed=0, size="demo")

The folder then holds real mp4 files in `unlabelled/`, `train/` and `test/`, and `labels.csv` (path, start, end, label,
group, split; start and end in seconds, empty for a whole file). Repeating an interrupted run completes it.
"""

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rushes.demo.films import FPS, Film, SyntheticSize, draw_film, plan_films, resolve_size
from rushes.errors import UserError
from rushes.progress import NullProgress, Progress
from rushes.store.files import PART, write_atomic
from rushes.video.encode import encode_h264

LABELS = "labels.csv"
COLUMNS = ("path", "start", "end", "label", "group", "split")

_VERSION = 3  # of what is drawn: raised with every change, so that an old folder is not taken for a new one
_QP, _GOP = 23, 25
_STATE = "dataset.json"  # the settings, and whether all films are there


@dataclass(frozen=True, kw_only=True)
class SyntheticDataset:
    """The contents of the folder."""

    folder: Path
    labels: Path
    """The CSV file."""
    files: int
    frames: int
    seconds: float
    """Running time of all films together."""


def write_dataset(
    folder: Path,
    *,
    seed: int = 0,
    size: str | SyntheticSize = "demo",
    workers: int = 0,
    progress: Progress | None = None,
) -> SyntheticDataset:
    """Draws and encodes a data set, or what is missing of it.

    Args:
        folder: empty, or absent, or with all or part of the same data set.
        seed: another seed draws other films.
        size: a name in SIZES, or numbers of your own.
        workers: processes; 0 means one per core. They do not change the bytes.
        progress: where to report to.

    Raises:
        UserError: `folder` holds something else, or `size` is not known.
    """
    size, progress = resolve_size(size), progress or NullProgress()
    settings = {"version": _VERSION, "seed": seed, "size": json.loads(json.dumps(asdict(size)))}
    films = plan_films(seed=seed, size=size)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)
    missing = [film for film in films if not (folder / film.path).is_file()]
    if missing:
        _write_films(folder, missing, seed=seed, workers=workers, progress=progress)
    write_atomic(folder / LABELS, labels_csv(films).encode())
    write_atomic(folder / _STATE, _state(settings, complete=True))
    frames = sum(film.frames for film in films)
    return SyntheticDataset(
        folder=folder, labels=folder / LABELS, files=len(films), frames=frames, seconds=frames / FPS
    )


def labels_csv(films: tuple[Film, ...]) -> str:
    """The text of `labels.csv`: one row per film, or per action where a labelled film has several."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for film in films:
        for start, end, label in _intervals(film):
            writer.writerow([film.path, start, end, label, f"g{film.group:03d}", _declared_split(film)])
    return text.getvalue()


def _declared_split(film: Film) -> str:
    """Every tenth unlabelled group validates pretraining; the other splits are as planned."""
    return "val" if film.split == "unlabelled" and film.group % 10 == 9 else film.split


def _intervals(film: Film) -> Iterator[tuple[str, str, str]]:
    if film.split == "unlabelled":
        yield "", "", ""
        return
    if len(film.takes) == 1:
        yield "", "", film.takes[0].action
        return
    first = 0
    for take in film.takes:
        if take.action:
            yield f"{first / FPS:.2f}", f"{(first + take.frames) / FPS:.2f}", take.action
        first += take.frames


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Marks the folder as this data set's; refuses one that holds anything else."""
    for part in folder.rglob(f"{PART}*"):
        part.unlink()  # of a run that was killed
    state = folder / _STATE
    if state.is_file():
        found = json.loads(state.read_text())
        if {key: found.get(key) for key in settings} != settings:
            raise UserError(f"folder: {folder} holds synthetic films of other settings: choose another, or delete it")
    elif any(folder.iterdir()):
        raise UserError(f"folder: {folder} is not empty: choose another")
    else:
        write_atomic(state, _state(settings, complete=False))


def _state(settings: dict[str, Any], *, complete: bool) -> bytes:
    return (json.dumps({**settings, "complete": complete}, indent=2) + "\n").encode()


def _write_films(folder: Path, films: list[Film], *, seed: int, workers: int, progress: Progress) -> None:
    for split in sorted({film.split for film in films}):
        (folder / split).mkdir(exist_ok=True)
    bar = progress.bar("drawing films", total=sum(film.frames for film in films), unit="frames")
    workers = min(workers or os.cpu_count() or 1, len(films))
    if workers == 1:
        for film in films:
            bar.advance(_write_film(folder, film, seed))
        return
    longest_first = sorted(films, key=lambda film: -film.frames)
    # Not forked: the caller may have threads (torch's), and a fork of those can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_write_film, folder, film, seed) for film in longest_first]):
            bar.advance(done.result())


def _write_film(folder: Path, film: Film, seed: int) -> int:
    """Writes one file; returns its frames."""
    write_atomic(folder / film.path, encode_h264(draw_film(film, seed=seed), fps=FPS, qp=_QP, gop=_GOP))
    return film.frames
