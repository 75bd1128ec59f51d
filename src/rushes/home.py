"""Where things are on this machine: one folder for servers, runs and, unless told otherwise, the store.

RUSHES_HOME    the folder; default ./.rushes
RUSHES_STORE   the store's URL; default <home>/store
RUSHES_CACHE   objects fetched from a remote store; default <home>/cache
"""

import os
from pathlib import Path

from rushes.store import Store


def home_folder() -> Path:
    """The absolute path of RUSHES_HOME; it need not exist."""
    return Path(os.environ.get("RUSHES_HOME") or ".rushes").absolute()


def open_store() -> Store:
    """The store that RUSHES_STORE names."""
    home = home_folder()
    url = os.environ.get("RUSHES_STORE") or str(home / "store")
    return Store(url, cache=Path(os.environ.get("RUSHES_CACHE") or home / "cache"))
