"""Data-parallel training in several processes started by `torchrun`: ranks, averages and barriers."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process, `rank`, among `size` processes; with size 1 no method communicates."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one all-reduce."""
        local = list(tensors)
        if self.size == 1 or not local:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in local])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in local:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in at least one process."""
        if self.size == 1:
            return flag
        seen = torch.tensor(float(flag), device=device)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return bool(seen > 0)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier()


def join() -> Group:
    """Join the processes that `torchrun` started, with NCCL if CUDA is available, else gloo.

    Without torchrun it is a group of one process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), size)
