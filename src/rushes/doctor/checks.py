"""Is everything there that a run needs, on this machine or in this pod? `rushes doctor` shows the answers.

A check is a small function that looks at one thing and says what it found, and what to do about it. It may fail in any
way, or never come back: `examine` makes a finding of that, too.

    environment = Environment(profile="gpu")
    findings = {name: examine(check, environment) for name, check in CHECKS.items()}
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from rushes.errors import RushesError, UserError, disk_error
from rushes.home import home_folder, open_store
from rushes.kubeflow.profile import Gpu, Profile, read_profile
from rushes.kubeflow.quantities import amount
from rushes.processes import status
from rushes.store import Store, write_atomic
from rushes.tracking.server import NAME as MLFLOW
from rushes.tracking.server import tracking_url

CheckVerdict = Literal["ok", "warning", "failed"]
LITTLE = 10e9
"""Bytes free below which a disk is worth a warning: the footage of about 200 hours."""
SHARED = 1 << 30
"""Bytes of /dev/shm that loader workers want where no profile says how many."""
_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
_ANSWER = 5.0  # seconds that a server has
_RACERS = 4
_GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")  # on Linux, under Windows, AMD's


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check came to."""

    verdict: CheckVerdict
    found: str
    remedy: str = ""
    """A sentence; empty where there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What is known of this machine or pod before the checks."""

    profile: str = ""
    """Name or file; empty where none is given."""
    host: str = ""
    """URL of Kubeflow Pipelines, where it is given by hand."""
    devices: Path = Path("/dev")
    """Where the system's devices are."""
    limit: float = 60.0
    """Seconds that a check may take; importing torch on a busy machine takes half of them."""

    @property
    def cluster(self) -> Profile:
        """The profile; one that asks for nothing where there is none, or none that can be read."""
        with contextlib.suppress(UserError):
            if self.profile:
                return read_profile(self.profile)
        return Profile(gpu=Gpu(count=0))

    @property
    def in_pod(self) -> bool:
        """Whether this is a pod."""
        return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


Check = Callable[[Environment], Finding]


def examine(check: Check, environment: Environment) -> Finding:
    """What the check finds; that it fails, or takes longer than it may, is a finding as well. Never raises."""
    outcome: list[Finding] = []

    def run() -> None:
        try:
            outcome.append(check(environment))
        except RushesError as error:
            outcome.append(Finding(verdict="failed", found=str(error)))  # it says the remedy
        except Exception as error:  # a check's own fault must not hide the others
            found = disk_error(error) or f"{type(error).__name__}: {error}"
            outcome.append(Finding(verdict="failed", found=" ".join(found.split()), remedy=_UNEXPECTED))

    thread = threading.Thread(target=run, daemon=True)  # one that hangs must not keep the process from ending
    thread.start()
    thread.join(environment.limit)
    late = f"no answer within {environment.limit:g} s"
    return outcome[0] if outcome else Finding(verdict="failed", found=late, remedy=_UNEXPECTED)


_UNEXPECTED = "Look whether the place is reachable and this user may use it."


# What is installed ---------------------------------------------------------------------------------------------------


def check_python(environment: Environment) -> Finding:
    """The interpreter against what the package asks for."""
    needed = Requirement(f"python{metadata.metadata('rushes')['Requires-Python']}").specifier
    return _compared(platform.python_version(), needed, remedy=f"Use Python {needed}.")


def check_package(environment: Environment, *, name: str, of: str = "rushes") -> Finding:
    """An installed distribution against what `of` asks for, its extras included."""
    needed = [one for one in map(Requirement, metadata.requires(of) or ()) if one.name == name]
    specifier = needed[0].specifier if needed else Requirement(name).specifier
    remedy = f'Install it: pip install "{name}{specifier}".'
    try:
        return _compared(metadata.version(name), specifier, remedy=remedy)
    except metadata.PackageNotFoundError:
        return Finding(verdict="failed", found=f"not installed; {specifier} is needed", remedy=remedy)


