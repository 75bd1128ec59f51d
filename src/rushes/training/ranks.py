"""Several processes that train one network together, each on its share of every batch (torch.distributed)."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rushes.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together; by default it is alone, and everything here does nothing."""

    number: int = 0
    count: int = 1
    local: int = 0
    """Number on this machine, which is its GPU's."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports and saves."""
        return self.number == 0

    def share(self, batch: int, *, accumulate: int) -> int:
        """Samples of a batch that each of them computes.

        Raises:
            UserError: the batch does not divide, or leaves batch norm one sample at a time.
        """
        size, rest = divmod(batch, self.count)
        if rest or size // accumulate < 2 or size % accumulate:
            raise UserError(
                f"batch: {batch} cannot be shared by {self.count} processes in parts of 2 and more (batch norm): "
                f"give --pretrain.batch {2 * accumulate * self.count} or a multiple of it, or fewer --pretrain.ranks"
            )
        return size

    def wrap(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The network with gradients that are the mean over all processes; batch norm's statistics are the leader's."""
        if self.count == 1:
            return net
        ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=ids, gradient_as_bucket_view=True)

    def sum(self, values: Tensor) -> Tensor:
        """Of all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self.sum(torch.tensor(int(flag)))) if self.count > 1 else flag

    def take_the_leaders(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites them in all processes."""
        for tensor in tensors if self.count > 1 else ():
            distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Ranks()


def without_averaging(net: nn.Module, *, averages: bool) -> contextlib.AbstractContextManager[None]:
    """Within it, gradients of a wrapped network add up in each process, unless it `averages`."""
    if averages or not isinstance(net, DistributedDataParallel):
        return contextlib.nullcontext()
    return net.no_sync()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The group of processes that torchrun describes in the environment; NCCL between GPUs, else gloo."""
    number, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(local)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield Ranks(number=number, count=count, local=local)
    finally:
        distributed.destroy_process_group()
