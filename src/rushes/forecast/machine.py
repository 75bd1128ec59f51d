"""The machine that a forecast is for: a cluster's profile, or this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rushes.kubeflow.profile import Profile

PEAKS: Mapping[str, float] = {
    "H200": 494e12,
    "H100": 494e12,
    "L40S": 183e12,
    "A100": 156e12,
    "A30": 82e12,
    "A10": 62e12,
    "L4": 60e12,
    "V100": 15.7e12,
    "T4": 8.1e12,
}
"""Dense FLOP/s of convolutions with torch's defaults (TF32 if there is any), by a part of the GPU's name."""
_ASSUMED = "A100"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The cores and GPUs that the steps run on."""

    sampling: float
    """Cores, of all pods together."""
    training: float
    """Cores of a training pod."""
    gpus: int
    gpu: str
    """Part of a GPU's name, a key of `PEAKS`."""
    here: bool
    """Whether training can be measured: its device is in this machine."""
    says: str
    """All this in words."""

    @classmethod
    def of(cls, profile: Profile | None) -> "Machine":
        """The pods of a cluster's profile, or this machine without a profile."""
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if profile is None:
            cores = float(os.cpu_count() or 1)
            gpu = _known(torch.cuda.get_device_name()) if found else ""
            says = f"this machine: {cores:g} cores, {found or 'no'} GPU"
            return cls(sampling=cores, training=cores, gpus=min(found, 1), gpu=gpu, here=True, says=says)
        pod, gpus = _cores(profile.cpu.cpu), profile.gpu.count
        gpu = _known(" ".join(profile.gpu.node_selector.values()))
        pods = profile.partitions
        sampling = f"1 pod of {pod:g} cores that samples" if pods == 1 else f"{pods} pods of {pod:g} cores that sample"
        named = f"{gpus} {gpu or f'GPU (assumed: {_ASSUMED})'} per training pod" if gpus else "no GPUs"
        return cls(
            sampling=pod * pods,
            training=_cores(profile.train.cpu),
            gpus=gpus,
            gpu=gpu or _ASSUMED,
            here=not gpus or bool(found),
            says=f"profile {profile.name}: {sampling}, {named}",
        )


def _cores(quantity: str) -> float:
    """Kubernetes' `500m` is 0.5 cores."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(quantity))


def _known(name: str) -> str:
    return next((part for part in PEAKS if part in name.upper()), "")