def _compared(version: str, needed: Any, *, remedy: str) -> Finding:
    if needed.contains(version, prereleases=True):
        return Finding(verdict="ok", found=f"{version}")
    return Finding(verdict="failed", found=f"{version}; {needed} is needed", remedy=remedy)


def check_video(environment: Environment) -> Finding:
    """FFmpeg inside PyAV: encodes a few frames with libx264, and decodes them."""
    import av
    import numpy as np

    from rushes.video.encode import encode_h264

    codecs = f"libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    if "libx264" not in av.codecs_available:
        remedy = "Install PyAV's own wheel (pip install --force-reinstall av), which brings FFmpeg with libx264."
        return Finding(verdict="failed", found=f"{codecs} without libx264", remedy=remedy)
    frames = np.full((4, 48, 32), 128, dtype=np.uint8)
    size = len(encode_h264(frames, fps=25.0, qp=26, gop=12))
    return Finding(verdict="ok", found=f"{codecs} with libx264 (4 frames in {size} bytes)")


def check_git(environment: Environment) -> Finding:
    """The git command, which archives in DVC repositories are read with."""
    found = shutil.which("git")
    if found is None:
        remedy = "Install git if videos lie in a DVC repository (--revision); else leave it."
        return Finding(verdict="warning", found="not on PATH", remedy=remedy)
    told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=_ANSWER, check=True).stdout
    return Finding(verdict="ok", found=told.strip())


# Where things lie ----------------------------------------------------------------------------------------------------


def check_store(environment: Environment) -> Finding:
    """Writes, reads and removes a record; of several that create one name at once, exactly one must win."""
    store = open_store()
    name = f"doctor/{uuid.uuid4().hex}"
    try:
        began = time.monotonic()
        store.write(name, b"probe")
        read = store.read(name)
        store.remove(name)
        took = (time.monotonic() - began) / 3
        if read != b"probe" or store.read(name) is not None:
            remedy = "Give RUSHES_STORE a place where what is written is seen at once, by everybody."
            return Finding(verdict="failed", found=f"{store.url} does not give back what was written", remedy=remedy)
        winners = _winners(store, name)
    except (OSError, ImportError) as error:
        found = f"{store.url} cannot be used ({error})"
        return Finding(verdict="failed", found=found, remedy="Set RUSHES_STORE to a place that can be written to.")
    finally:
        with contextlib.suppress(Exception):
            store.remove(name)
    if winners != 1:
        found = f"{store.url}: {winners} of {_RACERS} created the same record"
        remedy = "Use a store that honours If-None-Match (S3, recent MinIO) or a folder: promotion depends on it."
        return Finding(verdict="failed", found=found, remedy=remedy)
    found = f"{store.url}: writes, reads, removes, creates exclusively; {1e3 * took:.0f} ms each"
    if store.local is None:
        return Finding(verdict="ok", found=found)
    return _with_space(store.local, found, variable="RUSHES_STORE")


def _winners(store: Store, name: str) -> int:
    """How many of several threads created the record."""
    barrier = threading.Barrier(_RACERS)

    def create(number: int) -> bool:
        barrier.wait(_ANSWER)
        return store.create(name, f"{number}".encode())

    with ThreadPoolExecutor(_RACERS) as pool:
        return sum(pool.map(create, range(_RACERS)))


def check_cache(environment: Environment) -> Finding:
    """The folder for what is fetched from a store that is no folder."""
    store = open_store()
    folder = store.cache.folder
    if store.local is not None:
        return Finding(verdict="ok", found=f"{folder}: not used, since the store is a folder")
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        write_atomic(probe, b"probe")
        probe.unlink()
    except OSError as error:
        found = f"{folder} cannot be written to ({error.strerror})"
        return Finding(verdict="failed", found=found, remedy="Set RUSHES_CACHE to a folder that can.")
    return _with_space(folder, str(folder), variable="RUSHES_CACHE")


