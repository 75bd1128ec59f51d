"""Draws a shape over a textured background, straight to I420: the pixels of the synthetic films.

A *look* (background texture, shape, colours) stays the same through a film; a *state* (position, angle, size) belongs
to one frame. The world is a torus: a shape that leaves by one border enters by the opposite one, so that all positions
are equally likely. `rushes.demo.actions` decides how it moves.

The bytes do not depend on the processor: sines are rounded, and pixels are made with +, -, * and / of float32 arrays,
element by element, which IEEE 754 defines exactly. Only the generator's `random` is used, the method whose stream numpy
has never changed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
T = TypeVar("T")
Corners = list[tuple[float, float]]
Colour = tuple[float, float, float]
"""Luma 16 to 235, then two chroma values around 128 (BT.601, limited range)."""

RADIUS = (20.0, 32.0)
"""Smallest and largest radius of a shape, in pixels."""

_BOX = 72  # side of the square that is drawn around a shape; even, so that chroma samples stay aligned
_OUTLINE = 1.5  # pixels
_CHUNK = 16  # frames drawn at once: numpy's overhead is shared, and the arrays still fit in the cache
_TILE = 128  # period of a texture in pixels
_TABLE = 192  # side of a shape's distance table
_REACH = 1.2  # half the side of the area that the table covers, in radii


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the films of one group share: frame size, and the kind and palette of the background."""

    width: int
    height: int
    cells: tuple[int, int]
    """Size of the largest blotches of the texture, vertical and horizontal, in pixels."""
    ridged: bool
    """Veins, as in marble, instead of blotches."""
    dark: Colour
    light: Colour
    night: bool
    """Pale shapes before a dark background: easy to locate."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What stays the same through a film."""

    family: Family
    texture: tuple[Floats, Floats, Floats]
    """Planes Y, U and V; periodic."""
    shape: str
    near: Colour
    """Colour at one end of the shape; it changes smoothly to `far`."""
    far: Colour
    outline: Colour


@dataclass(frozen=True, kw_only=True)
class States:
    """Position, angle and size of the shape in each frame."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    turns: NDArray[np.float64]
    """Angle, 1 being a full turn."""
    radius: NDArray[np.float64]


def draw_frames(look: Look, states: States) -> Iterator[Bytes]:
    """Yields the frames of a film: uint8 [height * 3 / 2, width], planes Y, U, V."""
    for first in range(0, len(states.x), _CHUNK):
        part = slice(first, first + _CHUNK)
        frames = _backgrounds(look, len(states.x[part]))
        _paint_shapes(frames, look, states, part)
        for frame in frames:
            yield frame.reshape(look.family.height * 3 // 2, look.family.width)


# Looks ---------------------------------------------------------------------------------------------------------------


def draw_family(rng: np.random.Generator, *, width: int, height: int, night: bool = False) -> Family:
    """Draws the palette and the kind of texture of a group."""
    hue, luma = rng.random(), 62 + 80 * rng.random()
    contrast, chroma = 30 + 24 * rng.random(), 10 + 22 * rng.random()
    if night:
        luma, contrast, chroma = 55, 15, 8
    other = hue + 0.12 + 0.3 * rng.random()
    return Family(
        width=width,
        height=height,
        cells=_pick(rng, ((32, 32), (16, 16), (16, 64), (64, 16), (32, 16), (16, 32))),
        ridged=bool(rng.random() < 0.4),
        dark=_colour(luma - contrast, hue, chroma),
        light=_colour(luma + contrast, other, chroma),
        night=night,
    )


def draw_look(rng: np.random.Generator, family: Family) -> Look:
    """Draws a film's own texture, shape and colours, in the style of its family."""
    blotches = _noise(rng, family.cells, ridged=family.ridged)
    grain = _noise(rng, (4, 4), ridged=False)
    luma = _blend(family.dark[0], family.light[0], blotches) + np.float32(14) * (grain - np.float32(0.5))
    coarse = blotches[::2, ::2]
    middle = (family.dark[0] + family.light[0]) / 2
    above = rng.random() < (235 - middle) / 220
    near_luma = middle + (62 + 30 * rng.random()) * (1 if above else -1)
    hue, chroma = rng.random(), 34 + 22 * rng.random()
    if family.night:
        above, near_luma, chroma = False, 190 + 30 * rng.random(), 10
    return Look(
        family=family,
        texture=(
            luma,
            _blend(family.dark[1], family.light[1], coarse),
            _blend(family.dark[2], family.light[2], coarse),
        ),
        shape=_pick(rng, tuple(SHAPES)),
        near=_colour(near_luma, hue, chroma),
        far=_colour(near_luma + 40 * rng.random() - 20, hue + 0.35 * rng.random() - 0.17, chroma),
        outline=_colour(22 if above else 226, hue, 12),
    )


def _pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(rng.random() * len(options))]


