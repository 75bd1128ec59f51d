"""The doctor's checks of the machine against the profile: GPUs, shared memory, and what a pod should have."""

import os
import shutil
import subprocess
from typing import Any

from rushes.doctor.findings import TIMEOUT, Environment, Finding
from rushes.kubeflow.profile import Profile, read_profile

DEFAULT_SHARED_MEMORY = 1 << 30
"""Bytes of /dev/shm that loader workers need where the profile has no GPUs."""
_GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")  # on Linux, under Windows, AMD's


def check_gpu(environment: Environment) -> Finding:
    """The GPUs that torch sees, against those that the profile requests."""
    requested = environment.cluster.gpu.count
    # Looking for devices first saves importing torch, which takes seconds.
    if not any(next(environment.devices.glob(name), None) for name in _GPU_DEVICES):
        if not requested:
            return Finding(verdict="ok", found="none: training runs on CPUs")
        found = f"none here; the profile asks for {requested} per pod"
        remedy = "Expected on a laptop. In a training pod: check gpu.type, tolerations and the node's device plugin."
        return Finding(verdict="warning", found=found, remedy=remedy)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        found = f"the machine has one, but torch {torch.__version__} sees none"
        remedy = "Install torch's build for this driver, or update the driver (nvidia-smi)."
        return Finding(verdict="failed", found=found, remedy=remedy)
    found = f"{_gpus(torch, count)}, driver {_driver()}"
    if count < requested:
        remedy = "Request as many GPUs for the pod as the profile does, or lower gpu.count."
        return Finding(verdict="warning", found=f"{found}; the profile asks for {requested}", remedy=remedy)
    return Finding(verdict="ok", found=found)


def check_shared_memory(environment: Environment) -> Finding:
    """The size of /dev/shm, through which loader workers pass batches."""
    folder = environment.devices / "shm"
    if not folder.is_dir():
        remedy = "Set pretrain.workers and finetune.workers to 0 where there is none."
        return Finding(verdict="warning", found=f"{folder} does not exist", remedy=remedy)
    needed, size = _shared_memory(environment), shutil.disk_usage(folder).total
    found = f"{size / 2**30:.3g} GiB"
    if size >= 0.99 * needed:  # a memory volume may be a page smaller than requested
        return Finding(verdict="ok", found=found)
    remedy = "Mount a memory volume there (the compiled pipeline does), or set pretrain.workers to 0."
    return Finding(verdict="warning", found=f"{found}; {needed / 2**30:.3g} GiB are needed", remedy=remedy)


def check_profile(environment: Environment) -> Finding:
    """Reads the profile; in a pod, checks that the pod has what the profile gives it."""
    if not environment.profile:
        return Finding(verdict="ok", found="none given", remedy="To check a cluster's: --profile NAME or FILE.yaml.")
    profile = read_profile(environment.profile)
    secrets = ", ".join(one.name for one in profile.secrets) or "no secret"
    found = f"{profile.name}: ConfigMap {profile.settings.name}, {secrets}, {len(profile.volumes)} volumes"
    if environment.in_pod and (missing := _missing(profile)):
        remedy = "Create them in this namespace (deploy/kubernetes/pipelines), and compile with this profile."
        return Finding(verdict="failed", found=f"{found}; missing here: {', '.join(missing)}", remedy=remedy)
    return Finding(verdict="ok", found=found)


def _shared_memory(environment: Environment) -> float:
    """Bytes that training needs of it."""
    gpu = environment.cluster.gpu
    if not gpu.count:
        return DEFAULT_SHARED_MEMORY
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(gpu.shared_memory))


def _gpus(torch: Any, count: int) -> str:
    """Names and memory."""
    properties = [torch.cuda.get_device_properties(number) for number in range(count)]
    return ", ".join(f"{one.name} with {one.total_memory / 2**30:.0f} GiB" for one in properties)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return lines[0] if lines else "unknown"


def _missing(profile: Profile) -> list[str]:
    """Environment variables and writable volumes that a pod of this profile should have and this one lacks."""
    expected = [key for source in (profile.settings, *profile.secrets) for key in source.keys]
    variables = [f"variable {key}" for key in expected if key not in os.environ]
    folders = [folder for folder in profile.volumes.values() if not os.access(folder, os.W_OK | os.X_OK)]
    return variables + [f"writable {folder}" for folder in folders]
