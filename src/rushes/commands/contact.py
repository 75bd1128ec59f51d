"""Contact sheets: one image of many segments, each four frames over a curve of its motion; or of tuples.

contact_sheet([Cell(frames=frames, profile=magnitude, cuts=[83], name="a.mp4", detail="0:08, Jump")], Path("sheet.png"))
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFont

from rushes.video.frames import Frames

Floats = npt.NDArray[np.float32]

FRAMES = 4
"""Frames per cell."""
WIDTH = 1600
"""Width of the sheet in pixels."""
_COLUMNS = 3
_MARGIN, _GAP, _SEAM = 24, 28, 2
_CELL = (WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
_TILE = (_CELL - (FRAMES - 1) * _SEAM) // FRAMES
_CURVE, _LINE, _HEADER = 44, 22, 40
_TUPLE_TILE = 190
_SMOOTH = 3  # curves are drawn this many times larger, then scaled down

_PAPER, _EMPTY, _INK, _FAINT = "#14181f", "#0d1015", "#eef2f6", "#9aa7b5"
_FILL, _EDGE, _CUT = "#2f6f8f", "#6cc4ec", "#ff5a52"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A segment on the sheet."""

    frames: Frames
    """uint8 `[n, H * 3/2, W]`, I420; up to `FRAMES` in order of time."""
    profile: Floats
    """float32 `[frames of the segment]`: motion of each, pixels per frame."""
    cuts: Sequence[int]
    """Positions of the frames that begin a new shot."""
    name: str
    """Name; its middle is left out if it is too long."""
    detail: str
    """Second line of text."""


def evenly(frames: int) -> list[int]:
    """Positions of the frames to show of a segment: the middles of equal parts; fewer for a very short segment."""
    middles = (np.arange(FRAMES) + 0.5) * frames / FRAMES
    return sorted(set(middles.astype(int).tolist()))


def contact_sheet(cells: Sequence[Cell], path: Path) -> tuple[int, int]:
    """Draws the cells row by row and writes a PNG.

    The curves have one scale, the square root of motion, so that cells can be compared.

    Returns:
        (width, height) in pixels.
    """
    rows = [cells[begin : begin + _COLUMNS] for begin in range(0, len(cells), _COLUMNS)]
    tiles = [max(_frame_height(cell.frames) for cell in row) for row in rows]
    steps = [tile + _CURVE + 2 * _LINE + _GAP for tile in tiles]
    sheet = Image.new("RGB", (WIDTH, 2 * _MARGIN + _HEADER + sum(steps) - _GAP), _PAPER)
    legend = "most motion first      curve: motion, square root, one scale for all      red: a cut"
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), legend, fill=_FAINT, font=_font(15))
    top = float(np.quantile(np.concatenate([cell.profile for cell in cells]), 0.99))
    below = _MARGIN + _HEADER
    for row, tile, step in zip(rows, tiles, steps, strict=True):
        for column, cell in enumerate(row):
            drawn = _draw_cell(cell, tile=tile, top=max(top, 0.5))
            sheet.paste(drawn, (_MARGIN + column * (_CELL + _GAP), below))
        below += step
    sheet.save(path, optimize=True)
    return sheet.size


