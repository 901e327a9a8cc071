"""Where models run."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch


def find_device(name: str) -> torch.device:
    """The device of a name; auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: no such device here.
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
            f"device {name!r} is not to be had here; use auto, cpu, cuda, cuda:0 or mps"
        ) from error
    return device


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a device: a GPU's own; else the least of what the system and its control groups say.
    Processes of one `torchrun` on the processor share it. None where nothing says.
    """
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    known = [free for free in (_available(), *_groups()) if free is not None]
    return min(known) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if known else None


def _available(root: Path = Path("/")) -> int | None:
    """Of the machine: what Linux says could be taken without swapping; elsewhere all there is."""
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
    """Limit less use of this process's control groups and those above them, of both versions; files that can be dropped are no use."""
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
    found: list[int] = []
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
                except (OSError, ValueError, IndexError):  # no limit is the word max
                    continue
                found.append(
                    max(
                        0,
                        most
                        - now
                        + sum(int(row.split()[1]) for row in rows if row.startswith(f"{dropped} ")),
                    )
                )
    return found


@contextmanager
def enough_memory(lower: str = "lower --batch-size") -> Generator[None]:
    """Says which flag to lower when memory runs out, on an accelerator or on the processor (whose allocator raises a RuntimeError)."""
    import torch

    from unveil.errors import UnveilError

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = "can't allocate memory" in str(error) or "not enough memory" in str(error)
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or short:
            raise UnveilError(f"out of memory; {lower}") from error
        raise
