"""Devices and their memory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if available, else Apple's MPS, else the CPU.

    Raises:
        ValueError: this machine has no such device.
    """
    import torch

    if name == "auto":
        name = (
            f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} is not available here; use auto, cpu, cuda, cuda:0 or mps"
        ) from error
    return device


def free_memory(device: torch.device) -> int | None:
    """Bytes of memory that this process can still allocate on a device; None if unknown.

    On the CPU this is the minimum over the system and the process's control groups, divided among the
    processes of one `torchrun`.
    """
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    known = [free for free in (_available(), *_groups()) if free is not None]
    return min(known) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if known else None


def _available(root: Path = Path("/")) -> int | None:
    """Available memory of the machine in bytes: on Linux without swapping, elsewhere the whole memory."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _groups(root: Path = Path("/")) -> list[int]:
    """Limit minus usage, in bytes, of each control group (v1 and v2) above this process.

    Cached files, which can be dropped, do not count as usage.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    kinds = {
        "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        "memory": (
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    }
    free: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for kind in {"", "memory"} & set(controllers.split(",")):
            mount, limit, used, dropped = kinds[kind]
            inside = Path(path.lstrip("/"))
            for group in (inside, *inside.parents):
                folder = root / mount / group  # a container may see its own group as the root
                try:
                    most, now = int((folder / limit).read_text()), int((folder / used).read_text())
                    rows = (folder / "memory.stat").read_text().splitlines()
                except (OSError, ValueError, IndexError):  # "max" means no limit
                    continue
                cached = sum(int(row.split()[1]) for row in rows if row.startswith(f"{dropped} "))
                free.append(max(0, most - now + cached))
    return free


@contextmanager
def enough_memory(lower: str = "lower `batch_size`") -> Generator[None]:
    """Turn running out of memory, on a GPU or the CPU, into an error that says what to do.

    Args:
        lower: the advice.
    Raises:
        UnveilError: the block ran out of memory.
    """
    import torch

    from unveil.errors import UnveilError

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = "can't allocate memory" in str(error) or "not enough memory" in str(error)
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or short:
            raise UnveilError(f"out of memory; {lower}") from error
        raise
