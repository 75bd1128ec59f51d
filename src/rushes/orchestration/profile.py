"""A profile: what a cluster is like, so that no code has to know. `pipelines/profiles/` holds the ones that come along.

    image: rushes/python                     # our tag is added; or NAME@sha256:..., as a registry gives it
    settings: {name: rushes-settings, keys: [RUSHES_STORE, MLFLOW_TRACKING_URI]}    # a ConfigMap
    secrets: [{name: rushes-store, keys: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]}]
    volumes: {rushes-cache: /cache}          # claims, and where they are mounted
    gpu: {count: 1, tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]}

Secrets are named, never written down. Every field has a default: an empty file is a profile.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from rushes.config import build
from rushes.errors import UserError
from rushes.orchestration.resources import bundled

DEFAULT = "gpu"
"""Profile of the committed compilation."""
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(m|[KMGT]i?)?")
_DURATION = re.compile(r"[1-9][0-9]*s")


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A ConfigMap or Secret; each key becomes an environment variable of that name."""

    name: str
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Keys that need not be there."""


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint of the GPU nodes that a pod may go to in spite of."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a pod asks for, which is also what it gets at most."""

    cpu: str = "1"
    memory: str = "2Gi"
    timeout_minutes: int = 60

    def __post_init__(self) -> None:
        _require(_QUANTITY, self.cpu, "cpu", "cores, such as 4 or 500m")
        _require(_QUANTITY, self.memory, "memory", "a quantity such as 16Gi")
        if self.timeout_minutes < 1:
            raise UserError(f"timeout_minutes: {self.timeout_minutes!r} is not allowed; 1 or more")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Where training goes."""

    count: int = 1
    """GPUs a pod; 0: no GPU nodes, training on CPUs."""
    type: str = "nvidia.com/gpu"
    """The resource's name."""
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes, such as nvidia.com/gpu.product."""
    shared_memory: str = "8Gi"
    """Of /dev/shm, through which loader workers hand over batches; counts as the pod's memory."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UserError(f"gpu: count: {self.count!r} is not allowed; 0 or more")
        _require(_QUANTITY, self.shared_memory, "gpu: shared_memory", "a quantity such as 8Gi")


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a failed task is tried again. It goes on where it stopped: the store has its checkpoint."""

    count: int = 2
    wait: str = "60s"
    """Before the first time; twice as long before each further one."""
    longest: str = "600s"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"retry: count: {self.count!r} is not allowed; 1 or more, since nodes come and go")
        for name in ("wait", "longest"):
            _require(_DURATION, getattr(self, name), f"retry: {name}", "seconds, such as 60s")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Settings of a cluster."""

    name: str = ""
    """The file's name."""
    host: str = ""
    """URL of Kubeflow Pipelines; empty: KF_PIPELINES_ENDPOINT, or the cluster that a pod runs in."""
    experiment: str = "rushes"
    """Where its runs appear."""
    image: str = "rushes/python"
    """Of all steps. Without tag or digest, the one that `make image` gives this code."""
    gpu_image: str = ""
    """Of the steps that train on GPUs; empty: the same, which holds CUDA unless it was built without."""
    pull_secret: str = ""
    """Name of the Secret that opens the registry."""
    settings: Keys = Keys(name="rushes-settings", keys=("RUSHES_STORE", "MLFLOW_TRACKING_URI"))
    secrets: tuple[Keys, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of claims, and the folders they are mounted at."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of every pod."""
    user: int = 10001
    """UID and GID of every pod."""
    partitions: int = 1
    """Pods that sample at the same time, where a run does not say how many."""
    parallel: int = 4
    """Models, or a comparison's chains, that train at the same time."""
    retry: Retry = field(default_factory=Retry)
    light: Resources = field(default_factory=Resources)
    """pin, choose, register, deploy, summary; plan."""
    cpu: Resources = field(default_factory=lambda: Resources(cpu="4", memory="8Gi", timeout_minutes=24 * 60))
    """sample, export, promote; folds, comparison."""
    train: Resources = field(default_factory=lambda: Resources(cpu="8", memory="32Gi", timeout_minutes=7 * 24 * 60))
    """pretrain, finetune, evaluate; chain."""
    gpu: Gpu = field(default_factory=Gpu)

    def __post_init__(self) -> None:
        _check_image(self.image, "image")
        if self.gpu_image:
            _check_image(self.gpu_image, "gpu_image")
        if self.user < 1:
            raise UserError(f"user: {self.user!r} is not allowed; the UID of somebody who is not root")
        for name in ("partitions", "parallel"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)!r} is not allowed; 1 or more")
        for claim, folder in self.volumes.items():
            if not isinstance(folder, str) or not folder.startswith("/"):
                raise UserError(f"volumes: {claim}: {folder!r} is not allowed; a whole path to mount it at")


def read_profile(profile: str) -> Profile:
    """Reads the profile of this name, or the file.

    Raises:
        UserError: there is none, or something in it is wrong; the message names file and field.
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else bundled("profiles") / f"{profile}.yaml"
    try:
        record = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in bundled("profiles").glob("*.yaml")))
        raise UserError(f"profile: {profile!r} cannot be read ({error.strerror}): {known}, or a file.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"profile: {profile!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict):
        raise UserError(f"profile: {profile!r} holds {type(record).__name__}, not fields")
    try:
        return build(Profile, {"name": path.stem, **record}, f"profile {path.name}")
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith("profile ") else f"profile {path.name}: {text}") from error


def _check_image(image: str, name: str) -> None:
    """Refuses a tag that may mean something else tomorrow."""
    last = image.rsplit("/", 1)[-1]
    if not image or (":" in last and not _DIGEST.fullmatch(image)):
        raise UserError(
            f"{name}: {image!r} is not allowed, since a tag can be moved: a name alone, which gets this code's own "
            "tag, or NAME@sha256:<64 hex characters>"
        )


def _require(pattern: re.Pattern[str], value: str, name: str, allowed: str) -> None:
    if not pattern.fullmatch(value):
        raise UserError(f"{name}: {value!r} is not allowed; {allowed}")
