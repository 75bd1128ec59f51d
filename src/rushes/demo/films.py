"""Films of synthetic actions: the data that the project brings along, for its demo and its tests.

    from rushes.demo.films import write_dataset
    write_dataset(Path("films"), seed=0, size="demo")

A film shows one shape (an arrow, a heart, a fish, ...) that slides, spins, bounces, ... over a textured background.
The result are real mp4 files in `unlabelled/`, `train/` and `test/` and one `labels.csv` (path, start, end, label,
group, split; start and end in seconds, empty for a whole file).

**The classes differ only in motion.** The shape's state is a point on a torus of four dimensions: place across and
down (the picture wraps round), angle, and phase of the size. It starts uniformly distributed, and an action only adds
a displacement that does not depend on where it starts. A uniform distribution on a torus stays uniform under such a
displacement, so at every moment the state is uniform whatever the action; looks, lengths and sizes are drawn without
knowing the action. Hence the distribution of any single frame is the same for all classes.

**With `size="directed"` time has a direction.** The other actions are as likely backwards, so that nothing could learn
the arrow of time from them. Directed ones turn, travel and grow one way only, swing there slowly and back quickly, and
lose their speed as they go on. The argument above holds for them as it stands.

**With `size="places"` the classes are places**: in which direction from the middle the shape is, which a frame shows
and no motion: for networks of single frames, which the other classes leave blind (docs/methods.md#trap-12). In the
unlabelled films pale shapes cross a dark picture from left to right: where a shape is tells when, and is easily seen.

Everything is a function of (seed, size) alone: files come out the same whoever draws them, in whatever order, after
whatever interruption.
"""

import csv
import io
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rushes.demo.drawing import RADIUS, Look, States, draw_family, draw_frames, draw_look
from rushes.errors import UserError
from rushes.progress import NullProgress, Progress
from rushes.video.encode import encode_h264

Floats = NDArray[np.float64]

FPS = 25
LABELS = "labels.csv"
COLUMNS = ("path", "start", "end", "label", "group", "split")

_VERSION = 3  # of what is drawn: raise it with every change, so that an old folder is not taken for a new one
_QP, _GOP = 23, 25
_FRAME_SIZES = ((112, 96), (96, 96), (96, 112))  # width, height
_REST = (0.3, 0.8)  # seconds of stillness between two actions of a film
_STATE = "dataset.json"  # settings, and whether all is there
_PART = ".part-"
_PLAN, _GROUP, _FILM = range(3)  # streams of random numbers
_SLOWING = 20.0  # frames after which a directed action has half of its speed left
_TURNING = {"actions": 0.5, "directed": 0.75, "places": 0.5}  # part of a cycle that is the way there, not back


Kind = Literal["actions", "directed", "places"]
"""Actions that are as likely backwards; actions with a direction of time; places (see the module)."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSize:
    """How much to draw. Every labelled group shows each class once, so `train_groups` = labels a class."""

    unlabelled_files: int = 144
    """Short unlabelled films, three a group."""
    unlabelled_seconds: tuple[float, float] = (2.0, 8.0)
    """Their shortest and longest; several actions follow each other in the longer ones."""
    long_files: int = 6
    """Long unlabelled films, a group each."""
    long_seconds: tuple[float, float] = (30.0, 60.0)
    """Their shortest and longest."""
    train_groups: int = 10
    """Labelled examples a class to learn from."""
    long_train_groups: int = 2
    """How many of them are one film with all classes one after another, labelled by intervals."""
    test_groups: int = 40
    """Labelled examples a class to test on."""
    long_test_groups: int = 6
    """How many of them are one film."""
    clip_seconds: tuple[float, float] = (1.6, 2.2)
    """Shortest and longest labelled example."""
    films: Kind = "actions"
    """Of which kind."""

    def __post_init__(self) -> None:
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        for name, value in counts.items():
            if value < 0:
                raise UserError(f"size.{name}: {value} is not allowed; 0 or more")
        for split in ("train", "test"):
            if counts[f"long_{split}_groups"] > counts[f"{split}_groups"]:
                raise UserError(f"size.long_{split}_groups: more than size.{split}_groups, of which it is a part")
        for name in ("unlabelled_seconds", "long_seconds", "clip_seconds"):
            low, high = getattr(self, name)
            if not 1.0 <= low <= high <= 600.0:
                raise UserError(f"size.{name}: {(low, high)} is not allowed; shortest and longest, from 1 to 600")


SIZES: dict[str, SyntheticSize] = {
    "demo": SyntheticSize(),
    "tiny": SyntheticSize(
        unlabelled_files=24,
        unlabelled_seconds=(1.6, 2.4),
        long_files=1,
        long_seconds=(6.0, 8.0),
        train_groups=3,
        long_train_groups=1,
        test_groups=6,
        long_test_groups=1,
        clip_seconds=(1.0, 1.2),
    ),
    "directed": SyntheticSize(films="directed"),
    "places": SyntheticSize(films="places"),
}


@dataclass(frozen=True, kw_only=True)
class Take:
    """A stretch of a film with one action, or none (the shape rests)."""

    action: str
    """One of CLASSES or PLACES, or "" for rest."""
    frames: int


@dataclass(frozen=True, kw_only=True)
class Film:
    """One file to be: what happens in it, not yet how it looks."""

    number: int
    """Place in the plan; the film's looks and motion are drawn from (seed, number)."""
    path: str
    group: int
    split: str
    """unlabelled (of which every tenth group is declared val), train or test."""
    takes: tuple[Take, ...]
    kind: Kind

    @property
    def frames(self) -> int:
        """Length."""
        return sum(take.frames for take in self.takes)