def _with_space(folder: Path, found: str, *, variable: str) -> Finding:
    """A folder that works, and how much room it has."""
    free = shutil.disk_usage(folder).free
    found = f"{found}; {free / 1e9:,.0f} GB free"
    if free < LITTLE:
        return Finding(verdict="warning", found=found, remedy=f"Free space, or give {variable} another place.")
    return Finding(verdict="ok", found=found)


# Servers -------------------------------------------------------------------------------------------------------------


def check_mlflow(environment: Environment) -> Finding:
    """Whether MLflow answers, and in a version that our client can talk to."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    home = home_folder()
    if not configured and status(name=MLFLOW, home=home) is None:
        found = "not configured, and none runs here"
        return Finding(verdict="ok", found=found, remedy="`rushes up` starts one; teams set MLFLOW_TRACKING_URI.")
    url = tracking_url(home)
    try:
        version = _get(f"{url}/version").decode().strip()
    except OSError as error:
        return _silent(url, error, remedy="Start it, or correct MLFLOW_TRACKING_URI.")
    ours = metadata.version("mlflow")
    return _matched(url, version, ours=ours, parts=1, remedy=f"Bring server and client ({ours}) to one major version.")


def check_kubeflow(environment: Environment) -> Finding:
    """Whether Kubeflow Pipelines answers, and its version against the SDK's."""
    given = environment.host or environment.cluster.host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
    host = given or (_IN_CLUSTER if environment.in_pod else "")
    if not host:
        remedy = "To run on a cluster: --host URL, the profile's host, or KF_PIPELINES_ENDPOINT."
        return Finding(verdict="ok", found="not configured", remedy=remedy)
    url = host.rstrip("/") if "://" in host else f"http://{host.rstrip('/')}"
    try:
        answer = json.loads(_get(f"{url}/apis/v2beta1/healthz"))
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            return _silent(url, error, remedy="Give the URL of Kubeflow Pipelines' API, as --host or in the profile.")
        found = f"{url} wants a login ({error.code})"
        return Finding(verdict="warning", found=found, remedy="Ask from inside the cluster, or through a port-forward.")
    except ValueError:
        remedy = "Give the URL of the API itself: a login page or another server answers here."
        return Finding(verdict="failed", found=f"{url} answers, but not as Kubeflow Pipelines does", remedy=remedy)
    except OSError as error:
        return _silent(url, error, remedy="Start it, or correct --host, the profile's host or KF_PIPELINES_ENDPOINT.")
    ours = metadata.version("kfp")
    remedy = f"What kfp {ours} compiles may not run there: bring both to one minor version."
    return _matched(url, str(answer.get("tag_name") or "unknown"), ours=ours, parts=2, remedy=remedy)


def _get(url: str) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310 - the user's own servers
    with urllib.request.urlopen(request, timeout=_ANSWER) as response:  # noqa: S310
        body: bytes = response.read(1 << 16)
        return body


def _silent(url: str, error: OSError, *, remedy: str) -> Finding:
    return Finding(verdict="failed", found=f"{url} does not answer ({getattr(error, 'reason', error)})", remedy=remedy)


def _matched(url: str, version: str, *, ours: str, parts: int, remedy: str) -> Finding:
    """A server that answers, and whether the first parts of its version are our client's."""
    try:
        alike = Version(version).release[:parts] == Version(ours).release[:parts]
    except InvalidVersion:
        found = f"{url} answers; its version is {version!r}"
        return Finding(verdict="warning", found=found, remedy=remedy)
    found = f"{url}: version {version}"
    return Finding(verdict="ok", found=found) if alike else Finding(verdict="warning", found=found, remedy=remedy)


# The machine ---------------------------------------------------------------------------------------------------------


