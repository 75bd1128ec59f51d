"""Activation maps: what drives a network's strongest units, and where in the frame it is.

    units = strongest_units(net, EvenClips(footage, rows, ...), units=8, per_unit=5, ...)
    draw_units({"pretrained": units, "random": others}, Path("activations.png"))

A unit is a channel of `Backbone.maps`; its response to a clip is the map's highest value. The map is scaled to the
frame bilinearly, as in the article: no receptive field is computed, so what drives a unit may also lie around the
region.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from rushes.backbones import Backbone
from rushes.errors import UserError
from rushes.footage.colour import i420_to_rgb
from rushes.progress import Bar
from rushes.training.data import EvenClips
from rushes.training.networks import normalise

Floats = npt.NDArray[np.float32]

_TILE, _SEAM, _MARGIN, _NOTE, _HEADER = 112, 4, 24, 20, 44
_PAPER, _INK, _FAINT = "#14181f", "#eef2f6", "#9aa7b5"
_EDGE = (255, 214, 64)
_DARK = 0.35  # brightness where a unit does not respond
_REGION = 0.5  # share of the highest response that the outline encloses


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A frame in which a unit responds."""

    row: int
    """Row of the footage."""
    frame: int
    """Index within the segment."""
    image: npt.NDArray[np.uint8]
    """[S, S, 3], RGB: that frame."""
    region: Floats
    """[S, S]: the unit's response, as a share of its highest in this frame, 0 to 1."""
    response: float
    """The highest in this frame."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A channel of the maps, and its strongest activations."""

    channel: int
    activations: tuple[Activation, ...]
    """Strongest first, one per segment."""


@torch.no_grad()
def strongest_units(
    net: Backbone, data: EvenClips, *, units: int, per_unit: int, device: torch.device, batch: int, bar: Bar
) -> list[Unit]:
    """Finds the channels that respond most, by the mean over their `per_unit` best segments; none that never responds.

    Args:
        net: a backbone in evaluation mode, on `device`.
        data: its clips.
        units: channels to return, at most.
        per_unit: activations of each, at most.
        device: where to compute.
        batch: clips per forward pass.
        bar: advances by segments.

    Raises:
        UserError: the backbone does not take clips of this geometry.
    """
    peaks = _peaks(net, data, device=device, batch=batch, bar=bar)  # [segments, clips, C]
    strength = np.sort(peaks.max(axis=1), axis=0)[::-1][:per_unit].mean(axis=0)
    channels = [int(channel) for channel in np.argsort(-strength, kind="stable")[:units] if strength[channel] > 0]
    return [_unit(net, data, peaks[:, :, channel], channel, per_unit=per_unit, device=device) for channel in channels]


def draw_units(columns: Mapping[str, Sequence[Unit]], path: Path) -> tuple[int, int]:
    """Writes a PNG with one column per network and one row per unit, its activations from left to right.

    A frame is bright where the unit responds; the outline is half of its highest response in this frame.

    Returns:
        (width, height) in pixels.

    Raises:
        UserError: no network has a unit that responds.
    """
    widest = max((len(unit.activations) for units in columns.values() for unit in units), default=0)
    if not widest:
        raise UserError("activations: no unit responds to this footage: is the backbone trained on footage like it?")
    wide, tall = widest * (_TILE + _SEAM) + _MARGIN, _TILE + _NOTE + _SEAM
    rows = max(len(units) for units in columns.values())
    sheet = Image.new("RGB", (_MARGIN + len(columns) * wide, _MARGIN + _HEADER + rows * tall), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, units) in enumerate(columns.items()):
        left = _MARGIN + column * wide
        draw.text((left, _MARGIN), name, fill=_INK, font=_font(16))
        for row, unit in enumerate(units):
            top = _MARGIN + _HEADER + row * tall
            draw.text((left, top), f"unit {unit.channel}", fill=_FAINT, font=_font(12))
            for index, activation in enumerate(unit.activations):
                across = left + index * (_TILE + _SEAM)
                sheet.paste(highlighted(activation), (across, top + _NOTE))
                anchor = (across + _TILE, top)
                draw.text(anchor, f"{activation.response:.3g}", fill=_FAINT, font=_font(12), anchor="ra")
    sheet.save(path, optimize=True)
    return sheet.size


def highlighted(activation: Activation) -> Image.Image:
    """The frame, dark where the unit does not respond, with an outline around a response of half or more."""
    frame = Image.fromarray(activation.image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    share = np.asarray(Image.fromarray(activation.region).resize((_TILE, _TILE), Image.Resampling.BILINEAR))
    pixels = (np.asarray(frame) * (_DARK + (1 - _DARK) * share.clip(0, 1))[..., None]).astype(np.uint8)
    inside = np.pad(share >= _REGION, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    pixels[inside[1:-1, 1:-1] & ~core] = _EDGE
    return Image.fromarray(pixels)


def _peaks(net: Backbone, data: EvenClips, *, device: torch.device, batch: int, bar: Bar) -> Floats:
    """The highest value of each channel's map for each clip: [segments, clips, C]."""
    found: list[Tensor] = []
    for clips, _ in DataLoader(data, batch_size=max(batch // data.clips, 1)):
        maps = _maps(net, clips.flatten(0, 1).to(device))
        found.append(maps.amax(dim=(2, 3, 4)).view(*clips.shape[:2], -1).cpu())
        bar.advance(len(clips))
    peaks: Floats = torch.cat(found).numpy()
    return peaks


def _unit(net: Backbone, data: EvenClips, peaks: Floats, channel: int, *, per_unit: int, device: torch.device) -> Unit:
    """A channel with its best activations, given its responses [segments, clips]."""
    best = np.argsort(-peaks.max(axis=1), kind="stable")[:per_unit]
    activations = [
        _activation(net, data, int(index), int(peaks[index].argmax()), channel, device=device)
        for index in best
        if peaks[index].max() > 0
    ]
    return Unit(channel=channel, activations=tuple(activations))


def _activation(
    net: Backbone, data: EvenClips, index: int, number: int, channel: int, *, device: torch.device
) -> Activation:
    """Clip `number` of segment `index`, at the time of the channel's highest response."""
    clips, row = data[index]
    clip = clips[number : number + 1].to(device)
    maps = _maps(net, clip)[0, channel]  # [t, h, w]
    moment = int(maps.amax(dim=(1, 2)).argmax())
    shown = int((moment + 0.5) * clip.shape[1] / len(maps))
    side, response = clip.shape[-1], float(maps.max())
    region = F.interpolate(maps[moment][None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    rgb = i420_to_rgb(clip)[0, :, shown].permute(1, 2, 0)
    return Activation(
        row=row,
        frame=int(data.numbers(index)[number, shown]),
        image=(rgb * 255).round().to(torch.uint8).cpu().numpy(),
        region=(region / response).clamp(0, 1).cpu().numpy(),
        response=response,
    )


def _maps(net: Backbone, clips: Tensor) -> Tensor:
    """I420 clips, uint8 [N, T, S*3/2, S] -> maps [N, C, t, h, w]."""
    return net.maps(normalise(i420_to_rgb(clips))).float()


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
