"""The group "Pretext tasks": show, control, maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tyro.conf import Positional, UseAppendAction

from rushes.cli.base import WithRecipe


@dataclass(frozen=True, kw_only=True)
class PretextShow(WithRecipe):
    """Questions of a model's pretext task about your videos, as its network sees them: can a person solve them?

    rushes pretext show vcop-r3d --videos my_videos/
    """

    COMMAND_DEFAULTS: ClassVar[Mapping[str, Any]] = {"size": "cpu"}

    videos: str
    """A folder of videos or an fsspec URL, of which a part is sampled; or the pointer that `rushes sample` wrote."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups and splits; default: labels.csv in the folder, then class folders."""
    questions: int = 12
    """How many."""
    out: Path = Path("pretext")
    """Folder for the page and its picture."""

    def execute(self) -> int:
        from rushes.commands.pretext import show
        from rushes.footage.reference import DataReference

        data = DataReference(videos=self.videos, labels=self.labels)
        return show(self.full_recipe, data=data, questions=self.questions, out=self.out)


@dataclass(frozen=True, kw_only=True)
class PretextControl:
    """Are pretext tasks solved by motion, or by a shortcut? Trains and tests where nothing moves, then on your videos.

    rushes pretext control vcop-r3d pace-r2plus1d --videos my_videos/

    Takes minutes a model. Exit status 1: a shortcut was found.
    """

    models: Positional[tuple[str, ...]] = ()
    """Models, each with overrides of its own after a colon, and a name of its own before it, as for `rushes compare`:
    NAME=MODEL:section.field=value,section.field=value."""
    videos: str
    """A folder of videos or an fsspec URL, of which a part is sampled; or the pointer that `rushes sample` wrote."""
    still: str = ""
    """A folder of videos in which nothing moves (a camera left running): only these show a clock or a flicker that is
    in the picture. Default: one frame of each segment, held."""
    labels: str = ""
    """CSV or Parquet of labels, for their groups; default: labels.csv in the folder, then class folders."""
    size: str = "cpu"
    """The recipes' variant."""
    steps: int = 400
    """Batches that each network is trained for, once on each footage."""
    questions: int = 8
    """Asked about each group of test videos."""
    segments: int = 800
    """Segments of up to 8 seconds that are used, at most."""
    seed: int = 0
    """Of weights, draws and held moments."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines further pretext tasks or backbones (see `rushes.plugins`); may be given several times."""
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
            options=NoMotionOptions(steps=self.steps, questions=self.questions, segments=self.segments, seed=self.seed),
        )


@dataclass(frozen=True, kw_only=True)
class PretextMaps:
    """What drives a network's strongest units, and where in the picture it is, beside random weights.

    rushes pretext maps --backbone artifacts/pretrain.json --footage artifacts/sample.json
    """

    backbone: Path
    """Pointer from `rushes pretrain`, or from `rushes finetune`."""
    footage: Path
    """Pointer from `rushes sample`."""
    units: int = 8
    """Channels of the last convolution to show."""
    pictures: int = 5
    """Of each channel, from as many segments."""
    segments: int = 200
    """Segments to look at, evenly spaced over the footage."""
    clips: int = 10
    """Clips (or frames) of each segment to look at."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    plugin: UseAppendAction[tuple[Path, ...]] = ()
    """A file that defines the backbone (see `rushes.plugins`)."""
    out: Path = Path("maps")
    """Folder for the picture."""

    def execute(self) -> int:
        from rushes.commands.maps import MapOptions, maps

        options = MapOptions(
            units=self.units, pictures=self.pictures, segments=self.segments, clips=self.clips, device=self.device
        )
        return maps(self.backbone, footage=self.footage, options=options, out=self.out)