def check_gpu(environment: Environment) -> Finding:
    """The GPUs that torch sees, against those that the profile asks for."""
    wanted = environment.cluster.gpu.count
    devices = environment.devices
    if not any(next(devices.glob(name), None) for name in _GPU_DEVICES):  # saves the seconds of importing torch
        if not wanted:
            return Finding(verdict="ok", found="none: training runs on CPUs")
        found = f"none here; the profile asks for {wanted} a pod"
        remedy = "Expected on a laptop. In a training pod: check gpu.type, tolerations and the node's device plugin."
        return Finding(verdict="warning", found=found, remedy=remedy)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        found = f"the machine has one, but torch {torch.__version__} sees none"
        remedy = "Install torch's build for this driver, or update the driver (nvidia-smi)."
        return Finding(verdict="failed", found=found, remedy=remedy)
    found = f"{_gpus(torch, count)}, driver {_driver()}"
    if count < wanted:
        remedy = "Ask for as many GPUs in the pod as the profile does, or lower gpu.count."
        return Finding(verdict="warning", found=f"{found}; the profile asks for {wanted}", remedy=remedy)
    return Finding(verdict="ok", found=found)


def _gpus(torch: Any, count: int) -> str:
    """Names and memory."""
    properties = [torch.cuda.get_device_properties(number) for number in range(count)]
    return ", ".join(f"{one.name} with {one.total_memory / 2**30:.0f} GiB" for one in properties)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.splitlines()[0].strip() if told.strip() else "unknown"


def check_shared_memory(environment: Environment) -> Finding:
    """The size of /dev/shm, through which loader workers hand over batches."""
    gpu = environment.cluster.gpu
    wanted = amount(gpu.shared_memory) if gpu.count else SHARED
    folder = environment.devices / "shm"
    if not folder.is_dir():
        remedy = "Set pretrain.workers and finetune.workers to 0 where there is none."
        return Finding(verdict="warning", found=f"{folder} is not there", remedy=remedy)
    size = shutil.disk_usage(folder).total
    found = f"{size / 2**30:.3g} GiB"
    # A memory volume is as large as was asked for, but for a page.
    if size >= 0.99 * wanted:
        return Finding(verdict="ok", found=found)
    remedy = "Mount a memory volume there (the compiled pipeline does), or set pretrain.workers to 0."
    return Finding(verdict="warning", found=f"{found}; {wanted / 2**30:.3g} GiB are wanted", remedy=remedy)


def check_profile(environment: Environment) -> Finding:
    """Reads the profile; in a pod, looks whether what it promises is there."""
    if not environment.profile:
        return Finding(verdict="ok", found="none given", remedy="To look at a cluster's: --profile NAME or FILE.yaml.")
    profile = read_profile(environment.profile)
    secrets = ", ".join(one.name for one in profile.secrets) or "no secret"
    found = f"{profile.name}: ConfigMap {profile.settings.name}, {secrets}, {len(profile.volumes)} volumes"
    if environment.in_pod and (missing := _missing(profile)):
        remedy = "Create them in this namespace (deploy/kubernetes/pipelines), and compile with this profile."
        return Finding(verdict="failed", found=f"{found}; missing here: {', '.join(missing)}", remedy=remedy)
    return Finding(verdict="ok", found=found)


def _missing(profile: Profile) -> list[str]:
    """What a pod of this profile should have and this one has not: environment variables, writable volumes."""
    wanted = [key for source in (profile.settings, *profile.secrets) for key in source.keys]
    variables = [f"variable {key}" for key in wanted if key not in os.environ]
    folders = [folder for folder in profile.volumes.values() if not os.access(folder, os.W_OK | os.X_OK)]
    return variables + [f"writable {folder}" for folder in folders]


CHECKS: Mapping[str, Check] = {
    "python": check_python,
    "torch": partial(check_package, name="torch"),
    "av": partial(check_package, name="av"),
    "ffmpeg": check_video,
    "mlflow": partial(check_package, name="mlflow"),
    "kfp": partial(check_package, name="kfp"),
    "kfp-kubernetes": partial(check_package, name="kfp-kubernetes", of="kfp"),
    "dvc": partial(check_package, name="dvc"),
    "git": check_git,
    "store": check_store,
    "cache": check_cache,
    "mlflow server": check_mlflow,
    "kubeflow": check_kubeflow,
    "profile": check_profile,
    "gpu": check_gpu,
    "shared memory": check_shared_memory,
}
"""In the order in which they are shown."""
