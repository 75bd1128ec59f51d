"""The pod of each task on clusters that a profile describes: image, limits, secrets by reference, GPU nodes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kfp import dsl, kubernetes

from rushes.home import RENAMED
from rushes.kubeflow.profile import Keys, Profile, Resources
from rushes.orchestration.image import PLACEHOLDER
from rushes.steps import STEP_TRAITS, Needs

NEEDS: Mapping[str, Needs] = {step: traits.needs for step, traits in STEP_TRAITS.items()} | {
    "summary": "little",
    "plan": "time",
    "folds": "cores",
    "chain": "gpu",
    "comparison": "cores",
}
"""What the pod of each component needs: the steps say it themselves."""

_SHARED_MEMORY = "/dev/shm"  # noqa: S108


def placed(task: dsl.PipelineTask, profile: Profile) -> dsl.PipelineTask:
    """Sets a task's image, retries, limits, environment and volumes; returns the task."""
    needs = NEEDS[task.component_spec.name.replace("-", "_")]  # KFP spells names with dashes
    resources = _resources(needs, profile)
    trains = needs == "gpu"
    task.set_caching_options(False)
    task.set_container_image(_image(profile, gpu=trains and profile.gpu.count > 0))
    task.set_retry(
        profile.retry.count,
        backoff_duration=profile.retry.wait,
        backoff_factor=2.0,
        backoff_max_duration=f"{profile.retry.seconds_for_all(60 * resources.timeout_minutes)}s",
    )
    _limit(task, resources)
    kubernetes.set_security_context(task, run_as_user=profile.user, run_as_group=profile.user, run_as_non_root=True)
    if profile.pull_secret:
        kubernetes.set_image_pull_secrets(task, [profile.pull_secret])
    _set_environment(task, profile)
    for claim, folder in profile.volumes.items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=folder)
    for key, value in profile.labels.items():
        kubernetes.add_pod_label(task, key, value)
    if trains:
        _place_training(task, profile)
    return task


def _resources(needs: Needs, profile: Profile) -> Resources:
    resources: Mapping[Needs, Resources] = {
        "little": profile.light,
        "time": replace(profile.light, timeout_minutes=profile.cpu.timeout_minutes),
        "cores": profile.cpu,
        "gpu": profile.train,
    }
    return resources[needs]


def _limit(task: dsl.PipelineTask, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    kubernetes.set_timeout(task, seconds=60 * resources.timeout_minutes)


def _set_environment(task: dsl.PipelineTask, profile: Profile) -> None:
    """Settings and secrets by reference, and the run's ID, under which the steps write their journal."""
    kubernetes.use_field_path_as_env(task, "RUSHES_RUN", "metadata.labels['pipeline/runid']")
    _refer(kubernetes.use_config_map_as_env, task, profile.settings)
    for secret in profile.secrets:
        _refer(kubernetes.use_secret_as_env, task, secret)


def _refer(use: Callable[..., Any], task: dsl.PipelineTask, source: Keys) -> None:
    for keys, optional in ((source.keys, False), (source.optional, True)):
        if keys:
            use(task, source.name, {key: variable(key) for key in keys}, optional=optional)


def variable(key: str) -> str:
    """Name of a key in a pod's environment: not the object store's own names, which KFP's launcher would take too."""
    return f"{RENAMED}{key}" if key.startswith("AWS_") else key


def _place_training(task: dsl.PipelineTask, profile: Profile) -> None:
    gpu = profile.gpu
    kubernetes.empty_dir_mount(
        task, volume_name="shared-memory", mount_path=_SHARED_MEMORY, medium="Memory", size_limit=gpu.shared_memory
    )
    if not gpu.count:
        return
    task.set_accelerator_type(gpu.type)
    task.set_accelerator_limit(gpu.count)
    for toleration in gpu.tolerations:
        kubernetes.add_toleration(
            task, key=toleration.key, operator=toleration.operator, value=toleration.value, effect=toleration.effect
        )
    for key, value in gpu.node_selector.items():
        kubernetes.add_node_selector(task, key, value)


def _image(profile: Profile, *, gpu: bool) -> str:
    name = profile.gpu_image if gpu and profile.gpu_image else profile.image
    return name if "@sha256:" in name else f"{name}:{PLACEHOLDER}"