def _colour(luma: float, hue: float, chroma: float) -> Colour:
    angle = 2 * math.pi * hue
    return (
        float(round(min(max(luma, 20), 232))),
        float(round(128 + chroma * math.cos(angle))),
        float(round(128 + chroma * math.sin(angle))),
    )


def _blend(start: float, end: float, share: Floats) -> Floats:
    return np.float32(start) + np.float32(end - start) * share


def _noise(rng: np.random.Generator, cells: tuple[int, int], *, ridged: bool) -> Floats:
    """Three octaves of smooth random noise on a torus: float32 [_TILE, _TILE] from 0 to 1."""
    total = np.zeros((_TILE, _TILE), np.float32)
    for octave, weight in enumerate((1.0, 0.55, 0.3)):
        rows, columns = (max(cell >> octave, 2) for cell in cells)
        lattice = rng.random((_TILE // rows, _TILE // columns)).astype(np.float32)
        layer = _stretched(_stretched(lattice, rows).T, columns).T
        total += np.float32(weight) * (np.abs(layer - np.float32(0.5)) if ridged else layer)
    low, high = total.min(), total.max()
    noise: Floats = (total - low) / (high - low)
    return noise


def _stretched(lattice: Floats, factor: int) -> Floats:
    """Interpolates smoothly between the rows of a periodic lattice."""
    step = (np.arange(factor, dtype=np.float32) / np.float32(factor))[None, :, None]
    weight = step * step * (np.float32(3) - np.float32(2) * step)
    below = np.concatenate([lattice[1:], lattice[:1]])
    between = lattice[:, None] + weight * (below - lattice)[:, None]
    rows: Floats = between.reshape(-1, lattice.shape[1])
    return rows


# Backgrounds ---------------------------------------------------------------------------------------------------------


def _backgrounds(look: Look, count: int) -> Bytes:
    """Returns uint8 [count, height * width * 3 / 2]: the texture, the same in every frame."""
    sizes = [(look.family.height // scale, look.family.width // scale) for scale in (1, 2, 2)]
    planes = [
        (plane[:height, :width] + np.float32(0.5)).astype(np.uint8).ravel()
        for plane, (height, width) in zip(look.texture, sizes, strict=True)
    ]
    return np.tile(np.concatenate(planes), (count, 1))


# Shapes --------------------------------------------------------------------------------------------------------------


def _paint_shapes(frames: Bytes, look: Look, states: States, part: slice) -> None:
    """Draws the shape into `frames`, in place, wrapping around the borders."""
    height, width = look.family.height, look.family.width
    rows, dy = _box(states.y[part], height)
    columns, dx = _box(states.x[part], width)
    radius = np.round(states.radius[part] * 64).astype(np.float32)[:, None, None] / np.float32(64)
    distance, along = _distances(look.shape, dx, dy, states.turns[part], radius)
    inside = _coverage(distance)
    body = _coverage(distance + np.float32(_OUTLINE))
    share = np.clip(along * np.float32(0.6) + np.float32(0.5), 0, 1)
    colour = _blend(look.near[0], look.far[0], share)
    colour = np.float32(look.outline[0]) + body * (colour - np.float32(look.outline[0]))
    _mix(frames[:, : height * width], rows[:, :, None] * width + columns[:, None, :], inside, colour)
    _paint_chroma(frames[:, height * width :], look, _halved(inside), _halved(body), share[:, ::2, ::2], rows, columns)


def _paint_chroma(
    planes: Bytes,
    look: Look,
    inside: Floats,
    body: Floats,
    share: Floats,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> None:
    half = look.family.width // 2
    indices = (rows[:, ::2, None] // 2) * half + columns[:, None, ::2] // 2
    size = planes.shape[1] // 2
    for channel in (1, 2):
        colour = _blend(look.near[channel], look.far[channel], share)
        edge = np.float32(look.outline[channel])
        _mix(planes[:, (channel - 1) * size : channel * size], indices, inside, edge + body * (colour - edge))


def _box(centres: NDArray[np.float64], period: int) -> tuple[NDArray[np.intp], Floats]:
    """The rows (or columns) of the box in each frame, and their distances from the centre."""
    centres = np.round(centres * 64) / 64
    first = (np.floor(centres).astype(np.intp) - _BOX // 2) & ~1
    positions = first[:, None] + np.arange(_BOX)
    return positions % period, (positions - centres[:, None]).astype(np.float32)


def _distances(shape: str, dx: Floats, dy: Floats, turns: NDArray[np.float64], radius: Floats) -> tuple[Floats, Floats]:
    """Signed distances to the outline in pixels (negative inside), and the position along the shape's axis."""
    angle = 2 * np.pi * turns
    cos = (np.round(np.cos(angle) * 4096) / 4096).astype(np.float32)[:, None, None] / radius
    sin = (np.round(np.sin(angle) * 4096) / 4096).astype(np.float32)[:, None, None] / radius
    dx, dy = dx[:, None, :], dy[:, :, None]
    u = dx * cos + dy * sin
    v = dy * cos - dx * sin
    index = _table_index(v) * _TABLE + _table_index(u)
    return _distance_table(shape).take(index) * radius, v


def _table_index(position: Floats) -> NDArray[np.int32]:
    scaled = position * np.float32(_TABLE / 2 / _REACH) + np.float32(_TABLE / 2)
    index: NDArray[np.int32] = np.clip(scaled, 0, _TABLE - 1).astype(np.int32)
    return index


def _coverage(distance: Floats) -> Floats:
    """Share of a pixel that is inside an outline at this distance."""
    share: Floats = np.clip(np.float32(0.5) - distance, 0, 1)
    return share


def _halved(plane: Floats) -> Floats:
    pairs = plane[:, ::2] + plane[:, 1::2]
    return (pairs[:, :, ::2] + pairs[:, :, 1::2]) * np.float32(0.25)


def _mix(planes: Bytes, indices: NDArray[np.intp], share: Floats, colour: Floats) -> None:
    """Mixes `share` of `colour` into the values at `indices`."""
    flat = indices.reshape(len(planes), -1)
    under = np.take_along_axis(planes, flat, axis=1).reshape(share.shape).astype(np.float32)
    mixed = under + share * (colour - under) + np.float32(0.5)
    np.put_along_axis(planes, flat, mixed.astype(np.uint8).reshape(len(planes), -1), axis=1)


@cache
def _distance_table(shape: str) -> Floats:
    """Signed distances to a polygon's outline, in radii: float32 [_TABLE * _TABLE], rows top to bottom."""
    corners = _normalised(SHAPES[shape])
    axis = ((np.arange(_TABLE) + 0.5) / _TABLE * 2 - 1) * _REACH
    x, y = axis[None, :], axis[:, None]
    nearest = np.full((_TABLE, _TABLE), np.inf)
    inside = np.zeros((_TABLE, _TABLE), bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        ox, oy = x - ax - along * ex, y - ay - along * ey
        nearest = np.minimum(nearest, ox * ox + oy * oy)
        if ay != by:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) / (by - ay) * ex)
    distance = np.sqrt(nearest)
    table: Floats = np.where(inside, -distance, distance).astype(np.float32).ravel()
    return table


def _normalised(corners: Corners) -> Corners:
    """Moves a polygon's centre of gravity to the origin, and scales it to radius 1."""
    area = mx = my = 0.0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        cross = ax * by - bx * ay
        area, mx, my = area + cross, mx + (ax + bx) * cross, my + (ay + by) * cross
    mx, my = mx / (3 * area), my / (3 * area)
    radius = max(math.hypot(x - mx, y - my) for x, y in corners)
    return [(round((x - mx) / radius, 6), round((y - my) / radius, 6)) for x, y in corners]


def _round(points: int, start: float, stop: float, radius: float = 1.0, x: float = 0.0) -> Corners:
    """Corners on an arc around (x, 0), from one angle to another, in turns."""
    angles = [2 * math.pi * (start + (stop - start) * i / (points - 1)) for i in range(points)]
    return [(x + radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _heart(angle: float) -> tuple[float, float]:
    curve = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
    return 16 * math.sin(angle) ** 3, -curve


def _drop(angle: float) -> tuple[float, float]:
    return 0.8 * math.sin(angle) * math.sin(angle / 2) ** 1.6, -math.cos(angle)


def _around(points: int) -> list[float]:
    return [2 * math.pi * i / points for i in range(points)]


# None looks the same after a part of a turn, so that every turn is visible. y grows downwards.
SHAPES: dict[str, Corners] = {
    "arrow": [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)],
    "bolt": [(0.25, -1), (-0.7, 0.25), (-0.1, 0.25), (-0.35, 1), (0.75, -0.3), (0.15, -0.3), (0.65, -1)],
    "boot": [(-0.6, -1), (0.2, -1), (0.2, 0.1), (0.9, 0.35), (0.9, 0.95), (-0.6, 0.95)],
    "drop": [_drop(angle) for angle in _around(28)],
    "fish": [(0.95 * x - 0.25, 0.6 * y) for x, y in _round(22, 0.06, 0.94)] + [(1.15, -0.65), (0.95, 0), (1.15, 0.65)],
    "flag": [(-0.75, -1), (1, -0.45), (-0.3, 0.15), (-0.3, 1), (-0.75, 1)],
    "hammer": [
        (-0.8, -0.9),
        (0.8, -0.9),
        (0.8, -0.3),
        (0.25, -0.3),
        (0.25, 1),
        (-0.25, 1),
        (-0.25, -0.3),
        (-0.8, -0.3),
    ],
    "heart": [_heart(angle) for angle in _around(32)],
    "house": [(-0.95, -0.1), (0, -1), (0.95, -0.1), (0.65, -0.1), (0.65, 0.9), (-0.65, 0.9), (-0.65, -0.1)],
    "moon": _round(22, 0.14, 0.86) + _round(16, 0.8, 0.2, 0.8, 0.52),
    "pie": [*_round(24, 0.1, 0.9), (0, 0)],
}
