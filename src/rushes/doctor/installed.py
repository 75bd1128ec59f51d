"""The doctor's checks of what is installed: Python, packages, FFmpeg, git."""

import platform
import re
import shutil
import subprocess
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from rushes.doctor.findings import TIMEOUT, Environment, Finding


def check_python(environment: Environment) -> Finding:
    """The interpreter against the package's requirement."""
    needed = Requirement(f"python{metadata.metadata('rushes')['Requires-Python']}").specifier
    return _compared(platform.python_version(), needed, remedy=f"Use Python {needed}.")


def check_package(environment: Environment, *, name: str, of: str = "rushes") -> Finding:
    """An installed distribution against the requirement of the distribution `of`, its extras included."""
    needed = [one for one in map(Requirement, _requirements(of)) if one.name == name]
    requirement = needed[0] if needed else Requirement(name)
    extra = re.search(r"extra == \W([\w-]+)", str(requirement.marker))
    wanted = f"{of}[{extra[1]}]" if extra else f"{name}{requirement.specifier}"
    remedy = f'Install it: pip install "{wanted}".'
    try:
        return _compared(metadata.version(name), requirement.specifier, remedy=remedy)
    except metadata.PackageNotFoundError:
        return Finding(verdict="failed", found=f"not installed; {requirement.specifier} is needed", remedy=remedy)


def _requirements(distribution: str) -> list[str]:
    """What a distribution requires; nothing where it is not installed itself."""
    try:
        return metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []


def check_video(environment: Environment) -> Finding:
    """FFmpeg inside PyAV: encodes a few frames with libx264."""
    import av
    import numpy as np

    from rushes.video.encode import encode_h264

    codecs = f"libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    if "libx264" not in av.codecs_available:
        remedy = (
            "Install PyAV's own wheel (pip install --force-reinstall av), which brings FFmpeg with libx264. Without "
            "it, nothing is sampled, and only models exported with --export.no-encode are served."
        )
        return Finding(verdict="failed", found=f"{codecs} without libx264", remedy=remedy)
    frames = np.full((4, 48, 32), 128, dtype=np.uint8)
    size = len(encode_h264(frames, fps=25.0, qp=26, gop=12))
    return Finding(verdict="ok", found=f"{codecs} with libx264 (4 frames in {size} bytes)")


def check_git(environment: Environment) -> Finding:
    """The git command, which reads archives in DVC repositories."""
    git = shutil.which("git")
    if git is None:
        remedy = "Install git if your videos are in a DVC repository (--revision); otherwise it is not needed."
        return Finding(verdict="warning", found="not on PATH", remedy=remedy)
    version = subprocess.run([git, "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    return Finding(verdict="ok", found=version.strip())


def _compared(version: str, needed: Any, *, remedy: str) -> Finding:
    if needed.contains(version, prereleases=True):
        return Finding(verdict="ok", found=f"{version}")
    return Finding(verdict="failed", found=f"{version}; {needed} is needed", remedy=remedy)
