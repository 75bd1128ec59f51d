"""Actions of the synthetic films: how a shape moves, frame by frame.

The shape's state is a point on a torus of four dimensions: position across and down (the frame wraps around), angle,
and phase of the size. It starts uniformly distributed, and an action only adds a displacement that does not depend on
where it starts. A uniform distribution on a torus stays uniform under such a displacement, so at every moment the state
is uniform whatever the action.

Lengths are in pixels, times in frames. Each action has a tempo of its own, within about a sixth, as actions in life do:
how fast a film is played can be told only by recognising the action, so that predicting the pace teaches the actions.
(One seed each: with one tempo for all, pace prediction was easier and its features were worse.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rushes.demo.drawing import RADIUS, States

Floats = NDArray[np.float64]

Kind = Literal["actions", "directed", "places"]
"""Actions that are as likely backwards; actions with a direction of time; places (`rushes.demo.films`)."""

_SLOWING = 20.0  # frames after which a directed action has half of its speed left
_TURNING = {"actions": 0.5, "directed": 0.75, "places": 0.5}  # share of a cycle until it turns back


@dataclass(frozen=True, kw_only=True)
class Take:
    """A part of a film with one action, or none (the shape rests)."""

    action: str
    """One of CLASSES or PLACES, or "" for rest."""
    frames: int


@dataclass(frozen=True, kw_only=True)
class _Displacement:
    """From where an action starts, frame by frame, 0 at the first."""

    x: Floats
    y: Floats
    turns: Floats
    size: Floats
    """Of the phase of the size: 0 to .5 grows from smallest to largest, .5 to 1 shrinks."""


class _Parameters:
    """Random parameters of one action."""

    def __init__(self, rng: np.random.Generator, time: Floats, kind: Kind) -> None:
        self.rng, self.kind = rng, kind
        self.time = _SLOWING * np.log1p(time / _SLOWING) if kind == "directed" else time
        self.nothing = np.zeros_like(time)

    def between(self, low: float, high: float) -> float:
        """Log-uniform, since speeds compare by their ratio."""
        return float(low * (high / low) ** self.rng.random())

    def sign(self) -> float:
        """Either direction; a directed action has only one."""
        return 1.0 if self.kind == "directed" or self.rng.random() < 0.5 else -1.0

    def to_and_fro(self, low: float, high: float) -> Floats:
        """Between -1 and 1; if directed, slowly there and quickly back."""
        cycles = self.cycles(low, high)
        if self.kind != "directed":
            return np.sin(2 * np.pi * cycles)
        return 2 * _there_and_back(cycles, self.kind) - 1

    def moved(self, **axes: Floats) -> _Displacement:
        """Displacement along some axes, made to begin at 0; the others stay."""
        every = {axis: axes.get(axis, self.nothing) for axis in ("x", "y", "turns", "size")}
        return _Displacement(**{axis: values - values[0] for axis, values in every.items()})

    def cycles(self, low: float, high: float) -> Floats:
        """Cycles since the start, from a random phase on; a cycle takes from `low` to `high` frames."""
        return float(self.rng.random()) + self.time / self.between(low, high)


def _bounce(draw: _Parameters) -> _Displacement:
    half = _there_and_back(draw.cycles(14, 19), draw.kind) / 2
    return draw.moved(y=-draw.between(16, 22) * 4 * half * (1 - half))


def _orbit(draw: _Parameters) -> _Displacement:
    angle = 2 * np.pi * draw.sign() * draw.cycles(11, 15)
    radius = draw.between(8, 11)
    return draw.moved(x=radius * np.cos(angle), y=radius * np.sin(angle))


def _pulse(draw: _Parameters) -> _Displacement:
    return draw.moved(size=draw.sign() * draw.cycles(12, 16))


def _rise(draw: _Parameters) -> _Displacement:
    return draw.moved(y=draw.sign() * draw.between(1.6, 2.2) * draw.time)


def _shake(draw: _Parameters) -> _Displacement:
    return draw.moved(x=draw.between(8, 11) * draw.to_and_fro(7, 9.5))


def _slide(draw: _Parameters) -> _Displacement:
    return draw.moved(x=draw.sign() * draw.between(3.9, 5.3) * draw.time)


def _spin(draw: _Parameters) -> _Displacement:
    return draw.moved(turns=draw.sign() * draw.time / draw.between(25, 34))


def _swing(draw: _Parameters) -> _Displacement:
    return draw.moved(turns=draw.between(0.12, 0.17) * draw.to_and_fro(7.5, 10))


def _cross(draw: _Parameters) -> _Displacement:
    angle, speed = 0.6 * float(draw.rng.random()) - 0.3, draw.between(1.2, 1.8)
    return draw.moved(x=speed * np.cos(angle) * draw.time, y=speed * np.sin(angle) * draw.time)


def _rest(draw: _Parameters) -> _Displacement:
    return draw.moved()


_ACTIONS: dict[str, Callable[[_Parameters], _Displacement]] = {
    "bounce": _bounce,
    "orbit": _orbit,
    "pulse": _pulse,
    "rise": _rise,
    "shake": _shake,
    "slide": _slide,
    "spin": _spin,
    "swing": _swing,
}
_MOTIONS = {**_ACTIONS, "cross": _cross, "": _rest}
CLASSES: tuple[str, ...] = tuple(_ACTIONS)
"""Each is the same class in a mirror; 8 frames are enough to tell it from the others."""
PLACES = tuple(f"at_{360 * n // 8:03d}" for n in range(8))
"""Degrees clockwise from the right, of the shape as seen from the middle, while its action keeps it there."""
_STAYING = ("orbit", "pulse", "shake", "spin", "swing")


def draw_states(
    rng: np.random.Generator, takes: tuple[Take, ...], *, width: int, height: int, kind: Kind = "actions"
) -> States:
    """Draws a film's motion: a uniform start, then one action after another, each from where the last one ended."""
    state = [rng.random() * width, rng.random() * height, rng.random(), rng.random()]
    parts: list[Floats] = []
    for take in takes:
        time = np.arange(take.frames + 1, dtype=np.float64)
        action = take.action
        if action in PLACES:
            angle = 2 * np.pi * (PLACES.index(action) + 0.5 * float(rng.random()) - 0.25) / len(PLACES)
            state[:2] = width * (0.5 + 0.3 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle))
            action = _STAYING[int(rng.random() * len(_STAYING))]
        moved = _MOTIONS[action](_Parameters(rng, time, kind))
        part = np.stack([moved.x, moved.y, moved.turns, moved.size]) + np.array(state)[:, None]
        parts.append(part[:, :-1])
        state = list(part[:, -1])
    x, y, turns, phase = np.concatenate(parts, axis=1)
    return States(x=x % width, y=y % height, turns=turns % 1, radius=_radius(phase, kind))


def _radius(phase: Floats, kind: Kind) -> Floats:
    """Log-uniform for a uniform phase."""
    smallest, largest = RADIUS
    radius: Floats = smallest * (largest / smallest) ** _there_and_back(phase, kind)
    return radius


def _there_and_back(cycles: Floats, kind: Kind) -> Floats:
    """From 0 to 1 and back in each cycle; uniform for uniform cycles."""
    phase, turning = cycles % 1, _TURNING[kind]
    return np.where(phase < turning, phase / turning, (1 - phase) / (1 - turning))
