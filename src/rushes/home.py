"""Paths on this machine: one folder for servers, runs and, by default, the store.

RUSHES_HOME       the folder; default ./.rushes
RUSHES_STORE      the store's URL; default <home>/store
RUSHES_CACHE      objects fetched from a remote store; default <home>/cache
RUSHES_CACHE_GB   limit of the cache in GB (10^9 bytes); by default, 15 % of the disk stay free. Set it where the disk
                  is shared, or where a pod's volume has a size limit of its own
RUSHES_AWS_...    in a pipeline's pods: AWS_... of the object store
"""

import math
import os
from pathlib import Path

from rushes.errors import UserError
from rushes.store import Store

RENAMED = "RUSHES_"
"""Before the names of the object store's settings in a pipeline's pods."""


def home_folder() -> Path:
    """The absolute path of RUSHES_HOME; it need not exist."""
    return Path(os.environ.get("RUSHES_HOME") or ".rushes").absolute()


def user_cache() -> Path:
    """XDG_CACHE_HOME, or `.cache` in the user's home: for what all projects of a user share.

    Raises:
        UserError: neither is known.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named).absolute()
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and a user without an entry in passwd
        raise UserError(
            f"HOME: not set, and user {os.getuid()} has no entry in passwd: set HOME to a folder that it may write to"
        ) from error


def take_store_settings() -> None:
    """Makes each RUSHES_AWS_... of the environment AWS_... for this process and those that it starts.

    A pipeline's pod shares its environment with the launcher of Kubeflow Pipelines, which takes AWS_ACCESS_KEY_ID or
    AWS_ENDPOINT_URL for the store of its own artifacts. So the pods have ours under names that it does not know.
    """
    for name, value in list(os.environ.items()):
        if name.startswith(f"{RENAMED}AWS_"):
            os.environ[name.removeprefix(RENAMED)] = value


def open_store() -> Store:
    """The store that RUSHES_STORE names."""
    take_store_settings()
    home = home_folder()
    url = os.environ.get("RUSHES_STORE") or str(home / "store")
    return Store(url, cache=Path(os.environ.get("RUSHES_CACHE") or home / "cache"), cache_bytes=_cache_bytes())


def _cache_bytes() -> int | None:
    text = os.environ.get("RUSHES_CACHE_GB")
    if not text:
        return None
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise UserError(f"RUSHES_CACHE_GB: {text!r} is not allowed; a number of GB, such as 200")
    return round(size * 1e9)
