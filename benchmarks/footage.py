"""The cost of footage: reading windows, sampling against plain ffmpeg, and growth with length and number of files.

    python -m benchmarks.footage reader --videos ../shared/data/ut_interaction
    python -m benchmarks.footage sample --videos ../shared/data/ut_interaction
    python -m benchmarks.footage long
    python -m benchmarks.footage scale
    python -m benchmarks.footage growth

Each prints its section and replaces it in `benchmarks/footage.md`. Alternatives are measured in turns within one run.
`reader`, `sample` and `long` need ffmpeg's command line tool.
"""

import io
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import tyro
from PIL import Image

from benchmarks import _films
from benchmarks._runs import Run, footage, processor, run, sampled
from rushes.config import SampleConfig
from rushes.footage.archive import list_archive
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.index import Geometry, IndexRows, write_index, write_shards
from rushes.footage.reader import Footage
from rushes.footage.rows import EncodingStats, Segment, Shard, source_number
from rushes.store import Store

OUT = Path(__file__).with_name("footage.md")
SPAN = 64
CORES = os.cpu_count() or 1
Images = npt.NDArray[np.uint8]
Row = tuple[str, str, str]
"""What, measured, target."""
_COMPILED = "The package's bytecode is compiled beforehand, as an installer does."


# Reading -------------------------------------------------------------------------------------------------------------


def reader(*, videos: Path, windows: int = 200, out: Path = OUT) -> None:
    """A window of 64 frames: from footage, by decoding alone, and as the published loader gets it."""
    with tempfile.TemporaryDirectory() as folder:
        _, manifest, store = sampled(videos, Path(folder))
        costs = np.array(_window_costs(Footage(manifest, store), videos, windows))
    ours, bare, direct, published = np.median(costs, axis=0) * 1e3
    rows = [
        ("`Footage.window`, ms", f"{ours:.1f}", "at most 12"),
        ("decoding the same frames and no more, ms", f"{bare:.1f}", ""),
        ("the published loader, ms", f"{published:.0f}", ""),
        ("the same without ffprobe and pipe, decoded by PyAV, ms", f"{direct:.0f}", ""),
        ("window / decoding", _ratio(costs[:, 0], costs[:, 1]), "at most 1.5"),
        ("published loader / window", _ratio(costs[:, 3], costs[:, 0]), "at least 25"),
        ("without ffprobe and pipe / window", _ratio(costs[:, 2], costs[:, 0]), ""),
    ]
    remark = (
        f"{windows} windows of {SPAN} frames at random positions of the UT-Interaction videos whose footage is 160 to "
        "182 pixels wide and 128 high. CPU time of one thread and of the processes it starts, in turns, medians; "
        "ratios are medians over windows. The published loader (VCOP's) decodes the whole original file to RGB, by "
        "scikit-video's way (ffprobe, then a pipe from ffmpeg), and resizes to 128 x 171, crops to 112 x 112 and "
        "converts to float with PIL and numpy, frame by frame."
    )
    write_section(out, "Reading a window", rows, remark)


def _window_costs(opened: Footage, videos: Path, count: int) -> list[list[float]]:
    """CPU seconds of each way to `count` windows."""
    segments = opened.segments
    rows = np.flatnonzero((np.abs(segments.width - 171) <= 11) & (segments.frames >= SPAN))
    sources, rng = opened.texts("source"), np.random.default_rng(0)
    costs = []
    for _ in range(count + 1):
        row = int(rng.choice(rows))
        start = int(rng.integers(segments.frames[row] - SPAN + 1))
        mp4, source = opened.mp4(row), videos / str(sources[row])
        costs.append(
            [
                _cpu_seconds(opened.window, row, start, start + SPAN),
                _cpu_seconds(_bare, mp4, start, start + SPAN, float(segments.fps[row])),
                _cpu_seconds(_classic, _by_pyav, source, start),
                _cpu_seconds(_classic, _by_pipe, source, start),
            ]
        )
    return costs[1:]  # the first loads libraries


