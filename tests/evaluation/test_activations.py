"""Activation maps: the right unit, the right segment and moment, the right place."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rushes.backbones import Backbone
from rushes.errors import UserError
from rushes.evaluation.activations import Activation, Unit, draw_units, highlighted, strongest_units
from rushes.footage.reader import Footage
from rushes.progress import NullProgress
from rushes.training.data import EvenClips

SIDE, FRAMES = 32, 20
PLACES = {0: (4, 4), 1: (20, 4), 2: (4, 20), 3: (20, 20)}
"""Row of the footage -> top and left of its bright square."""


class Squares:
    """Grey segments, in each of which a square of 8 pixels lights up; the later the row, the brighter and the later."""

    class segments:  # noqa: N801
        frames = np.full(len(PLACES), FRAMES)

    def frames(self, row: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        out = np.full((len(indices), SIDE * 3 // 2, SIDE), 128, np.uint8)
        out[:, :SIDE] = 60
        top, left = PLACES[row]
        out[indices >= moment(row), top : top + 8, left : left + 8] = 140 + 20 * row
        return out


def moment(row: int) -> int:
    return 4 + 4 * row


class Eye(Backbone):
    """Channel 0 sees light, channel 1 half as much of it, channel 2 nothing, channel 3 darkness (a little)."""

    def __init__(self, *, every: int = 1) -> None:
        super().__init__(features=4)
        self.every = every

    def activations(self, clips: Tensor) -> Tensor:
        light = F.avg_pool3d(clips.mean(dim=1, keepdim=True), (self.every, 4, 4))
        return torch.cat([light, light / 2, torch.zeros_like(light), -light / 8], dim=1).relu()


def found(*, units: int = 4, per_unit: int = 2, clips: int = 3, clip_frames: int = 4, every: int = 1) -> list[Unit]:
    rows = np.arange(len(PLACES))
    data = EvenClips(cast(Footage, Squares()), rows, clips=clips, clip_frames=clip_frames, crop=SIDE)
    bar = NullProgress().bar("", total=1, unit="")
    device = torch.device("cpu")
    return strongest_units(Eye(every=every), data, units=units, per_unit=per_unit, device=device, batch=4, bar=bar)


def test_units_come_by_their_response_and_what_never_responds_not_at_all() -> None:
    assert [unit.channel for unit in found()] == [0, 1, 3]
    assert [unit.channel for unit in found(units=1)] == [0]
    strong, half, _ = found()
    assert strong.activations[0].response == pytest.approx(2 * half.activations[0].response)


def test_activations_are_the_strongest_first_each_of_another_segment() -> None:
    for unit in found(per_unit=3)[:2]:
        assert [activation.row for activation in unit.activations] == [3, 2, 1]
        responses = [activation.response for activation in unit.activations]
        assert responses == sorted(set(responses), reverse=True)


@pytest.mark.parametrize(("clips", "clip_frames", "every"), [(20, 1, 1), (5, 4, 1), (2, 20, 4)])
def test_the_shown_frame_is_one_in_which_it_happens(clips: int, clip_frames: int, every: int) -> None:
    unit, *_ = found(per_unit=4, clips=clips, clip_frames=clip_frames, every=every)
    assert [activation.row for activation in unit.activations] == [3, 2, 1, 0]
    for activation in unit.activations:
        assert activation.frame >= moment(activation.row)
        top, left = PLACES[activation.row]
        lit = activation.image.mean(axis=2) > 80
        assert lit.sum() == 64 and lit[top : top + 8, left : left + 8].all()


def test_the_region_lies_where_the_light_is() -> None:
    for activation in found(per_unit=4)[0].activations:
        top, left = PLACES[activation.row]
        down, across = np.nonzero(activation.region >= 0.9)
        assert (down.mean(), across.mean()) == pytest.approx((top + 3.5, left + 3.5), abs=0.5)
        assert activation.region.shape == activation.image.shape[:2] == (SIDE, SIDE)
        assert activation.region.min() >= 0 and activation.region.max() == pytest.approx(1)


def test_the_picture_is_bright_and_outlined_only_where_the_unit_responds() -> None:
    region = np.zeros((SIDE, SIDE), np.float32)
    region[8:24, 8:24] = 1
    image = np.full((SIDE, SIDE, 3), 200, np.uint8)
    drawn = np.asarray(highlighted(Activation(row=0, frame=0, image=image, region=region, response=1))).astype(int)
    middle, corner = drawn[56, 56], drawn[7, 7]
    assert abs(middle - 200).max() <= 1 and abs(corner - 70).max() <= 1
    yellow = (drawn == (255, 214, 64)).all(axis=2)
    down, across = np.nonzero(yellow)
    edges = np.array([down.min(), down.max() + 1, across.min(), across.max() + 1])
    assert abs(edges * SIDE / len(drawn) - (8, 24, 8, 24)).max() < 0.3
    assert not yellow[35:77, 35:77].any()


def test_the_sheet_has_a_column_a_network_and_a_row_a_unit(tmp_path: Path) -> None:
    one, two = found(units=1, per_unit=2), found(units=3, per_unit=2)
    narrow = draw_units({"pretrained": two}, tmp_path / "one.png")
    wide = draw_units({"pretrained": two, "random": one}, tmp_path / "two.png")
    low = draw_units({"pretrained": one}, tmp_path / "low.png")
    assert wide[1] == narrow[1] > low[1] and wide[0] > 1.8 * narrow[0]
    assert Image.open(tmp_path / "two.png").size == wide


def test_a_network_that_responds_to_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no unit responds"):
        draw_units({"pretrained": [], "random": []}, tmp_path / "none.png")
