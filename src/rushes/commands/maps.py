"""`rushes pretext maps`: what a network's strongest units respond to in your footage, beside random weights.

maps(Path("artifacts/pretrain.json"), footage=Path("artifacts/sample.json"), options=MapOptions(), out=Path("maps"))
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from rushes.backbones import Backbone, make_backbone
from rushes.commands.peek import check_folder
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.evaluation.activations import Unit, draw_units, strongest_units
from rushes.footage.reader import Footage
from rushes.home import open_store
from rushes.progress import EventLog, Progress
from rushes.store import Manifest, Store
from rushes.training.calibration import random_backbone
from rushes.training.data import EvenClips
from rushes.training.device import pick_device
from rushes.training.weights import load_backbone, load_classifier, read_model
from rushes.words import clock, printable

SHEET = "activations.png"
TRAINED, RANDOM = "trained", "random initialisation"


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How much to search, and to show."""

    units: int = 8
    """Channels to show: those that respond most."""
    images: int = 5
    """Images per channel, each from another segment."""
    segments: int = 200
    """Segments to search, evenly spaced over the footage."""
    clips: int = 10
    """Clips (or frames) to search per segment."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        for name in ("units", "images", "segments", "clips"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} is not allowed; at least 1")


def maps(network: Path, *, footage: Path, options: MapOptions, out: Path) -> int:
    """Writes `activations.png` into `out`, and prints where its images come from.

    Args:
        network: pointer from `pretrain` or `finetune`.
        footage: pointer from `sample`.
        options: how much to search and to show.
        out: folder for the image.

    Returns:
        0.

    Raises:
        UserError: no such pointer, or a network that responds to nothing in the footage.
    """
    check_folder(out)
    store, manifest = open_store(), Manifest.read(network)
    if manifest.kind not in ("backbone", "classifier"):
        raise UserError(f"backbone: {network} holds a {manifest.kind}: give the pointer of a backbone or a classifier")
    model = read_model(manifest, store)
    seen = Footage(Manifest.read(footage, kind="footage"), store, short_side=model["short_side"])
    networks = {TRAINED: _trained(manifest, store), RANDOM: _random(model, seen, device=options.device)}
    with tempfile.TemporaryDirectory(prefix="rushes-maps-") as folder:
        events = Path(folder) / "progress.jsonl"
        with watching(events):
            progress = EventLog(events, step="pretext maps")
            found = {
                name: _units(net, seen, model=model, options=options, label=name, progress=progress)
                for name, net in networks.items()
            }
    out.mkdir(parents=True, exist_ok=True)
    draw_units(found, out / SHEET)
    _print(found[TRAINED], seen)
    console.print(f"\nImage: {out / SHEET}", markup=False, soft_wrap=True)
    return 0


def _trained(manifest: Manifest, store: Store) -> Backbone:
    if manifest.kind == "classifier":
        return load_classifier(manifest, store)[0].backbone
    net = make_backbone(read_model(manifest, store)["backbone"])
    load_backbone(net, manifest, store)
    return net.eval()


def _random(model: dict[str, Any], footage: Footage, *, device: str) -> Backbone:
    """The same network with random weights, the ones that evaluation compares with."""
    geometry = {key: model[key] for key in ("seed", "clip_frames", "crop")}
    return random_backbone(model["backbone"], footage=footage, device=pick_device(device), **geometry)


def _units(
    net: Backbone, footage: Footage, *, model: dict[str, Any], options: MapOptions, label: str, progress: Progress
) -> list[Unit]:
    rows = _spread(footage.select(), options.segments)
    data = EvenClips(footage, rows, clips=options.clips, clip_frames=model["clip_frames"], crop=model["crop"])
    device = pick_device(options.device)
    bar = progress.bar(label, total=len(rows), unit="segments")
    return strongest_units(
        net.to(device), data, units=options.units, per_unit=options.images, device=device, batch=32, bar=bar
    )


def _spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    return rows[:: -(-len(rows) // count)] if len(rows) else rows


def _print(units: Sequence[Unit], footage: Footage) -> None:
    """Prints one row per unit: what it responds to most."""
    table = Table("unit", "response", "positions, the strongest first", box=None, header_style="bold")
    sources, segments = footage.texts("source"), footage.segments
    for unit in units:
        places = [
            f"{printable(str(sources[s.row]))} {clock(segments.start[s.row] + s.frame / segments.fps[s.row])}"
            for s in unit.activations
        ]
        table.add_row(str(unit.channel), f"{unit.activations[0].response:.3g}", escape(", ".join(places)))
    console.print(table)
