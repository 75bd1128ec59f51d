"""The unfinished run in the store: saved by time, beside training, and by request before a run ends."""

import hashlib
import io
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from rushes.progress import NullProgress, Progress
from rushes.store import Store

State = dict[str, Any]


class Checkpoints:
    """The last states of a run, under `checkpoints/<digest>/` of the store."""

    def __init__(self, store: Store, digest: str, *, keep: int = 2) -> None:
        self.store, self.folder, self.keep = store, f"checkpoints/{digest}", keep

    def save(self, step: int, state: State) -> None:
        """Writes a state, then forgets all but the newest `keep`."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        # Torch reads altered bytes without an error: the digest in front detects them.
        self.store.write(f"{self.folder}/step-{step:09d}.pt", hashlib.sha256(data).digest() + data)
        for name in self.store.names(self.folder)[: -self.keep]:
            self.store.remove(f"{self.folder}/{name}")

    def load(self, progress: Progress | None = None) -> State | None:
        """Returns the newest state that is whole, or None; `progress` hears of those that are damaged."""
        for name in reversed(self.store.names(self.folder)):
            content = self.store.read(f"{self.folder}/{name}") or b""
            digest, data = content[:32], content[32:]
            if hashlib.sha256(data).digest() == digest:
                state: State = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
                return state
            (progress or NullProgress()).say(f"{self.folder}/{name} is damaged: going on from the checkpoint before it")
        return None


class Saver:
    """Saves a run by time: training stands still while a state is copied, and goes on while the copy is written.

    Leaving it waits for a write in progress, so that nothing is written after a run has ended.

    Args:
        checkpoints: where to.
        seconds: between two states; 0 saves after every step, and waits for it.
    """

    def __init__(self, checkpoints: Checkpoints, *, seconds: float) -> None:
        self.checkpoints, self.seconds = checkpoints, seconds
        self._offered = -1
        self._due = time.monotonic() + seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.shutdown()

    def offer(self, step: int, state: Callable[[], State]) -> None:
        """Saves where it is time to.

        Raises:
            OSError: the state before could not be written.
        """
        if step == self._offered:
            return
        self._offered = step
        if not self.seconds:
            self.save(step, state())
        elif time.monotonic() >= self._due and (self._written is None or self._written.done()):
            if self._written is not None:
                self._written.result()
            self._written = self._writer.submit(self.checkpoints.save, step, copied(state()))
            self._due = time.monotonic() + self.seconds

    def save(self, step: int, state: State) -> None:
        """Saves, after a write in progress; returns once it is written."""
        self._writer.submit(self.checkpoints.save, step, state).result()


def copied(value: Any) -> Any:
    """The same plain data with tensors of its own, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
