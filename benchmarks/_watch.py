"""Something that looks on in a thread of its own while something else happens."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol, TypeVar

W = TypeVar("W", bound="Watcher")


class Watcher(Protocol):
    """Looks until it is over."""

    over: threading.Event

    def run(self) -> None:
        """Looks until `over` is set."""


@contextlib.contextmanager
def watching(watch: W) -> Iterator[W]:
    """Runs it meanwhile."""
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.over.set()
        thread.join()
