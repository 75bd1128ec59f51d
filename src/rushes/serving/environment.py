"""Triton's own Python environment: made once, from a lock file with hashes, and shared by all projects of a user.

It is separate because nvidia-pytriton, which ships Triton's binary, requires numpy below 2, and because it must hold
what the image holds: numpy, av, onnxruntime, no torch. It lies in the cache folder under the digest of the lock file.

Its Triton is 2.51 (24.10), the last that PyPI has, so it cannot be renewed: for one user, on loopback. The image that
serves others (deploy/Dockerfile) is kept on a current release (deploy/versions.yaml).
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from rushes.errors import ServiceError
from rushes.home import user_cache
from rushes.progress import NullProgress, Progress
from rushes.resources import bundled
from rushes.store import locked

PYTHONS = ((3, 11), (3, 12))
"""Minor versions for which both the locked wheels and Triton's stubs exist."""
GLIBC = (2, 35)
OFF = "RUSHES_NO_TRITON"
_COMPLETE = "complete"


def can_run_triton() -> str | None:
    """Why Triton's binary cannot run here, in a few words, or None if it can. Takes no time."""
    if os.environ.get(OFF, "") not in ("", "0"):
        return f"switched off by {OFF}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"its binary needs Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC:
        found = f"{name or 'another libc'} {version}".strip()
        return f"its binary needs glibc >= {GLIBC[0]}.{GLIBC[1]}, this system has {found}"
    if sys.version_info[:2] not in PYTHONS:
        allowed = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        return f"its environment needs Python {allowed}, this is {sys.version_info.major}.{sys.version_info.minor}"
    return None


def lock_file() -> Path:
    """The lock of Triton's environment."""
    return bundled("requirements/triton.lock")


def environment_folder() -> Path:
    """The environment's folder for this lock file and Python; it need not exist."""
    cache = user_cache()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock_file().read_bytes() + python.encode()).hexdigest()[:12]
    return cache / "rushes" / f"triton-{digest}"


def is_ready() -> bool:
    """Whether the environment has been made."""
    return (environment_folder() / _COMPLETE).is_file()


def ensure_environment(progress: Progress | None = None) -> Path:
    """Returns the environment's folder, after making it if it is missing (130 MB of downloads, 480 MB on disk).

    Raises:
        ServiceError: it could not be made; nothing incomplete is left.
    """
    folder = environment_folder()
    with locked(folder.with_suffix(".lock")):
        if not is_ready():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _make(folder, progress or NullProgress())
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / _COMPLETE).touch()
    return folder


def site_packages(environment: Path) -> Path:
    """The site-packages of an environment."""
    return environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _make(folder: Path, progress: Progress) -> None:
    lock = lock_file()
    pins = sum(1 for line in lock.read_text().splitlines() if line[:1].isalnum())
    bar = progress.bar("Triton's environment", total=pins + 2, unit="packages")
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServiceError(
            f"Triton's environment: cannot make {folder} ({error}): free the disk, or install the system's venv package"
        ) from error
    bar.advance(1)
    argv = [str(folder / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", str(lock)]
    argv += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    tail: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            tail = [*tail[-5:], line.rstrip()]
            if line.startswith("Collecting "):
                bar.advance(1)
    if pip.returncode != 0:
        words = "\n".join(tail)
        raise ServiceError(f"Triton's environment: pip failed; check the network and the disk. It said:\n{words}")
    bar.advance(1)
