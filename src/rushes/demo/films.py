"""Films of synthetic actions: which there are, and the frames of each.

    for film in plan_films(seed=0, size="demo"):
        for frame in draw_film(film, seed=0): ...  # I420

A film shows one shape (an arrow, a heart, a fish, ...) that slides, spins, bounces, ... over a textured background.
`rushes.demo.dataset` writes them as files.

**The classes differ only in motion.** At every moment the shape's state is uniformly distributed whatever the action
(`rushes.demo.actions`); looks, lengths and sizes are drawn without knowing the action. Hence the distribution of any
single frame is the same for all classes.

**With `size="directed"` time has a direction.** The other actions are as likely backwards, so that nothing could learn
the arrow of time from them. Directed ones turn, travel and grow in one direction only, swing slowly there and quickly
back, and lose their speed as they go on. The argument above holds for them unchanged.

**With `size="places"` the classes are places**: in which direction from the middle the shape is, which a frame shows
and no motion does: for networks of single frames, which cannot tell the other classes (docs/methods.md#trap-12). In the
unlabelled films pale shapes cross a dark background from left to right: where a shape is tells the time.

Everything is a function of (seed, size) alone, so files are the same in whatever order they are drawn, and after any
interruption.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rushes.demo.actions import CLASSES, PLACES, Kind, Take, draw_states
from rushes.demo.drawing import draw_family, draw_frames, draw_look
from rushes.errors import UserError

FPS = 25
_FRAME_SIZES = ((112, 96), (96, 96), (96, 112))  # width, height
_REST = (0.3, 0.8)  # seconds of rest between two actions of a film
_PLAN, _GROUP, _FILM = range(3)  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class SyntheticSize:
    """How much to draw. Every labelled group shows each class once, so there are `train_groups` labels per class."""

    unlabelled_files: int = 144
    """Short unlabelled films, three per group."""
    unlabelled_seconds: tuple[float, float] = (2.0, 8.0)
    """Their shortest and longest; several actions follow each other in the longer ones."""
    long_files: int = 6
    """Long unlabelled films, each a group of its own."""
    long_seconds: tuple[float, float] = (30.0, 60.0)
    """Their shortest and longest."""
    train_groups: int = 10
    """Labelled examples per class to learn from."""
    long_train_groups: int = 2
    """How many of them are one film with all classes one after another, labelled by intervals."""
    test_groups: int = 40
    """Labelled examples per class to test on."""
    long_test_groups: int = 6
    """How many of them are one film."""
    clip_seconds: tuple[float, float] = (1.6, 2.2)
    """Shortest and longest labelled example."""
    films: Kind = "actions"

    def __post_init__(self) -> None:
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        for name, value in counts.items():
            if value < 0:
                raise UserError(f"size.{name}: {value} is not allowed; 0 or more")
        for split in ("train", "test"):
            if counts[f"long_{split}_groups"] > counts[f"{split}_groups"]:
                raise UserError(f"size.long_{split}_groups: at most size.{split}_groups, which includes them")
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
class Film:
    """The content of a film; its looks are drawn later."""

    number: int
    """Position in the plan; the film's looks and motion are drawn from (seed, number)."""
    path: str
    group: int
    split: str
    """unlabelled, train or test."""
    takes: tuple[Take, ...]
    kind: Kind

    @property
    def frames(self) -> int:
        """Length."""
        return sum(take.frames for take in self.takes)


def plan_films(*, seed: int = 0, size: str | SyntheticSize = "demo") -> tuple[Film, ...]:
    """Decides which films there are and which actions each shows, without drawing any."""
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
    """Collects films; the plan depends on the order of its draws."""

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
        """Any actions of 2 to 4 seconds, with rests between, until a log-uniformly drawn length is filled."""
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


def draw_film(film: Film, *, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a film: I420, uint8 [height * 3 / 2, width]."""
    group = _generator(seed, _GROUP, film.group)
    width, height = _FRAME_SIZES[int(group.random() * len(_FRAME_SIZES))]
    family = draw_family(group, width=width, height=height, night=film.kind == "places")
    rng = _generator(seed, _FILM, film.number)
    look = draw_look(rng, family)
    yield from draw_frames(look, draw_states(rng, film.takes, width=width, height=height, kind=film.kind))
