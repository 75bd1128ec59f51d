"""The group "Pretext tasks": show, control, maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional, UseAppendAction, arg

from rushes.cli.base import WithRecipe


@dataclass(frozen=True, kw_only=True)
class PretextShow(WithRecipe):
    """Shows tuples of a model's pretext task, drawn from your videos, as its network sees them: can you solve them?

    rushes pretext show vcop-r3d --videos my_videos/
    """

    COMMAND_DEFAULTS: ClassVar[Mapping[str, Any]] = {"size": "cpu"}

    videos: str
    """Folder of videos or fsspec URL, of which a part is sampled; or a pointer from `rushes sample`."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups and splits. Default: labels.csv in the folder, then class folders."""
    tuples: Annotated[int, arg(aliases=["--questions"])] = 12
    """Number of tuples."""
    out: Path = Path("pretext")
    """Folder for the page and its images."""

    def execute(self) -> int:
        from rushes.commands.pretext import show
        from rushes.footage.reference import DataReference

        data = DataReference(videos=self.videos, labels=self.labels)
        return show(self.full_recipe, data=data, tuples=self.tuples, out=self.out)


@dataclass(frozen=True, kw_only=True)
class PretextControl:
    """Tests whether pretext tasks need motion or can be solved by a shortcut, on videos in which nothing moves.

    rushes pretext control vcop-r3d pace-r2plus1d --videos my_videos/

    Trains and tests each model on such videos and on yours; takes minutes per model. Exit status 1: a shortcut was
    found.
    """

    models: Positional[tuple[str, ...]] = ()
    """Models, each with an optional name and overrides, as for `rushes compare`:
    NAME=MODEL:section.field=value,section.field=value."""
    videos: str
    """Folder of videos or fsspec URL, of which a part is sampled; or a pointer from `rushes sample`."""
    still: str = ""
    """Folder of videos in which nothing moves (a camera left running): only these contain a clock or a flicker.
    Default: one frame of each segment, repeated."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups. Default: labels.csv in the folder, then class folders."""
    size: str = "cpu"
    """Variant of the recipes: full (as published) or cpu (minutes on a laptop)."""
    steps: int = 400
    """Training steps per network and footage."""
    tuples: Annotated[int, arg(aliases=["--questions"])] = 8
    """Tuples per group of test videos."""
    segments: int = 800
    """Largest number of segments (of up to 8 seconds) to use."""
    seed: int = 0
    """Seed of weights, tuples and repeated frames."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """File that defines further pretext tasks or backbones (see `rushes.plugins`); may be repeated."""
    out: Path | None = None
    """JSON file for the results."""

    def execute(self) -> int:
        from rushes.commands.no_motion import NoMotionOptions, control
        from rushes.comparing.members import parse_member
        from rushes.footage.reference import DataReference

        files = [str(file.absolute()) for file in self.plugin]
        return control(
            [parse_member(model, size=self.size, plugins=files) for model in self.models],
            data=DataReference(videos=self.videos, labels=self.labels),
            still=self.still,
            out=self.out,
            options=NoMotionOptions(steps=self.steps, tuples=self.tuples, segments=self.segments, seed=self.seed),
        )


@dataclass(frozen=True, kw_only=True)
class PretextMaps:
    """Shows what a network's strongest units respond to, and where in the frame, beside random weights.

    rushes pretext maps --backbone artifacts/pretrain.json --footage artifacts/sample.json
    """

    backbone: Path
    """Pointer from `rushes pretrain`, or from `rushes finetune`."""
    footage: Path
    """Pointer from `rushes sample`."""
    units: int = 8
    """Number of channels of the last convolution to show."""
    images: Annotated[int, arg(aliases=["--pictures"])] = 5
    """Images per channel, each from another segment."""
    segments: int = 200
    """Segments to search, evenly spaced over the footage."""
    clips: int = 10
    """Clips (or frames) to search per segment."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """File that defines the backbone (see `rushes.plugins`); may be repeated."""
    out: Path = Path("maps")
    """Folder for the image."""

    def execute(self) -> int:
        from rushes.commands.maps import MapOptions, maps

        options = MapOptions(
            units=self.units, images=self.images, segments=self.segments, clips=self.clips, device=self.device
        )
        return maps(self.backbone, footage=self.footage, options=options, out=self.out)
