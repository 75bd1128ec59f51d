"""How large a run's Argo workflow becomes: Argo keeps it in one object of Kubernetes, and ends a run that outgrows it.

Each task is several nodes, and each of them repeats the pod's settings with the task's arguments, recipes among them.
The figures are an estimate for KFP 2.17, whose nodes are twice as many as before, from the compiled texts packed as
Argo packs them (tests/kubeflow/packer.py); they were not measured on a cluster.
"""

LIMIT = 1 << 20
"""Bytes of a workflow, compressed: Argo's own limit, below that of Kubernetes."""
_TASK, _RECIPE = 5100, 1100
"""Bytes of a task, and of each recipe among its arguments."""
_OTHERS = 15
"""Tasks outside of loops."""


def size_warning(*, partitions: int, models: int, chains: int = 0) -> str:
    """A sentence about a run whose workflow will be too large, or nearly; empty for others.

    Args:
        partitions: pods that sample.
        models: recipes among the arguments.
        chains: of a comparison; without any, each model is pretrained and fine-tuned by two tasks.
    """
    trained = chains * _TASK if chains else 2 * models * (_TASK + _RECIPE)
    size = (_OTHERS + partitions) * (_TASK + models * _RECIPE) + trained
    if size < 0.8 * LIMIT:
        return ""
    what = f"{partitions} partitions, {models} models" + (f" and {chains} chains" if chains else "")
    return (
        f"{what} make a workflow of about {size / LIMIT:.1f} MB, and Argo ends a run at 1 MB unless it offloads nodes: "
        "take fewer partitions, or fewer models at a time"
    )
