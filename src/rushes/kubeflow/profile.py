"""A profile describes a cluster, so that no code has to know it. `pipelines/profiles/` has two to begin with.

    image: rushes/python                     # this code's tag is added; or NAME@sha256:..., from a registry
    settings: {name: rushes-settings, keys: [RUSHES_STORE, MLFLOW_TRACKING_URI]}    # a ConfigMap
    secrets: [{name: rushes-store, keys: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]}]
    volumes: {rushes-cache: /cache}          # names of claims, and their mount paths
    gpu: {count: 1, tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]}

Secrets are named, never written down. Every field has a default: an empty file is a profile.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rushes.errors import UserError
from rushes.resources import bundled
from rushes.strict import build, parse_yaml

DEFAULT = "gpu"
"""Profile of the committed compilation."""
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_CPU = re.compile(r"(?=.*[1-9])([0-9]{1,9}(\.[0-9]{1,3})?|[0-9]{1,9}m)")
"""What both kfp and Kubernetes take: no finer than a thousandth."""
_MEMORY = re.compile(r"[1-9][0-9]{0,14}([MGT]|[KMGT]i)?")
"""What both take: kfp no fractions, and Kubernetes no K."""
_SIZE = re.compile(r"[1-9][0-9]{0,14}(\.[0-9]{1,3})?([MGT]|[KMGT]i)?")
"""Of a volume, which kfp passes on as it is."""
_DURATION = re.compile(r"[1-9][0-9]{0,8}s")
_FOLDER = re.compile(r"/[^/:][^:]*")
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL}")
_VALUE = re.compile(rf"({_LABEL})?")
_LABELLING = "up to 63 letters, digits, -, _ and ., no sign at either end"
_MOST = 2**31 - 1
"""What Kubernetes and kfp take where they take a number."""
_OF_KUBEFLOW = (
    *("/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/kfp-launcher", "/var/run/argo"),
    "/tmp",  # noqa: S108
)
"""Where its launcher and Argo mount volumes: a pod with two volumes at one path is refused."""
_LONGEST = 2**63 // 10**9
"""Seconds in Go's longest duration."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A ConfigMap or Secret; each key becomes an environment variable of that name, AWS_... RUSHES_AWS_..."""

    name: str
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Keys that may be missing."""


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint of the GPU nodes that a training pod tolerates."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"

    def __post_init__(self) -> None:
        if self.operator == "Exists" and self.value:
            raise UserError(
                f"gpu: tolerations: value: {self.value!r} is not allowed with operator Exists, which takes any: leave "
                "it out, or write operator: Equal"
            )
        if self.key or self.operator == "Equal":  # no key, and Exists: all taints
            _require(_KEY, self.key, "gpu: tolerations: key", "a taint's key, such as nvidia.com/gpu")
        _require(_VALUE, self.value or "", "gpu: tolerations: value", _LABELLING)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Requests of a pod, which are its limits too."""

    cpu: str = "1"
    memory: str = "2Gi"
    timeout_minutes: int = 60

    def __post_init__(self) -> None:
        _require(_CPU, self.cpu, "cpu", "cores, such as 4, 0.5 or 500m")
        _require(_MEMORY, self.memory, "memory", "a whole number and a unit, such as 16Gi or 512Mi")
        _require_in(self.timeout_minutes, "timeout_minutes", 1, _MOST // 60)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """GPU nodes, for training."""

    count: int = 1
    """GPUs per pod; 0: no GPU nodes, training on CPUs."""
    type: str = "nvidia.com/gpu"
    """The resource's name."""
    tolerations: tuple[Toleration, ...] = field(default_factory=lambda: (Toleration(key="nvidia.com/gpu"),))
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes, such as nvidia.com/gpu.product."""
    shared_memory: str = "8Gi"
    """Size of /dev/shm, through which loader workers pass batches; counts as the pod's memory."""

    def __post_init__(self) -> None:
        _require_in(self.count, "gpu: count", 0, _MOST)
        _check_labels(self.node_selector, "gpu: node_selector")
        _require(_SIZE, self.shared_memory, "gpu: shared_memory", "a quantity such as 8Gi")


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Retries of a failed task. It resumes from its checkpoint, which is in the store.

    Which failures are tried again is a setting of the server (docs/runbook.md).
    """

    count: int = 2
    """Attempts after the first."""
    wait: str = "60s"
    """Before the first retry; twice as long before each further one."""
    pending_minutes: int = 24 * 60
    """How long each attempt may wait for a node. Longer waits take time from later attempts, which Argo ends when the
    time of all of them together is over."""

    def __post_init__(self) -> None:
        _require_in(self.count, "retry: count", 1, 30, "since nodes may go away, ")
        _require(_DURATION, self.wait, "retry: wait", "seconds, such as 60s, of at most nine digits")
        _require_in(self.pending_minutes, "retry: pending_minutes", 1, _MOST // 60)

    def seconds_for_all(self, timeout: int) -> int:
        """Seconds from the first attempt's creation in which all attempts fit, each with its whole timeout.

        Argo (`backoff.maxDuration`) starts no attempt later than that, and ends a later attempt at that moment.

        Args:
            timeout: seconds that one attempt may run.
        """
        waits = int(self.wait.removesuffix("s")) * ((1 << self.count) - 1)
        return (self.count + 1) * (timeout + 60 * self.pending_minutes) + waits


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Settings of a cluster."""

    name: str = ""
    """The file's name."""
    host: str = ""
    """URL of Kubeflow Pipelines; empty: KF_PIPELINES_ENDPOINT, or the cluster that a pod runs in."""
    experiment: str = "rushes"
    """Under which its runs appear."""
    image: str = "rushes/python"
    """Of all steps; without a digest, it gets the tag that `make image` gives this code."""
    gpu_image: str = ""
    """Of the steps that train on GPUs; empty: `image`, which has CUDA unless it was built without."""
    pull_secret: str = ""
    """Name of the Secret with the registry's credentials; empty: none."""
    settings: Keys = Keys(name="rushes-settings", keys=("RUSHES_STORE", "MLFLOW_TRACKING_URI"))
    secrets: tuple[Keys, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of claims, and their mount paths."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of every pod."""
    user: int = 10001
    """UID and GID of every pod."""
    partitions: int = 1
    """Pods that sample at the same time, unless a run gives another number."""
    parallel: int = 4
    """Models, or a comparison's chains, that train at the same time."""
    retry: Retry = field(default_factory=Retry)
    light: Resources = field(default_factory=Resources)
    """Of components that need little; `pin` and `plan` may run for as long as `cpu` says (`rushes.steps`)."""
    cpu: Resources = field(default_factory=lambda: Resources(cpu="4", memory="8Gi", timeout_minutes=24 * 60))
    """Of components that need many cores, such as `sample`."""
    train: Resources = field(default_factory=lambda: Resources(cpu="8", memory="32Gi", timeout_minutes=7 * 24 * 60))
    """Of components that need a GPU, such as `pretrain`."""
    gpu: Gpu = field(default_factory=Gpu)

    def __post_init__(self) -> None:
        _check_image(self.image, "image")
        if self.gpu_image:
            _check_image(self.gpu_image, "gpu_image")
        _require_in(self.user, "user", 1, _MOST, "the UID of somebody who is not root, ")
        for name in ("partitions", "parallel"):
            _require_in(getattr(self, name), name, 1, _MOST)
        for name in ("light", "cpu", "train"):
            _check_total(self.retry, getattr(self, name), name)
        _check_volumes(self.volumes)
        _check_labels(self.labels, "labels")


def read_profile(profile: str) -> Profile:
    """Reads the profile of this name, or the file.

    Raises:
        UserError: there is none, or something in it is wrong; the message names file and field.
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else bundled("pipelines/profiles") / f"{profile}.yaml"
    try:
        content = path.read_bytes()
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in bundled("pipelines/profiles").glob("*.yaml")))
        raise UserError(f"profile: {profile!r} cannot be read ({error.strerror}): {known}, or a file.yaml") from error
    record = parse_yaml(content, f"profile: {profile!r}")
    if not isinstance(record, dict | None):
        raise UserError(f"profile: {profile!r} holds {type(record).__name__}, not fields")
    try:
        return build(Profile, {"name": path.stem, **(record or {})}, f"profile {path.name}")
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith("profile ") else f"profile {path.name}: {text}") from error


def _check_image(image: str, name: str) -> None:
    """Refuses a tag that may later name another image."""
    last = image.rsplit("/", 1)[-1]
    if not image or (":" in last and not _DIGEST.fullmatch(image)):
        raise UserError(
            f"{name}: {image!r} is not allowed, since a tag can be moved: a name alone, which gets this code's own "
            "tag, or NAME@sha256:<64 hex characters>"
        )


def _check_total(retry: Retry, resources: Resources, name: str) -> None:
    """Refuses attempts that together take longer than Argo can count."""
    total = retry.seconds_for_all(60 * resources.timeout_minutes)
    if total > _LONGEST:
        raise UserError(
            f"retry: count, wait and pending_minutes, with {name}: timeout_minutes, make {total} s for all attempts; "
            f"at most {_LONGEST}"
        )


def _check_volumes(volumes: Mapping[str, str]) -> None:
    """Refuses a mount path that is not absolute, or that is used twice."""
    taken = dict.fromkeys(_OF_KUBEFLOW, "a volume of Kubeflow Pipelines' own")
    taken[_SHARED_MEMORY] = "training's shared memory"
    for claim, folder in volumes.items():
        if not isinstance(folder, str) or not _FOLDER.fullmatch(folder):
            raise UserError(f"volumes: {claim}: {folder!r} is not allowed; a whole path to mount it at, no colon in it")
        path = posixpath.normpath(folder)
        if path in taken:
            raise UserError(f"volumes: {claim}: {folder!r} is not allowed; it is where {taken[path]} is mounted")
        taken[path] = claim


def _check_labels(labels: Mapping[str, str], name: str) -> None:
    """Refuses labels that Kubernetes would not accept."""
    for key, value in labels.items():
        _require(_KEY, key, name, "a label's name, such as team or example.com/team")
        if not isinstance(value, str):
            raise UserError(f"{name}: {key}: {value!r} is not allowed; text: write it in quotes")
        _require(_VALUE, value, f"{name}: {key}", _LABELLING)


def _require_in(value: int, name: str, least: int, most: int, why: str = "") -> None:
    if not least <= value <= most:
        raise UserError(f"{name}: {value!r} is not allowed; {why}{least} to {most}")


def _require(pattern: re.Pattern[str], value: str, name: str, allowed: str) -> None:
    if not pattern.fullmatch(value):
        raise UserError(f"{name}: {value!r} is not allowed; {allowed}")
