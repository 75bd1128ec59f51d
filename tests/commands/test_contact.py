"""The contact sheet: true colours, curves that compare, cuts where they are."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from rushes.commands import contact
from rushes.commands.contact import WIDTH, Cell, contact_sheet, evenly

Pixels = npt.NDArray[np.int64]
LEFT = 24
CELL = contact._CELL


def plain(
    luma: int, blue: int, red: int, *, height: int = 96, width: int = 128, count: int = 4
) -> npt.NDArray[np.uint8]:
    """Frames of one colour, I420."""
    frame = np.empty((height * 3 // 2, width), np.uint8)
    frame[:height], frame[height : height * 5 // 4], frame[height * 5 // 4 :] = luma, blue, red
    return np.repeat(frame[None], count, axis=0)


def cell(motion: float = 1.0, **changes: object) -> Cell:
    given: dict[str, object] = {
        "frames": plain(126, 128, 128),
        "profile": np.full(100, motion, np.float32),
        "cuts": [],
        "name": "a.mp4",
        "detail": "0:00",
    }
    return Cell(**(given | changes))  # type: ignore[arg-type]


def drawn(path: Path, *cells: Cell) -> Pixels:
    size = contact_sheet(cells, path)
    image = Image.open(path)
    assert image.format == "PNG" and image.size == size and size[0] == WIDTH
    return np.asarray(image).astype(np.int64)


def filled(pixels: Pixels, column: int, number: int = 0) -> int:
    """Pixels of the curve's colour in a column of a cell."""
    near = np.abs(pixels[:, LEFT + number * (CELL + contact._GAP) + column] - [0x2F, 0x6F, 0x8F]).sum(1) < 12
    return int(near.sum())


def test_frames_are_spread_evenly_and_never_beyond_the_end() -> None:
    assert evenly(200) == [25, 75, 125, 175]
    assert evenly(4) == [0, 1, 2, 3]
    assert evenly(1) == [0]
    assert all(min(evenly(n)) >= 0 and max(evenly(n)) < n for n in range(1, 50))


def test_red_is_red(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "sheet.png", cell(frames=plain(81, 90, 240)))
    at = np.abs(pixels[:, LEFT + CELL // 8] - [255, 0, 0]).max(1) < 6
    assert at.sum() >= 80, "the tile of a 4:3 frame is some 92 pixels high"


def test_one_scale_for_all_curves(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "sheet.png", cell(4.0), cell(1.0), cell(0.0))
    high, low, none = (filled(pixels, CELL // 2, number) for number in range(3))
    assert none == 0 and 0.4 * high < low < 0.6 * high, "a quarter of the motion is half as high"


def test_a_cut_is_a_red_line_at_its_time(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "sheet.png", cell(cuts=[25]))
    red = (np.abs(pixels - [0xFF, 0x5A, 0x52]).sum(2) < 60).sum(0)
    columns = np.flatnonzero(red > 30)
    assert len(columns) and abs(columns.mean() - LEFT - CELL / 4) < 2


def test_a_tall_picture_stays_in_its_tile_and_rows_are_no_higher_than_they_must_be(tmp_path: Path) -> None:
    tall, wide = cell(frames=plain(200, 128, 128, height=228, width=128)), cell(frames=plain(200, 128, 128, height=72))

    def height(*cells: Cell) -> int:
        return contact_sheet(cells, tmp_path / "sheet.png")[1]

    one_wide, one_tall = height(wide, wide), height(wide, tall)
    step = height(*[wide] * 4) - height(*[wide] * 3)
    assert one_wide < one_tall < 2 * one_wide
    assert height(wide, tall, wide, wide) == one_tall + step
    pixels = drawn(tmp_path / "sheet.png", tall)
    bright = np.flatnonzero((pixels[:, LEFT + CELL // 8] > 200).all(1))
    assert len(bright) and np.ptp(bright) <= CELL // 4


def test_very_short_segments_are_drawn(tmp_path: Path) -> None:
    drawn(tmp_path / "sheet.png", cell(frames=plain(90, 128, 128, count=1), profile=np.zeros(1, np.float32)))


def test_a_long_name_loses_its_middle_only() -> None:
    font = contact._font(16)
    name = "archive/" + "very/" * 200 + "end.mp4"
    short = contact._shortened(name, font)
    assert font.getlength(short) <= CELL < font.getlength(short + "mmm")
    assert short.startswith("archive/") and short.endswith("/end.mp4") and "…" in short
    assert contact._shortened("end.mp4", font) == "end.mp4"
    assert ImageDraw.Draw(Image.new("RGB", (CELL, 30))).textlength(short, font=font) <= CELL
