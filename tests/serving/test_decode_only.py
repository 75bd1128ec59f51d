"""A PyAV on an FFmpeg without x264 and x265, as the image with AV=lgpl has: the same frames, and clear refusals.

RUSHES_TEST_DECODE_ONLY names a folder with such a package (what `pip install --target` makes of the wheel of the stage
av-lgpl in deploy/Dockerfile). The other tests of serving pass with it, too, but for the one that skips because it
encodes: run them with XDG_CACHE_HOME as the fixture `cache` makes it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rushes.errors import ServiceError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.serving.bundle import Bundle
from rushes.serving.client import predict
from rushes.serving.environment import ensure_environment, environment_folder, site_packages
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, start_triton, stop_triton
from rushes.store import Store
from tests.damage import drawn_videos

ROOT = Path(__file__).parents[2]
GIVEN = os.environ.get("RUSHES_TEST_DECODE_ONLY", "")
pytestmark = pytest.mark.skipif(not GIVEN, reason="RUSHES_TEST_DECODE_ONLY names no PyAV without x264")
LOOK = """
import hashlib, json, sys
from pathlib import Path
import av, av.codec, numpy
from av._core import library_meta
from rushes.video.decode import decode_i420

frames = {
    path.name: hashlib.sha256(numpy.stack(list(decode_i420(path, short_side=32, fps=12.5))).tobytes()).hexdigest()
    for path in sorted(Path(sys.argv[1]).iterdir())
}
loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
encoders = sorted(name for name in av.codecs_available if name in {"libx264", "libx264rgb", "libx265", "h264_nvenc"})
print(json.dumps({"file": av.__file__, "av": av.__version__, "loaded": sorted(loaded), "frames": frames,
                  "encoders": encoders, "meta": library_meta["libavcodec"]}))
"""


def looked(videos: Path, *packages: str) -> dict[str, Any]:
    """What a process sees that decodes the videos with the PyAV of these packages."""
    variables = {"PYTHONPATH": os.pathsep.join([*packages, str(ROOT / "src")])}
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, str(videos)], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "videos"
    assert len(drawn_videos(folder)) >= 10
    shutil.copy(ROOT / "src" / "rushes" / "serving" / "golden.mp4", folder)
    return folder


def test_the_loader_lists_no_x264_and_no_x265(videos: Path) -> None:
    found, usual = looked(videos, GIVEN), looked(videos)
    assert Path(found["file"]).is_relative_to(GIVEN) and found["av"] == usual["av"]
    libraries = [Path(path).name for path in found["loaded"]]
    assert any(name.startswith("libavcodec") for name in libraries)
    assert not [name for name in libraries if re.match(r"libx26[45]", name)]
    assert [path for path in usual["loaded"] if re.match(r"libx26[45]", Path(path).name)], "the test would see them"
    assert found["encoders"] == [] and "libx264" in usual["encoders"]
    assert found["meta"]["license"].startswith("LGPL version 2.1")
    assert not re.search(r"enable-(gpl|nonfree|libx26[45])", found["meta"]["configuration"])


def test_it_was_configured_as_the_dockerfile_does(videos: Path) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"\./configure (.*?) &&", dockerfile)
    flags = {flag for flag in line.split() if not flag.startswith("--prefix")}
    used = looked(videos, GIVEN)["meta"]["configuration"].replace("'", "").split()
    assert flags == {flag for flag in used if not flag.startswith("--prefix")}


def test_the_same_frames_come_out(videos: Path) -> None:
    frames = looked(videos, GIVEN)["frames"]
    assert frames == looked(videos)["frames"] and len(frames) >= 11


# Triton --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(triton_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder whose environment of Triton has the given PyAV in place of the wheel's."""
    usual, folder = ensure_environment(), tmp_path_factory.mktemp("cache")
    kept = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    shutil.copytree(usual, environment_folder(), symlinks=True, copy_function=os.link)
    packages = site_packages(environment_folder())
    for path in packages.glob("av*"):
        shutil.rmtree(path)
    for path in Path(GIVEN).glob("av*"):
        shutil.copytree(path, packages / path.name)
    yield folder
    if kept is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = kept


@pytest.fixture(scope="module")
def decoding_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoding")


@pytest.fixture(scope="module")
def decoding(cache: Path, decoding_home: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    yield start_triton(home=decoding_home, port=free_port())
    stop_triton(home=decoding_home)


@pytest.mark.servers
def test_it_answers_without_encoding_and_refuses_a_model_that_needs_it(
    decoding: Server,
    decoding_home: Path,
    store: Store,
    promote: Callable[..., Champion],
    five_actions: Bundle,
    video: bytes,
    tmp_path: Path,
) -> None:
    def deploy(version: int, folder: Path) -> None:
        promote("plain", version, folder)
        reconcile(home=decoding_home, store=store, server=address(decoding), endpoint="plain")

    deploy(1, five_actions.folder)
    answer = predict(video, endpoint="plain", url=address(decoding), protocol="grpc")
    assert (answer.version, answer.labels) == (1, five_actions.contract.labels)
    needing = Path(shutil.copytree(five_actions.folder, tmp_path / "needing"))
    record = json.loads((needing / "contract.json").read_text())
    record["encoding"] = {"codec": "h264", "short_side": 36, "qp": 26, "gop": 12}
    (needing / "contract.json").write_text(json.dumps(record))
    with pytest.raises(ServiceError, match=r"version 2 is not served: .*lacks libx264.*no-encode.*version 1 stays$"):
        deploy(2, needing)
    assert predict(video, endpoint="plain", url=address(decoding), protocol="grpc").version == 1
    maps = [path for path in Path("/proc").glob("[0-9]*/maps") if _of(path.parent, decoding.pid)]
    loaded = "\n".join(path.read_text() for path in maps)
    assert "libavcodec" in loaded and not re.search(r"libx26[45]", loaded), "in Triton and all its decoders"


def _of(process: Path, group: int) -> bool:
    """Whether a process belongs to a group; one that has ended does not."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2]) == group
    except OSError:
        return False