@dataclass(frozen=True, kw_only=True)
class SyntheticDataset:
    """What stands in the folder."""

    folder: Path
    labels: Path
    """The CSV file."""
    files: int
    frames: int
    seconds: float
    """Running time of all films together."""


# Actions -------------------------------------------------------------------------------------------------------------
#
# Lengths are pixels, times are frames. Each action has a tempo of its own, give or take a sixth, as actions have in
# life: only who knows which action it is can tell how fast a film is played, so that predicting the pace teaches the
# actions. (One seed each: with one tempo for all, pace prediction came out easier and its features worse.)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """Displacement from where an action starts, frame by frame, 0 at the first."""

    x: Floats
    y: Floats
    turns: Floats
    size: Floats
    """Of the phase of the size: 0 to .5 grows from smallest to largest, .5 to 1 shrinks."""


class _Draws:
    """Random parameters of one action."""

    def __init__(self, rng: np.random.Generator, time: Floats, kind: Kind) -> None:
        self.rng, self.kind = rng, kind
        self.time = _SLOWING * np.log1p(time / _SLOWING) if kind == "directed" else time
        self.nothing = np.zeros_like(time)

    def between(self, low: float, high: float) -> float:
        """Log-uniform: a speed's ratio to another is what counts."""
        return float(low * (high / low) ** self.rng.random())

    def sign(self) -> float:
        """Either direction; of a directed action there is but one."""
        return 1.0 if self.kind == "directed" or self.rng.random() < 0.5 else -1.0

    def to_and_fro(self, low: float, high: float) -> Floats:
        """Between -1 and 1; directed, there slowly and back quickly."""
        cycles = self.cycles(low, high)
        if self.kind != "directed":
            return np.sin(2 * np.pi * cycles)
        return 2 * _there_and_back(cycles, self.kind) - 1

    def way(self, **moved: Floats) -> _Way:
        """Begins every displacement at 0; what is not moved stays."""
        axes = {axis: moved.get(axis, self.nothing) for axis in ("x", "y", "turns", "size")}
        return _Way(**{axis: values - values[0] for axis, values in axes.items()})

    def cycles(self, low: float, high: float) -> Floats:
        """Cycles since the start, from a random phase on; a cycle takes from `low` to `high` frames."""
        return float(self.rng.random()) + self.time / self.between(low, high)


def _bounce(draws: _Draws) -> _Way:
    half = _there_and_back(draws.cycles(14, 19), draws.kind) / 2
    return draws.way(y=-draws.between(16, 22) * 4 * half * (1 - half))


def _orbit(draws: _Draws) -> _Way:
    angle = 2 * np.pi * draws.sign() * draws.cycles(11, 15)
    radius = draws.between(8, 11)
    return draws.way(x=radius * np.cos(angle), y=radius * np.sin(angle))


def _pulse(draws: _Draws) -> _Way:
    return draws.way(size=draws.sign() * draws.cycles(12, 16))


def _rise(draws: _Draws) -> _Way:
    return draws.way(y=draws.sign() * draws.between(1.6, 2.2) * draws.time)


def _shake(draws: _Draws) -> _Way:
    return draws.way(x=draws.between(8, 11) * draws.to_and_fro(7, 9.5))


def _slide(draws: _Draws) -> _Way:
    return draws.way(x=draws.sign() * draws.between(3.9, 5.3) * draws.time)


def _spin(draws: _Draws) -> _Way:
    return draws.way(turns=draws.sign() * draws.time / draws.between(25, 34))


