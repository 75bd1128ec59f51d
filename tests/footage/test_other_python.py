"""Python 3.11 and 3.12 lock different PyAVs: videos decode to the same frames, and footage has the same bytes.

Runs under every Python of `PYTHONS` that is on this machine, in folders with the locked packages.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from tests.conftest import SHARED_DATA
from tests.damage import drawn_videos

ROOT = Path(__file__).parents[2]
REAL = SHARED_DATA / "odd_videos"
PYTHONS = ("3.11", "3.12")
NEEDED = [
    "av",
    "fsspec",
    "jinja2",
    "markupsafe",
    "numpy",
    "packaging",
    "pillow",
    "pyarrow",
    "pyyaml",
    "rich",
    "tenacity",
    "typing-extensions",
    "markdown-it-py",
    "mdurl",
    "pygments",
]
WORK = """
import hashlib, json, sys
from pathlib import Path
import av, numpy
import itertools
import pyarrow.parquet as pq
from rushes.config import Recipe, SampleConfig
from rushes.footage.catalogue import INDEX, SHARDS
from rushes.footage.reference import DataReference
from rushes.home import open_store
from rushes.steps.pin import pin
from rushes.steps.sample import sample
from rushes.video.decode import decode_i420
from rushes.video.source import VideoError

def digest(path):
    # Of the first frames, or the reason for which there are none.
    try:
        frames = list(itertools.islice(decode_i420(path, short_side=32, fps=12.5), 60))
    except VideoError as error:
        return error.reason
    if not frames:
        return "none"
    return hashlib.sha256(numpy.stack(frames).tobytes()).hexdigest()

if __name__ == "__main__":
    videos, out = Path(sys.argv[1]), Path(sys.argv[2])
    real = sorted(path for path in Path(sys.argv[3]).rglob("*") if path.is_file()) if sys.argv[3] else []
    frames = {str(path): digest(path) for path in [*sorted(videos.iterdir()), *real]}
    pin(data=DataReference(videos=str(videos)), out=out / "pin.json")
    recipe = Recipe(name="small", sample=SampleConfig(workers=1))
    made = sample(recipe=recipe, pin=out / "pin.json", out=out / "footage.json")
    store = open_store()
    shards = sorted(map(str, pq.read_table(store.checked(made.files[SHARDS])).to_pylist()))
    rows = pq.read_table(store.checked(made.files[INDEX])).to_pylist()
    print(json.dumps({"av": av.__version__, "frames": frames, "shards": shards, "rows": sorted(map(str, rows)),
                      "digest": made.digest}))
"""


def python(minor: str) -> Path:
    """An interpreter of this minor version, on PATH or of pyenv."""
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{minor}"), *map(str, roots.glob(f"{minor}.*/bin/python{minor}"))]
    for candidate in filter(None, found):
        asked = subprocess.run([candidate, "-c", "import ssl"], capture_output=True, check=False)
        if asked.returncode == 0:
            return Path(candidate)
    pytest.skip(f"no Python {minor} here")


def locked(minor: str) -> str:
    """The lines of the lock for the packages that sampling imports, as this Python reads them."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / "requirements" / "rushes.lock").read_text())
    environment = {"python_version": minor, "python_full_version": f"{minor}.0"}
    chosen = []
    for block in blocks:
        pin = re.match(r"([a-z0-9._-]+)==\S+(?: ; ([^\\\n]+))?", block)
        if pin and pin[1] in NEEDED and (not pin[2] or Marker(pin[2].strip()).evaluate(environment)):
            chosen.append(block)
    return "".join(chosen)


def worked(minor: str, videos: Path, folder: Path) -> dict[str, Any]:
    """What decoding and sampling give under this Python, with the packages that are locked for it."""
    interpreter = python(minor)
    (folder / "out").mkdir(parents=True)
    (folder / "pins.lock").write_text(locked(minor))
    (folder / "work.py").write_text(WORK)
    subprocess.run([str(interpreter), "-m", "venv", str(folder / "venv")], check=True, capture_output=True)
    inside = str(folder / "venv" / "bin" / "python")
    pip = [inside, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "-r", str(folder / "pins.lock")], check=True, capture_output=True)
    variables = {"PYTHONPATH": str(ROOT / "src"), "RUSHES_HOME": str(folder / "home")}
    ran = subprocess.run(
        [inside, str(folder / "work.py"), str(videos), str(folder / "out"), str(REAL) if REAL.is_dir() else ""],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_both_locked_pyavs_decode_the_same_frames_and_make_the_same_footage(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    assert len(drawn_videos(videos)) >= 10
    one, other = (worked(minor, videos, tmp_path / minor) for minor in PYTHONS)
    assert one["frames"] == other["frames"] and len(one["frames"]) >= 10
    assert one["shards"] == other["shards"] and one["shards"]
    assert one["rows"] == other["rows"] and len(one["rows"]) >= 10
    # Another PyAV is another digest, so that two kinds of footage never pass for one.
    assert (one["av"] == other["av"]) == (one["digest"] == other["digest"])
