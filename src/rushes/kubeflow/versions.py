"""Which versions of Kubeflow Pipelines' server are supported: from 2.16 on; what is lost before; none before 2.14."""

import re

from rushes.errors import ServiceError

OLDEST, SUPPORTED, LOOKED_AT = (2, 14), (2, 16), (2, 17)
"""The oldest version that takes our runs, the oldest without losses, and the newest whose sources were read."""
_LOST = (
    "what is compiled says nothing about the pods' user there, so that the image's own counts; a changed schedule ends "
    "the runs that it has started"
)
_LOST_BEFORE_2_15 = "settings of the profile that may be missing have to be there"


def check_version(version: str) -> list[str]:
    """What a server of this version does not do of what a run or a schedule needs, a sentence each; nothing if all.

    Args:
        version: as the server's healthz gives it.

    Raises:
        ServiceError: it refuses our runs.
    """
    found = release(version)
    if found is None:
        return [f"the server does not say its version ({version!r}): supported from {_text(SUPPORTED)}"]
    if found < OLDEST:
        raise ServiceError(
            f"Kubeflow Pipelines {version} refuses our runs, since it knows no final status of tasks: upgrade it to "
            f"{_text(SUPPORTED)} or later"
        )
    if found >= SUPPORTED:
        return []
    lost = _LOST if found >= (2, 15) else f"{_LOST}; {_LOST_BEFORE_2_15}"
    return [f"Kubeflow Pipelines {version} is older than {_text(SUPPORTED)}: {lost}"]


def is_newer(version: str) -> bool:
    """Whether its sources were not yet read."""
    found = release(version)
    return found is not None and found > LOOKED_AT


def retried_by_default(version: str) -> str:
    """The retry policy of Argo that the server's own installation sets."""
    found = release(version)
    return "OnError" if found is not None and found >= (2, 17) else "OnFailure"


def release(version: str) -> tuple[int, int] | None:
    """Major and minor version; None for a text that is no version."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


def _text(found: tuple[int, int]) -> str:
    return ".".join(map(str, found))
