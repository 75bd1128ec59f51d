"""The rules of every compiled pipeline, whatever its profile: checked when it is compiled, and by a test.

- every task: a timeout, retries that each have all of it, no root, an image that cannot be moved, limits, no KFP cache
- every task that requests GPUs: their number, a toleration, /dev/shm in memory
- secrets by reference: nothing that looks like one in the environment or the arguments
- the object store's settings under other names than those that KFP's launcher, in the same pod, takes for its own store

That no image can be moved is checked again whenever a compiled file is read to be submitted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rushes.kubeflow.profile import Profile

Json = Any
_IMMUTABLE = re.compile(r"[^:@]+(?::\d+/[^:@]+)?(:[0-9][\w.]*-[0-9a-f]{12}|@sha256:[0-9a-f]{64})")
"""By the registry's digest, or by our tag, which holds a digest of the code."""
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|ACCESS_KEY|PRIVATE|API_KEY|_KEY$", re.IGNORECASE)


def violations(documents: Sequence[Mapping[str, Json]]) -> list[str]:
    """The rules that a compiled pipeline breaks: one line per rule, with the tasks that break it.

    Args:
        documents: the compiled file's YAML documents: the pipeline, and the platforms' settings.
    """
    spec = documents[0]
    platforms = documents[1]["platforms"] if len(documents) > 1 else {}
    settings = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    names, found = [], dict[str, list[str]]()
    for name, task, executor in _tasks(spec):
        container = spec["deploymentSpec"]["executors"][executor]["container"]
        own = settings.get(executor, {})
        names.append(name)
        for line in (*_of_any(task, container, own), *_of_gpu(container, own), *_of_secrets(task, container, own)):
            found.setdefault(line, []).append(name)
    return [f"{'every task' if broken == names else ', '.join(broken)}: {line}" for line, broken in found.items()]


def shared_with_launcher(profile: Profile) -> str:
    """A sentence about keys that KFP's launcher, in the same pod, may take for its own store; empty without any."""
    keys = [key for source in (profile.settings, *profile.secrets) for key in (*source.keys, *source.optional)]
    shared = [key for key in keys if key.startswith(("GOOGLE_", "AZURE_"))]
    if not shared:
        return ""
    return (
        f"profile {profile.name}: KFP's launcher, in the same pod, reads {', '.join(shared)} too: leave that out if "
        "Kubeflow's own artifacts are on such a store"
    )


def movable_images(spec: Mapping[str, Json]) -> list[str]:
    """The compiled pipeline's images whose name may later stand for another image."""
    executors = spec.get("deploymentSpec", {}).get("executors", {}).values()
    images = {executor["container"]["image"] for executor in executors if "container" in executor}
    return sorted(image for image in images if not _IMMUTABLE.fullmatch(image))


def _tasks(spec: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json], str]]:
    """Name, record and executor of each task that runs a container."""
    for component in (spec["root"], *spec["components"].values()):
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            executor = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if executor:
                yield name, task, executor


def _of_any(task: Mapping[str, Json], container: Mapping[str, Json], own: Mapping[str, Json]) -> Iterator[str]:
    retry = task.get("retryPolicy", {})
    if retry.get("maxRetryCount", 0) < 1 or "backoffDuration" not in retry:
        yield "is not tried again: profile retry"
    timeout = int(own.get("activeDeadlineSeconds", 0))
    if timeout < 1:
        yield "has no timeout: profile timeout_minutes"
    elif retry and (given := _seconds(retry, "backoffMaxDuration")) < (needed := _needed(retry, timeout)):
        yield f"has {given} s for all attempts, which need {needed} s, the first one included: profile retry"
    security = own.get("securityContext", {})
    if not security.get("runAsNonRoot") or int(security.get("runAsUser", 0)) < 1:
        yield "may run as root: profile user"
    if not _IMMUTABLE.fullmatch(container["image"]):
        yield f"image {container['image']!r} can be moved: NAME@sha256:..."
    resources = container.get("resources", {})
    for name in ("resourceCpuLimit", "resourceMemoryLimit", "resourceCpuRequest", "resourceMemoryRequest"):
        if not resources.get(name):
            yield f"{name} is missing: profile cpu and memory"
    if task.get("cachingOptions", {}).get("enableCache"):
        yield "is cached by KFP, whose key leaves out the code: set_caching_options(False)"


def _needed(retry: Mapping[str, Json], timeout: int) -> int:
    """Seconds that all attempts take, each with its whole timeout, and the waits between them."""
    count, factor = int(retry.get("maxRetryCount", 0)), int(retry.get("backoffFactor", 2))
    wait = _seconds(retry, "backoffDuration")
    return (count + 1) * timeout + sum(wait * int(factor**number) for number in range(count))


def _seconds(retry: Mapping[str, Json], name: str) -> int:
    return int(float(retry.get(name, "0s").removesuffix("s")))


def _of_gpu(container: Mapping[str, Json], own: Mapping[str, Json]) -> Iterator[str]:
    accelerator = container.get("resources", {}).get("accelerator")
    if accelerator is None:
        return
    if not accelerator.get("resourceType") or int(accelerator.get("resourceCount", 0)) < 1:
        yield "asks for a GPU without a type or a number: profile gpu"
    if not own.get("tolerations"):
        yield "asks for a GPU without a toleration, so that no GPU node takes it: profile gpu.tolerations"
    mounts = own.get("emptyDirMounts", [])
    if not any(mount.get("mountPath") == "/dev/shm" and mount.get("medium") == "Memory" for mount in mounts):  # noqa: S108
        yield "asks for a GPU without /dev/shm, through which loader workers pass batches: profile gpu.shared_memory"


def _of_secrets(task: Mapping[str, Json], container: Mapping[str, Json], own: Mapping[str, Json]) -> Iterator[str]:
    for variable in container.get("env", []):
        if _SECRET.search(variable["name"]):
            yield f"holds {variable['name']} in its environment: profile secrets"
    for source in (*own.get("secretAsEnv", []), *own.get("configMapAsEnv", [])):
        for key in source.get("keyToEnv", []):
            if key["envVar"].startswith("AWS_"):
                yield f"takes {key['envVar']}, which KFP's launcher would use for its own store: RUSHES_{key['envVar']}"
    for source in own.get("configMapAsEnv", []):
        for key in source.get("keyToEnv", []):
            if _SECRET.search(key["envVar"]):
                yield f"takes {key['envVar']} from a ConfigMap: profile secrets"
    for name, value in task.get("inputs", {}).get("parameters", {}).items():
        if _SECRET.search(name) and "runtimeValue" in value:
            yield f"is given {name} as an argument: profile secrets"
