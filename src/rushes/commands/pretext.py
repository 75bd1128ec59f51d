"""`rushes pretext show`: tuples of a model's pretext task, as its network sees them, for a person to solve.

show(recipe, data=DataReference(videos="my_videos"), tuples=12, out=Path("pretext"))

Of a folder or URL a part is sampled into a store that is removed again, as `rushes footage show` does.
"""

import base64
import dataclasses
import inspect
import io
import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from rushes.commands.contact import TupleRow, tuple_sheet
from rushes.commands.peek import check_folder, is_pointer, peek
from rushes.config import Recipe, SampleConfig
from rushes.console import console, watching
from rushes.errors import UserError
from rushes.footage.colour import i420_to_rgb
from rushes.footage.reader import Footage
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.pretext import PretextTask, make_task
from rushes.progress import EventLog, Progress
from rushes.recipes import load_recipe
from rushes.store import Manifest
from rushes.templates import page
from rushes.training.networks import MEAN, STD, normalise
from rushes.training.pretext import DecodedTuple, PretextTuples
from rushes.words import clock, counted, printable

PAGE, SHEET = "index.html", "tuples.png"
_SEGMENTS, _SECONDS = 48, 40.0  # of a folder or URL
_ON_SHEET = 8
_RATE = 8  # frames a second at which clips are played: slow enough to see what happens
_REST = 700  # milliseconds of rest at the end of a clip, so that its beginning is visible
_SIDE, _ROW = 176, 1000  # pixels: about the side of a crop on the page, and the most for all crops of a tuple

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Element:
    """A clip or a frame of a tuple."""

    frames: Rgb
    """What the network sees, de-normalised: uint8 [T, S, S, 3]."""
    numbers: str
    """Positions of its frames in the segment, in the order shown."""

    @property
    def uri(self) -> str:
        """The clip as an animated image, or the frame as a still one, in a data URI."""
        images = [Image.fromarray(frame) for frame in self.frames]
        buffer = io.BytesIO()
        pace = {"save_all": True, "append_images": images[1:], "duration": _durations(len(images)), "loop": 0}
        images[0].save(buffer, "WEBP", quality=90, **(pace if len(images) > 1 else {}))
        return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True, kw_only=True)
class ShownTuple:
    """A tuple, ready for the page."""

    position: str
    """File and time of the segment."""
    elements: Sequence[Element]
    answer: str


def show(recipe: Recipe, *, data: DataReference, tuples: int, out: Path) -> int:
    """Writes a page of tuples, `index.html`, and an image of the first ones, `tuples.png`, into `out`.

    Args:
        recipe: its `pretrain`, `sample` and `seed` are used.
        data: videos, of which a part is sampled, with labels for their groups and splits; or, as its `videos`, the
            pointer of footage.
        tuples: how many.
        out: folder for the page.

    Returns:
        0.

    Raises:
        UserError: no video there or none that decodes, no such pointer, or no shot long enough for the task.
    """
    if tuples < 1:
        raise UserError(f"tuples: {tuples} is not allowed; at least 1")
    check_folder(out)
    task = make_task(recipe.pretrain.task, recipe.pretrain.options)
    with tempfile.TemporaryDirectory(prefix="rushes-pretext-") as folder:
        scratch = Path(folder)
        with watching(scratch / "progress.jsonl"):
            progress = EventLog(scratch / "progress.jsonl", step="pretext show")
            footage = _footage(recipe, data, scratch=scratch, progress=progress)
            drawn = _draw(footage, task, recipe, count=tuples, progress=progress)
        out.mkdir(parents=True, exist_ok=True)
        rows = [TupleRow(elements=[e.frames for e in one.elements], answer=one.answer) for one in drawn[:_ON_SHEET]]
        tuple_sheet(rows, out / SHEET)
        _write_page(out / PAGE, drawn, task, recipe, data.videos)
    console.print(f"\n{counted(len(drawn), 'tuple')} of {recipe.pretrain.task}; guessing is right in {task.chance:.1%}")
    console.print(f"Page: {out / PAGE}\nImage: {out / SHEET}", markup=False, soft_wrap=True)
    following = shlex.join(_control(recipe, data))
    console.print(f"Next: {printable(following)}", markup=False, soft_wrap=True)
    return 0