def _bare(mp4: bytes, start: int, stop: int, fps: float) -> None:
    """Decodes the frames, starting at the key frame before them, and discards them."""
    with av.open(io.BytesIO(mp4), mode="r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        ticks = 1 / (fps * float(stream.time_base))
        container.seek(round(start * ticks), stream=stream)
        last = round((stop - 1) * ticks)
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= last:
                return


def _classic(decode: Callable[[Path], Images], source: Path, start: int) -> npt.NDArray[np.float32]:
    """64 frames of a whole file that `decode` returns, float32 `[64, 3, 112, 112]`."""
    whole = decode(source)
    chosen = whole[min(start, len(whole) - SPAN) :][:SPAN]
    small = [Image.fromarray(frame).resize((171, 128), Image.Resampling.BILINEAR) for frame in chosen]
    cropped = [np.asarray(image.crop((29, 8, 141, 120))) for image in small]
    return np.stack([image.transpose(2, 0, 1).astype(np.float32) / 255 for image in cropped])


def _by_pyav(source: Path) -> Images:
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def _by_pipe(source: Path) -> Images:
    entries = ["-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    found = subprocess.run(
        ["ffprobe", "-v", "error", *entries, str(source)], capture_output=True, text=True, check=True
    )
    width, height = (int(number) for number in found.stdout.strip().split(","))
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(source), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def _cpu_seconds(call: Callable[..., object], *arguments: object) -> float:
    """CPU time of a call in this process and in the processes that it starts and waits for."""
    began = _cpu_clock()
    call(*arguments)
    return _cpu_clock() - began


def _cpu_clock() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# Sampling ------------------------------------------------------------------------------------------------------------


def sample(*, videos: Path, pairs: int = 5, films: int = 8, seconds: float = 24.0, out: Path = OUT) -> None:
    """Throughput of sampling, its analysis included, against plain re-encoding by ffmpeg on as many cores."""
    with tempfile.TemporaryDirectory() as folder:
        hd = Path(folder) / "hd"
        hd.mkdir()
        small = sorted(videos.rglob("*.avi"))
        for n in range(films):
            chosen = [small[(n * len(small) // films + k) % len(small)] for k in range(round(seconds / 2.4))]
            _films.hd_film(chosen, hd / f"{n}.mp4", seconds=seconds)
        rows: list[Row] = []
        for name, root, shard in ((f"{len(small)} UT-Interaction", videos, 8), (f"{films} of 1280 x 720", hd, 1)):
            rows += _against_ffmpeg(name, root, Path(folder), pairs, shard)
    remark = (
        f"{CORES} workers against {CORES} ffmpeg processes at a time, one thread each, over the same files, {pairs} "
        "times in turns, after one that does not count; wall time, medians of pairs, lowest and highest. Sampling "
        "includes probing, starting its workers, motion, cuts, "
        f"fingerprints, shards and index. The 1280 x 720 videos are H.264 of {seconds:g} s, made of UT-Interaction's "
        "with grain. Shards of 8 segments and of 1, so that each core has work: the recipe's default of 64 would leave "
        f"one core with all of the long files. {_COMPILED}\n\n`ffmpeg -i FILE {shlex.join(_recipe())} OUT`"
    )
    write_section(out, "Sampling against ffmpeg", rows, remark)


def _against_ffmpeg(name: str, root: Path, work: Path, pairs: int, shard: int) -> list[Row]:
    files = [root / item.path for item in list_archive(str(root)).files]
    costs = []
    for turn in range(pairs + 1):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            ways = [partial(_by_sampling, root, Path(folder), shard), partial(_by_ffmpeg, files, Path(folder))]
            made = {}
            for way in (0, 1) if turn % 2 else (1, 0):  # the first warms the disk's cache for the second
                seconds, frames = ways[way]()
                made[way] = seconds / frames
        costs.append([made[way] for way in (0, 1)])
    wall = np.array(costs[1:])
    rates = 1 / np.median(wall, axis=0)
    ratios = wall[:, 1] / wall[:, 0]
    measured = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
    return [
        (f"{name}: sampling, frames/s", f"{rates[0]:,.0f}", ""),
        (f"{name}: ffmpeg, frames/s", f"{rates[1]:,.0f}", ""),
        (f"{name}: sampling / ffmpeg", measured, "at least 0.8"),
    ]


def _by_sampling(root: Path, work: Path, shard: int) -> tuple[float, int]:
    """Wall seconds and frames."""
    done, _, _ = sampled(root, work, workers=CORES, shard_segments=shard)
    return done.figures["seconds"], _frames(done.figures)


def _by_ffmpeg(files: Sequence[Path], work: Path) -> tuple[float, int]:
    """Wall seconds and frames."""
    targets = [work / f"{number}.mp4" for number in range(len(files))]
    began = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(_reencode, files, targets))
    return time.perf_counter() - began, sum(_packets(target) for target in targets)


def _recipe() -> list[str]:
    """What ffmpeg does with a file: the size, rate and quantiser of the default recipe."""
    config = SampleConfig()
    side = config.short_side
    size = rf"if(lt(iw\,ih)\,{side}\,-2):if(lt(iw\,ih)\,-2\,{side}):flags=bilinear"
    decoded = ["-threads", "1", "-filter_threads", "1", "-an", "-vf", f"fps={config.fps:g},scale={size}"]
    quality = ["-preset", "veryfast", "-qp", str(config.qp), "-g", str(config.gop), "-bf", "0"]
    x264 = ["-pix_fmt", "yuv420p", "-x264-params", "threads=1:scenecut=0:aq-mode=0"]
    return [*decoded, "-c:v", "libx264", *quality, *x264]


def _reencode(source: Path, target: Path) -> None:
    _films.ffmpeg("-threads", "1", "-i", str(source), *_recipe(), str(target))


def _packets(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def _frames(figures: dict[str, Any]) -> int:
    return int(figures["summary"]["frames"])


# Length --------------------------------------------------------------------------------------------------------------


def long(*, minutes: int = 120, seconds: float = 10.0, windows: int = 100, out: Path = OUT) -> None:
    """A file of two hours against one of ten seconds: memory while sampling, and the cost of a window."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        films = [work / "short" / "film.mp4", work / "long" / "film.mp4"]
        for film in films:
            film.parent.mkdir()
        _films.long_film(films[1], minutes=minutes)
        _films.beginning(films[1], films[0], seconds=seconds)
        made = [sampled(film.parent, work / f"sampled-{film.parent.name}", memory=True, workers=1) for film in films]
        costs = np.array(_costs_of_middle([Footage(manifest, store) for _, manifest, store in made], windows))
    runs = [done for done, _, _ in made]
    rows = [
        ("frames", " and ".join(f"{_frames(one.figures):,}" for one in runs), ""),
        *_memories(runs, 1.2),
        ("window, ms", " and ".join(f"{1e3 * cost:.1f}" for cost in np.median(costs, axis=0)), ""),
        ("window, long / short", _ratio(costs[:, 1], costs[:, 0]), "at most 1.2"),
    ]
    remark = (
        f"{seconds:g} seconds and {minutes} minutes of the same film (320 x 240, H.264). Peak memory while one worker "
        f"samples. Windows of {SPAN} frames: anywhere in the short file, and in the middle tenth of the long one; CPU "
        f"time of one thread, in turns, medians. {_COMPILED}"
    )
    write_section(out, "A file of two hours", rows, remark)


def _costs_of_middle(opened: Sequence[Footage], count: int) -> list[list[float]]:
    """CPU seconds of windows, one of each footage in turns."""
    rng = np.random.default_rng(0)

    def cost(one: Footage) -> float:
        row = int(len(one.segments) * rng.uniform(0.45, 0.55))
        start = int(rng.integers(one.segments.frames[row] - SPAN + 1))
        return _cpu_seconds(one.window, row, start, start + SPAN)

    return [[cost(one) for one in opened] for _ in range(count + 1)][1:]


# Number --------------------------------------------------------------------------------------------------------------


def scale(*, clips: int = 20_000, segments: int = 333_333, out: Path = OUT) -> None:
    """Ten times as many clips, and an index of half a billion frames in a reader worker."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs = []
        for count in (clips // 10, clips):
            _films.clips(work / f"clips-{count}", count=count, frames=16)
            runs.append(sampled(work / f"clips-{count}", work / f"sampled-{count}", memory=True)[0])
        worker = _reader_worker(work / "archive", segments)
    seconds = [one.figures["seconds"] for one in runs]
    rows = [
        ("clips", " and ".join(f"{one.figures['summary']['segments']:,}" for one in runs), ""),
        ("sampling, s", " and ".join(f"{value:.1f}" for value in seconds), ""),
        ("ten times the clips take", f"{seconds[1] / seconds[0]:.2f} times as long", "at most 10.5"),
        *_memories(runs, 1.1),
        *_worker_rows(worker),
    ]
    remark = (
        f"Distinct clips of 16 frames, {CORES} workers, the default recipe. The index is synthetic: {segments:,} "
        "segments of 1,500 frames, each of a file and group of its own, a cut every 125 frames. Resident memory. "
        f"{_COMPILED}"
    )
    write_section(out, "Many files", rows, remark)


def _worker_rows(worker: dict[str, Any]) -> list[Row]:
    held = worker["held"]
    torch = held["torch"] - held["reader"]
    parts = {
        "of which Python and the reader": held["reader"],
        "of which `Footage`": held["footage"] - held["torch"],
        f"of which `Windows` ({worker['windows']:,} of {SPAN} frames)": held["windows"] - held["footage"],
        "of which 1,000 draws (the epoch's order)": held["draws"] - held["windows"],
        "PyTorch besides": torch,
        "the worker's peak, with PyTorch": worker["peak"],
    }
    name = f"reader worker on {worker['frames'] / 1e6:,.0f} M frames, without PyTorch, MB"
    whole = (name, _megabytes(held["draws"] - torch), "at most 200")
    return [whole, *((f"{part}, MB", _megabytes(size), "") for part, size in parts.items())]


def _reader_worker(work: Path, segments: int) -> dict[str, Any]:
    work.mkdir()
    store = Store(str(work / "store"))
    write_index(work / INDEX, _index_rows(segments).table(), Geometry(short_side=128, fps=25.0, qp=26, gop=12))
    write_shards(work / SHARDS, [_shard(number) for number in range(-(-segments // 64))])
    manifest = work / "manifest.json"
    footage(work, store).write(manifest)
    return run("reader_memory", manifest=manifest, store=store.url, span=SPAN, draws=1000).figures


def _index_rows(segments: int) -> IndexRows:
    rows = IndexRows()
    rng = np.random.default_rng(0)
    for number in range(segments):
        path = f"site-{number % 40:02d}/camera-{number % 7}/2024-{number:07d}.mp4"
        sha256 = _films.name_digest(path)
        motion = np.sort(rng.gamma(2.0, 0.3, 5)).tolist()
        rows.add(
            Segment(
                key=sha256[:16],
                source=path,
                source_sha256=sha256,
                start=0.0,
                end=60.0,
                label="",
                group=path,
                split="val" if number % 10 == 0 else "unlabelled",
            ),
            EncodingStats(
                frames=1500,
                fps=25.0,
                width=228,
                height=128,
                codec="h264",
                shard=number // 64,
                offset=number % 64 * 700_000,
                length=700_000,
                frame_offset=number % 64 * 1500,
                motion=tuple(motion),
                cuts=tuple(range(125, 1500, 125)),
                fingerprint=(number + 1, number),
            ),
        )
    return rows


def _shard(number: int) -> Shard:
    names = [f"{number}-{n}" for n in range(65)]
    digests = [_films.name_digest(name) for name in names]
    return Shard(
        shard=number,
        sha256=digests[0],
        size=64 * 700_000,
        segments=64,
        frames=96_000,
        motion_sha256=digests[0][::-1],
        motion_size=96_000 * 22,
        sources=tuple(sorted(map(source_number, digests[1:]))),
    )


# Growth --------------------------------------------------------------------------------------------------------------


def growth(*, videos: int = 100, seconds: float = 20.0, out: Path = OUT) -> None:
    """What is written to the store for one more video in an archive of a hundred."""
    with tempfile.TemporaryDirectory() as folder:
        archive, home = Path(folder) / "archive", Path(folder) / "home"
        frames = round(25 * seconds)
        _films.scenes(archive, first=0, count=videos, frames=frames)
        _pin_and_sample(archive, home)
        before = _contents(home / "store")
        _films.scenes(archive, first=videos, count=1, frames=frames)
        _pin_and_sample(archive, home)
        after = _contents(home / "store")
    written = {name: size for name, (size, digest) in after.items() if before.get(name, (0, ""))[1] != digest}
    changed = [name for name in before if name.startswith("objects/") and before[name] != after.get(name)]
    whole = sum(size for size, _ in before.values())
    largest = ", ".join(f"{size:,}" for size in sorted(written.values(), reverse=True)[:6])
    rows = [
        (f"in the store after {videos} videos, bytes", f"{whole:,}", ""),
        ("written for one more, bytes", f"{sum(written.values()):,}", ""),
        ("share", f"{sum(written.values()) / whole:.2%}", "at most 1.2 %"),
        ("objects that changed or went", str(len(changed)), "0"),
    ]
    remark = (
        f"Videos of {seconds:g} s. `rushes pin` and `rushes sample`, then again with one more; all objects, manifests "
        f"and records count, the rewritten ones in full. The largest of the {len(written)} written: {largest} bytes."
    )
    write_section(out, "Growth", rows, remark)


def _pin_and_sample(archive: Path, home: Path) -> None:
    environment = os.environ | {"RUSHES_HOME": str(home), "RUSHES_STORE": str(home / "store")}
    home.mkdir(exist_ok=True)
    pin, pointer = str(home / "pin.json"), str(home / "footage.json")
    pinning = ["pin", "--videos", str(archive), "--out", pin]
    sampling = ["sample", "pace-r2plus1d", "--pin", pin, "--out", pointer]
    for arguments in (pinning, sampling):
        command = [sys.executable, "-m", "rushes.cli", *arguments]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def _contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and modification of each file under a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(folder))] = (stat.st_size, f"{stat.st_ino} {stat.st_mtime_ns}")
    return found


# Text ----------------------------------------------------------------------------------------------------------------


def _ratio(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> str:
    """Median over pairs."""
    value = float(np.median(first / second))
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f}"


def _memories(runs: Sequence[Run], limit: float) -> list[Row]:
    """Peak memory of two runs: of all processes together, and of the largest ones."""
    sizes = {
        "processes together, sum of PSS": [one.peak for one in runs],
        "parent, most resident": [one.figures["parent"] for one in runs],
        "largest worker, most resident": [one.worker for one in runs],
    }
    texts = [f"{_megabytes(low)} and {_megabytes(high)} ({high / low:.2f} times)" for low, high in sizes.values()]
    targets = [f"at most {limit:g} times", "", ""]
    return [(f"{name}, MB", text, target) for name, text, target in zip(sizes, texts, targets, strict=True)]


def write_section(path: Path, title: str, rows: Sequence[Row], remark: str) -> None:
    """Prints a section and puts it into the file, in place of the one with the same title."""
    command = " ".join(["python -m benchmarks.footage", *sys.argv[1:]])
    packages = ", ".join(f"{name} {version(name)}" for name in ("av", "numpy", "pillow", "pyarrow", "torch"))
    lines = [
        f"## {title}",
        "",
        "| | measured | target |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        remark,
        "",
        f"`{command}`, {CORES} cores of {processor()}, python {platform.python_version()}, {packages}{_tool()}.",
    ]
    section = "\n".join(lines) + "\n"
    print(section)
    heading = "# What footage costs\n"
    old = path.read_text() if path.exists() else heading
    parts = old.split("\n## ")
    kept = {part.splitlines()[0]: f"## {part.rstrip()}\n" for part in parts[1:]} | {title: section}
    order = ("Reading a window", "Sampling against ffmpeg", "A file of two hours", "Many files", "Growth")
    path.write_text("\n".join([heading, *(kept[name] for name in order if name in kept)]))


def _tool() -> str:
    """The version of ffmpeg's command line tool, if it is installed."""
    try:
        text = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f", ffmpeg {text.split()[2]}"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"reader": reader, "sample": sample, "long": long, "scale": scale, "growth": growth}
    )
