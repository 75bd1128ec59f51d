"""`rushes demo`, `rushes demo-videos`: the whole workflow on videos that the project draws itself."""

import tempfile
from pathlib import Path

from rushes.commands.predict import predictor, show
from rushes.commands.run import run_pipeline, show_results
from rushes.config import Recipe
from rushes.console import console, watching
from rushes.footage.reference import DataReference
from rushes.home import home_folder
from rushes.orchestration.run import Arguments
from rushes.progress import EventLog

ENDPOINT = "demo"


def videos(folder: Path, *, size: str, seed: int) -> int:
    """Draws the dataset, or the missing part of it."""
    draw(folder, size=size, seed=seed)
    console.print(f"\nNext: rushes run pace-r2plus1d --size cpu --videos {folder}", markup=False)
    return 0


def draw(folder: Path, *, size: str = "demo", seed: int = 0) -> None:
    """Draws the dataset with a progress bar; a complete one is left as it is."""
    from rushes.demo.dataset import write_dataset

    with tempfile.TemporaryDirectory(prefix="rushes-events-") as scratch:
        events = Path(scratch) / "progress.jsonl"
        with watching(events):
            written = write_dataset(folder, size=size, seed=seed, progress=EventLog(events, step="demo-videos"))
    console.print(f"{written.files} videos, {written.frames} frames, in {folder}", markup=False)


def demo(*, recipe: Recipe, folder: Path | None = None) -> int:
    """Draws the videos, adds them to DVC, runs the pipeline on them and asks the endpoint about one."""
    from rushes.commands.data import track

    home = home_folder()
    folder = (folder or Path("data/demo")).absolute()
    draw(folder)
    track(folder)
    finished = run_pipeline(Arguments(data=DataReference(videos=str(folder)), models=(recipe,), endpoint=ENDPOINT))
    show_results(finished)
    if finished.served:
        video, label = test_video(folder)
        console.print(f"\nA test video of [bold]{label}[/], sent to the endpoint as it is on disk:")
        show(video, predictor(home, endpoint=ENDPOINT, offline=False)(video), top=3, as_json=False)
    console.print("\nNext:", style="bold")
    console.print("  rushes predict YOUR_VIDEO.mp4     ask it yourself", markup=False)
    console.print("  rushes run pace-r2plus1d --size cpu --videos YOUR_FOLDER", markup=False)
    console.print("  rushes status                     what is served", markup=False)
    console.print("  rushes down                       stop the servers, which stay up", markup=False)
    return 0


def test_video(folder: Path) -> tuple[Path, str]:
    """The first whole test video of the dataset, and its label: fixed before anything is trained."""
    import csv

    with (folder / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test" and row["label"] and not row["start"]:
                return folder / row["path"], row["label"]
    raise AssertionError("the dataset holds test videos")