def _swing(draws: _Draws) -> _Way:
    return draws.way(turns=draws.between(0.12, 0.17) * draws.to_and_fro(7.5, 10))


def _cross(draws: _Draws) -> _Way:
    angle, speed = 0.6 * float(draws.rng.random()) - 0.3, draws.between(1.2, 1.8)
    return draws.way(x=speed * np.cos(angle) * draws.time, y=speed * np.sin(angle) * draws.time)


def _rest(draws: _Draws) -> _Way:
    return draws.way()


_ACTIONS: dict[str, Callable[[_Draws], _Way]] = {
    "bounce": _bounce,
    "orbit": _orbit,
    "pulse": _pulse,
    "rise": _rise,
    "shake": _shake,
    "slide": _slide,
    "spin": _spin,
    "swing": _swing,
}
_WAYS = {**_ACTIONS, "cross": _cross, "": _rest}
CLASSES: tuple[str, ...] = tuple(_ACTIONS)
"""None changes its name in a mirror; a stretch of 8 frames tells it from the others."""
PLACES = tuple(f"at_{360 * n // 8:03d}" for n in range(8))
"""Degrees clockwise from the right, of the shape as seen from the middle, while it does anything but travel."""
_STAYING = ("orbit", "pulse", "shake", "spin", "swing")


def draw_states(
    rng: np.random.Generator, takes: tuple[Take, ...], *, width: int, height: int, kind: Kind = "actions"
) -> States:
    """Draws a film's motion: a uniform start, then one action after another, each from where the last one ended."""
    place = [rng.random() * width, rng.random() * height, rng.random(), rng.random()]
    parts: list[Floats] = []
    for take in takes:
        time = np.arange(take.frames + 1, dtype=np.float64)
        action = take.action
        if action in PLACES:
            angle = 2 * np.pi * (PLACES.index(action) + 0.5 * float(rng.random()) - 0.25) / len(PLACES)
            place[:2] = width * (0.5 + 0.3 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle))
            action = _STAYING[int(rng.random() * len(_STAYING))]
        way = _WAYS[action](_Draws(rng, time, kind))
        part = np.stack([way.x, way.y, way.turns, way.size]) + np.array(place)[:, None]
        parts.append(part[:, :-1])
        place = list(part[:, -1])
    x, y, turns, phase = np.concatenate(parts, axis=1)
    return States(x=x % width, y=y % height, turns=turns % 1, radius=_radius(phase, kind))


def _radius(phase: Floats, kind: Kind) -> Floats:
    """Uniform in the logarithm for a uniform phase."""
    smallest, largest = RADIUS
    radius: Floats = smallest * (largest / smallest) ** _there_and_back(phase, kind)
    return radius


def _there_and_back(cycles: Floats, kind: Kind) -> Floats:
    """From 0 to 1 and back in a cycle; uniform where the cycles are."""
    phase, turning = cycles % 1, _TURNING[kind]
    return np.where(phase < turning, phase / turning, (1 - phase) / (1 - turning))


# The plan ------------------------------------------------------------------------------------------------------------


def plan_films(*, seed: int = 0, size: str | SyntheticSize = "demo") -> tuple[Film, ...]:
    """Decides which films there are and what happens in each, without drawing any."""
    planner = _Planner(seed, resolve_size(size))
    planner.unlabelled()
    planner.labelled("train")
    planner.labelled("test")
    return tuple(planner.films)


def resolve_size(size: str | SyntheticSize) -> SyntheticSize:
    """Returns the size of that name."""
    if isinstance(size, SyntheticSize):
        return size
    if size not in SIZES:
        raise UserError(f"size: {size!r} is not known; one of {', '.join(SIZES)}")
    return SIZES[size]