def _control(recipe: Recipe, data: DataReference) -> list[str]:
    """The command that tests the task which was shown."""
    task, model = recipe.pretrain.task, recipe.name
    if task != load_recipe(model).pretrain.task:
        options = [f"pretrain.options.{name}={json.dumps(value)}" for name, value in recipe.pretrain.options.items()]
        model = f"{model}:{','.join([f'pretrain.task={task}', *options])}"
    plugins = [part for file in recipe.plugins for part in ("--plugin", file)]
    return ["rushes", "pretext", "control", model, "--videos", data.videos, *data.flags(), *plugins]


def _footage(recipe: Recipe, data: DataReference, *, scratch: Path, progress: Progress) -> Footage:
    short_side = recipe.pretrain.short_side
    if is_pointer(data.videos):
        return Footage(Manifest.read(Path(data.videos), kind="footage"), open_store(), short_side=short_side)
    peeked = peek(
        data,
        config=quick(recipe.sample),
        segments=_SEGMENTS,
        seconds=_SECONDS,
        scratch=scratch,
        progress=progress,
    )
    return Footage(peeked.manifest, peeked.store, short_side=short_side)


def quick(config: SampleConfig) -> SampleConfig:
    """The same footage in short segments, so that a small sample comes from many videos."""
    return dataclasses.replace(config, segment_seconds=8.0, shard_segments=4, decode_seconds=20.0)


def _draw(footage: Footage, task: PretextTask, recipe: Recipe, *, count: int, progress: Progress) -> list[ShownTuple]:
    config = recipe.pretrain
    tuples = PretextTuples(
        footage,
        footage.select("unlabelled", "train"),
        task=task,
        clip_frames=config.clip_frames,
        crop=config.crop,
        seed=recipe.seed,
        samples=count,
    )
    sources = footage.texts("source")
    bar = progress.bar("draw", total=count, unit="tuples")
    shown = []
    for number in range(count):
        found = tuples.decoded((0, number))
        row = found.source.row
        shown.append(
            ShownTuple(
                position=f"{printable(sources[row])} {clock(footage.segments.start[row])}",
                elements=_elements(found, task),
                answer=task.answer(found.drawn.label),
            )
        )
        bar.advance()
    return shown


def _elements(found: DecodedTuple, task: PretextTask) -> list[Element]:
    seen = task.view(normalise(i420_to_rgb(found.clips[None])))[0]
    numbers = found.source.first + found.drawn.frames
    return [
        Element(frames=denormalised(clip), numbers=runs(frames))
        for clip, frames in zip(seen, numbers.tolist(), strict=True)
    ]


def denormalised(clip: Tensor) -> Rgb:
    """The frames of a normalised clip [3, T, H, W]: uint8 [T, H, W, 3]."""
    rgb = clip * clip.new_tensor(STD)[:, None, None, None] + clip.new_tensor(MEAN)[:, None, None, None]
    frames: Rgb = (255 * rgb.clamp(0, 1)).round().byte().permute(1, 2, 3, 0).contiguous().numpy()
    return frames


def runs(numbers: Sequence[int]) -> str:
    """`12 to 19` for numbers that follow each other, `12 14 16` for others."""
    if len(numbers) > 2 and all(after - before == 1 for before, after in pairwise(numbers)):
        return f"{numbers[0]} to {numbers[-1]}"
    return " ".join(map(str, numbers))


def _durations(frames: int) -> list[int]:
    return [1000 // _RATE] * (frames - 1) + [_REST]


def _write_page(path: Path, drawn: Sequence[ShownTuple], task: PretextTask, recipe: Recipe, videos: str) -> None:
    config = recipe.pretrain
    text = page(
        "rushes.commands",
        "pretext.html",
        name=config.task,
        about=(inspect.getdoc(type(task)) or "").split("\n\n")[0],
        tuples=drawn,
        videos=printable(videos),
        options=sorted({task.answer(label) for label in range(task.classes)}),
        chance=task.chance,
        config=config,
        side=config.crop * max(1, round(min(_SIDE, _ROW / task.elements) / config.crop)),
        rate=_RATE,
        model=recipe.name,
    )
    path.write_text(text, encoding="utf-8")
