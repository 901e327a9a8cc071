"""Where models run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        raise ValueError(f"device {name!r} is not to be had here; use auto, cpu, cuda, cuda:0 or mps") from error
    return device