class _Planner:
    """Collects films; the order of its draws is the plan."""

    def __init__(self, seed: int, size: SyntheticSize) -> None:
        self.rng = _generator(seed, _PLAN, 0)
        self.size = size
        self.films: list[Film] = []
        self.groups = 0

    def unlabelled(self) -> None:
        for number in range(self.size.unlabelled_files):
            if number % 3 == 0:
                self.groups += 1
            self._add("unlabelled", number % 3, self._medley(self.size.unlabelled_seconds))
        for _ in range(self.size.long_files):
            self.groups += 1
            self._add("unlabelled", 0, self._medley(self.size.long_seconds))

    def labelled(self, split: str) -> None:
        groups, long_groups = getattr(self.size, f"{split}_groups"), getattr(self.size, f"long_{split}_groups")
        for group in range(groups):
            self.groups += 1
            takes = [Take(action=action, frames=self._frames(self.size.clip_seconds)) for action in self._labels()]
            if group < long_groups:
                self._add(split, 0, self._with_rests(takes))
            else:
                for number, take in enumerate(takes):
                    self._add(split, number, (take,))

    def _add(self, split: str, number: int, takes: tuple[Take, ...]) -> None:
        path = f"{split}/v_g{self.groups:03d}_c{number + 1:02d}.mp4"
        film = Film(
            number=len(self.films), path=path, group=self.groups, split=split, takes=takes, kind=self.size.films
        )
        self.films.append(film)

    def _medley(self, seconds: tuple[float, float]) -> tuple[Take, ...]:
        """Any actions, of 2 to 4 seconds each and with rests between, until a length drawn log-uniformly is filled."""
        left = round(FPS * seconds[0] * (seconds[1] / seconds[0]) ** float(self.rng.random()))
        takes: list[Take] = []
        actions: list[str] = []
        while left >= 2 * FPS or not takes:
            takes += [self._rest()] if takes else []
            actions = actions or (["cross"] if self.size.films == "places" else self._shuffled())
            takes.append(Take(action=actions.pop(), frames=min(self._frames((2, 4)), left)))
            left -= sum(take.frames for take in takes[-2:])
        return tuple(takes)

    def _with_rests(self, takes: list[Take]) -> tuple[Take, ...]:
        film = takes[:1]
        for take in takes[1:]:
            film += [self._rest(), take]
        return tuple(film)

    def _rest(self) -> Take:
        return Take(action="", frames=self._frames(_REST))

    def _frames(self, seconds: tuple[float, float]) -> int:
        return round(FPS * (seconds[0] + (seconds[1] - seconds[0]) * float(self.rng.random())))

    def _labels(self) -> list[str]:
        return self._shuffled(PLACES if self.size.films == "places" else CLASSES)

    def _shuffled(self, names: tuple[str, ...] = CLASSES) -> list[str]:
        return [names[i] for i in np.argsort(self.rng.random(len(names)), kind="stable")]


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, number])))


# Files ---------------------------------------------------------------------------------------------------------------


def draw_film(film: Film, *, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a film: I420, uint8 [height * 3 / 2, width]."""
    group = _generator(seed, _GROUP, film.group)
    width, height = _FRAME_SIZES[int(group.random() * len(_FRAME_SIZES))]
    family = draw_family(group, width=width, height=height, night=film.kind == "places")
    rng = _generator(seed, _FILM, film.number)
    look: Look = draw_look(rng, family)
    yield from draw_frames(look, draw_states(rng, film.takes, width=width, height=height, kind=film.kind))


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
        folder: Empty, or absent, or holding this very data set, whole or in part.
        seed: Another seed draws other films.
        size: A name of SIZES or numbers of one's own.
        workers: Processes; 0 means one a core. They do not change the bytes.
        progress: Where to report to.

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
    _replace(folder / LABELS, labels_csv(films).encode())
    _replace(folder / _STATE, _state(settings, complete=True))
    frames = sum(film.frames for film in films)
    return SyntheticDataset(
        folder=folder, labels=folder / LABELS, files=len(films), frames=frames, seconds=frames / FPS
    )


def labels_csv(films: tuple[Film, ...]) -> str:
    """Returns the text of `labels.csv`: a row a film, or a row an action where a labelled film has several."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for film in films:
        for start, end, label in _intervals(film):
            writer.writerow([film.path, start, end, label, f"g{film.group:03d}", _declared_split(film)])
    return text.getvalue()


def _declared_split(film: Film) -> str:
    """Every tenth unlabelled group is for validating pretraining; every label of the training part is for training."""
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
    """Makes sure that what already stands in the folder belongs to this data set."""
    for part in folder.rglob(f"{_PART}*"):
        part.unlink()  # of a run that was killed
    state = folder / _STATE
    if state.is_file():
        found = json.loads(state.read_text())
        if {key: found.get(key) for key in settings} != settings:
            raise UserError(f"folder: {folder} holds synthetic films of other settings: choose another, or delete it")
    elif any(folder.iterdir()):
        raise UserError(f"folder: {folder} is not empty: choose another")
    else:
        _replace(state, _state(settings, complete=False))


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
    _replace(folder / film.path, encode_h264(draw_film(film, seed=seed), fps=FPS, qp=_QP, gop=_GOP))
    return film.frames


def _replace(path: Path, data: bytes) -> None:
    """Writes all of a file or nothing of it: `rushes.store` has the like, but stands above this module."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