def _draw_cell(cell: Cell, *, tile: int, top: float) -> Image.Image:
    """A cell `_CELL` wide: frames of height `tile`, the curve with `top` as its highest value, two lines of text."""
    image = Image.new("RGB", (_CELL, tile + _CURVE + 2 * _LINE), _PAPER)
    draw = ImageDraw.Draw(image)
    for number, frame in enumerate(cell.frames):
        left = number * (_TILE + _SEAM)
        draw.rectangle((left, 0, left + _TILE - 1, tile - 1), fill=_EMPTY)
        drawn = _draw_frame(frame, _TILE, tile)
        image.paste(drawn, (left + (_TILE - drawn.width) // 2, (tile - drawn.height) // 2))
    image.paste(_draw_curve(cell, top), (0, tile))
    for line, (text, fill, size) in enumerate([(cell.name, _INK, 16), (cell.detail, _FAINT, 15)]):
        font = _font(size)
        draw.text((0, tile + _CURVE + line * _LINE + 3), _shortened(text, font), fill=fill, font=font)
    return image


def _draw_curve(cell: Cell, top: float) -> Image.Image:
    """The motion over time, aligned with the frames above it."""
    width, height = _CELL * _SMOOTH, (_CURVE - 4) * _SMOOTH
    image = Image.new("RGB", (width, _CURVE * _SMOOTH), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 2 * _SMOOTH, width, 2 * _SMOOTH + height), fill=_EMPTY)
    count = len(cell.profile)
    across = (np.arange(count) + 0.5) / count * width
    down = 2 * _SMOOTH + height * (1 - 0.95 * np.sqrt(np.clip(cell.profile / top, 0, 1)))
    line = list(zip([0.0, *across, float(width)], [down[0], *down, down[-1]], strict=True))
    draw.polygon([(0, 2 * _SMOOTH + height), *line, (width, 2 * _SMOOTH + height)], fill=_FILL)
    draw.line(line, fill=_EDGE, width=_SMOOTH)
    for cut in cell.cuts:
        draw.line([(cut / count * width, 0), (cut / count * width, _CURVE * _SMOOTH)], fill=_CUT, width=2 * _SMOOTH)
    return image.resize((_CELL, _CURVE), Image.Resampling.LANCZOS)


def _frame_height(frames: Frames) -> int:
    """Height of a frame as wide as its tile; at most the width of the tile."""
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    return int(min(_TILE, max(2, _TILE * height // width)))


def _draw_frame(frame: Frames, width: int, height: int) -> Image.Image:
    """An I420 frame as RGB, as large as fits."""
    tall, wide = frame.shape[0] * 2 // 3, frame.shape[1]
    scale = min(width / wide, height / tall)
    size = max(2, round(wide * scale)), max(2, round(tall * scale))
    rgb = VideoFrame.from_ndarray(frame, format="yuv420p").to_ndarray(format="rgb24")
    return Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int = _CELL) -> str:
    """The text, without the part of its middle that does not fit."""
    if font.getlength(text) <= width:
        return text

    def without_middle(kept: int) -> str:
        return text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) :]

    too_many = bisect_left(range(len(text)), True, key=lambda kept: font.getlength(without_middle(kept)) > width)
    return without_middle(too_many - 1)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which knows most alphabets, of matplotlib or of the system; else Pillow's own font: Latin only."""
    try:
        return ImageFont.truetype(_dejavu(), size)
    except OSError:
        return ImageFont.load_default(size)


@cache
def _dejavu() -> str:
    """The file that matplotlib brings; without matplotlib the name, which Pillow looks for in the system's folders."""
    name = "DejaVuSans.ttf"
    try:
        import matplotlib
    except ModuleNotFoundError:
        return name
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


# Tuples --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TupleRow:
    """A tuple of a pretext task on its sheet."""

    elements: Sequence[npt.NDArray[np.uint8]]
    """RGB, uint8 [T, S, S, 3] each: a clip, of which up to `FRAMES` frames are drawn, or a frame."""
    answer: str
    """Printed at the foot of the sheet."""


def tuple_sheet(rows: Sequence[TupleRow], path: Path) -> tuple[int, int]:
    """Draws tuples one below the other, with their answers at the foot, and writes a PNG.

    Returns:
        (width, height) in pixels.
    """
    shown = [[element[evenly(len(element))] for element in row.elements] for row in rows]
    count = max(sum(len(element) for element in elements) for elements in shown)
    apart = max(len(elements) for elements in shown) - 1
    tile = min(_TUPLE_TILE, (WIDTH - 2 * _MARGIN - apart * _GAP - count * _SEAM) // count)
    step = tile + _LINE + _GAP
    sheet = Image.new("RGB", (WIDTH, 2 * _MARGIN + len(rows) * (step + _LINE) + _HEADER), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, elements in enumerate(shown):
        top = _MARGIN + number * step
        draw.text((_MARGIN, top), f"Tuple {number + 1}", fill=_FAINT, font=_font(15))
        left = _MARGIN
        for element in elements:
            for frame in element:
                drawn = Image.fromarray(frame).resize((tile, tile), Image.Resampling.NEAREST)
                sheet.paste(drawn, (left, top + _LINE))
                left += tile + _SEAM
            left += _GAP
    top = _MARGIN + len(rows) * step + _HEADER
    for number, row in enumerate(rows):
        text = _shortened(f"Answer {number + 1}: {row.answer}", _font(15), WIDTH - 2 * _MARGIN)
        draw.text((_MARGIN, top + number * _LINE), text, fill=_FAINT, font=_font(15))
    sheet.save(path, optimize=True)
    return sheet.size
