"""Several processes that train one model: who this is, and averages over all. Started by `torchrun`; alone otherwise."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Process `rank` of `size`; with size 1 every method does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over processes, in one message."""
        found = list(tensors)
        if self.size == 1 or not found:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in found])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in found:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in some process."""
        if self.size == 1:
            return flag
        seen = torch.tensor(float(flag), device=device)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return bool(seen > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join() -> Group:
    """Join the processes that `torchrun` started: NCCL where there is CUDA, else gloo. Without torchrun, a group of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), size)
