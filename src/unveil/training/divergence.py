"""A training whose numbers are not finite: noticed before its weights change or are saved, and told with where to look."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.training.checkpoint import latest_checkpoint

Seen = tuple[float, Tensor | None]  # of a batch: its loss, and its times if it has any


def seen(loss: float, batch: Any) -> Seen:
    """What is told of a batch if its step goes wrong; its times are its attribute `t`, (B,), as diffusion batches have it."""
    t = getattr(batch, "t", None)
    return loss, t if isinstance(t, Tensor) and t.numel() else None


def stop_unless_finite(loss: float, norm: float, batches: Iterable[Seen], step: int, run: Path) -> None:
    """Stop before a step whose loss or gradient is not finite.

    Args:
        norm: of the gradient, before clipping.
        batches: those of the step; the times of those with a bad loss are told, of all if no loss is bad.
        step: number of the step, from 1.
    Raises:
        UnveilError: one of the two is not finite; says the step, the range of t and the last good checkpoint.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}, of a loss of {loss:.4g},"
    found = list(batches)
    bad = [pair for pair in found if not math.isfinite(pair[0])] or found
    times = [t for _, t in bad if t is not None]
    span = f", t {min(float(t.min()) for t in times):.4g} .. {max(float(t.max()) for t in times):.4g}" if times else ""
    raise UnveilError(f"{what} at step {step}{span}; {_advice(run)}")


def stop_unless_weights_finite(parameters: Mapping[str, Tensor], average: Mapping[str, Tensor], step: int, run: Path) -> None:
    """Stop instead of saving weights that are not finite.

    Raises:
        UnveilError: names the tensor, the step and the last good checkpoint.
    """
    for what, tensors in (("weight", parameters), ("averaged weight", {name: average[name] for name in parameters})):
        for name, value in tensors.items():
            if not bool(torch.isfinite(value.detach()).all()):
                raise UnveilError(f"the {what} {name} is not finite after step {step}, which is not saved; {_advice(run)}")


def _advice(run: Path) -> str:
    return f"last good checkpoint: {latest_checkpoint(run) or 'none'}; try a lower --learning-rate with another --out"
