"""Does this machine, or this pod, have all that a run needs? `rushes doctor` shows the findings of these checks.

environment = Environment(profile="gpu")
findings = {name: examine(check, environment) for name, check in CHECKS.items()}
"""

from collections.abc import Mapping
from functools import partial

from rushes.doctor.findings import Check
from rushes.doctor.installed import check_git, check_package, check_python, check_video
from rushes.doctor.machine import check_gpu, check_profile, check_shared_memory
from rushes.doctor.servers import check_kubeflow, check_mlflow, check_retries
from rushes.doctor.storage import check_cache, check_store
from rushes.doctor.triton import check_triton

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
    "retries": check_retries,
    "triton": check_triton,
    "profile": check_profile,
    "gpu": check_gpu,
    "shared memory": check_shared_memory,
}
"""In the order in which they are shown."""
