"""Batches of training data from worker processes, whose errors and deaths are said in one line."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from rushes.errors import RushesError
from rushes.temporary import make_room_for_sockets
from rushes.training.data import Position

_LAST_SECONDS = 15
"""That a worker may live once it is told to end, where nothing ends it."""


def load(
    data: Dataset[tuple[Tensor, int]], batches: Iterable[list[Position]], *, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of clips and labels, decoded by `workers` processes, or by this one where it is 0.

    Raises:
        RushesError: a position could not be read.
    """
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsItems(data),
        collate_fn=_collate,
        batch_sampler=batches,  # positions are (epoch, number), not integers
        num_workers=workers,
        persistent_workers=False,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_prepare_worker,
    )
    for batch in loader:
        if isinstance(batch, RushesError):
            raise batch
        yield batch


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    make_room_for_sockets()
    # A signal to all processes of the run is the training process's to obey; it ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: FrameType | None) -> None:
    signal.alarm(_LAST_SECONDS)


class _ErrorsAsItems(Dataset[tuple[Tensor, int] | RushesError]):
    """A dataset that returns our errors as items: raised in a worker, torch would bury them in a traceback."""

    def __init__(self, data: Dataset[tuple[Tensor, int]]) -> None:
        self.data = data

    def __getitem__(self, position: Position) -> tuple[Tensor, int] | RushesError:
        try:
            return self.data[position]
        except RushesError as error:
            return error


def _collate(items: list[tuple[Tensor, int] | RushesError]) -> Any:
    errors = [item for item in items if isinstance(item, RushesError)]
    return errors[0] if errors else default_collate(items)
