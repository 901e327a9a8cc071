"""A training whose numbers are not finite: noticed before its weights change or are saved, and told with where to look."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.training.checkpoint import latest_checkpoint


class Seen(NamedTuple):
    """What is told of a batch if its step goes wrong: its loss, its times if it has any, and what of it is not finite itself, or ""."""

    loss: float
    t: Tensor | None
    bad: str


def seen(loss: float, batch: Any) -> Seen:
    """Of a batch with its loss; its times are its attribute `t`, (B,), as diffusion batches have it."""
    t = getattr(batch, "t", None)
    return Seen(
        loss,
        t if isinstance(t, Tensor) and t.numel() else None,
        "" if math.isfinite(loss) else not_finite(batch),
    )


def not_finite(batch: Any, name: str = "batch") -> str:
    """The first tensor of a batch, or of batches and mappings in it, that holds NaN or infinity: how many, and in which rows; else ""."""
    if isinstance(batch, Tensor):
        if not batch.is_floating_point() or bool((good := torch.isfinite(batch)).all()):
            return ""
        rows = (~good).reshape(len(batch), -1).any(1).nonzero()[:, 0].tolist() if batch.ndim else []
        where = (
            f", in rows {', '.join(map(str, rows[:5]))}{' ...' if len(rows) > 5 else ''} of {len(batch)}"
            if rows
            else ""
        )
        return f"{int((~good).sum())} of {batch.numel()} numbers of {name}{where}"
    parts = vars(batch) if hasattr(batch, "__dict__") else getattr(batch, "_asdict", dict)()
    if isinstance(batch, Mapping):
        parts = batch
    elif isinstance(batch, tuple | list) and not parts:
        parts = {f"{name} {k}": part for k, part in enumerate(batch)}
    return next(
        (found for key, part in parts.items() if part is not batch and (found := not_finite(part, str(key)))),
        "",
    )


def stop_unless_finite(loss: float, norm: float, batches: Iterable[Seen], step: int, run: Path) -> None:
    """Stop before a step whose loss or gradient is not finite.

    Args:
        norm: of the gradient, before clipping.
        batches: those of the step; the times of those with a bad loss are told, of all if no loss is bad.
        step: number of the step, from 1.
    Raises:
        UnveilError: one of the two is not finite; says the step, the range of t, what of the batch was not finite before, if anything was,
            and the last good checkpoint.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = (
        f"the loss is {loss}"
        if not math.isfinite(loss)
        else f"the gradient's norm is {norm}, of a loss of {loss:.4g},"
    )
    found = list(batches)
    bad = [pair for pair in found if not math.isfinite(pair.loss)] or found
    times = [pair.t for pair in bad if pair.t is not None]
    span = (
        f", t {min(float(t.min()) for t in times):.4g} .. {max(float(t.max()) for t in times):.4g}"
        if times
        else ""
    )
    if cause := next((pair.bad for pair in bad if pair.bad), ""):
        raise UnveilError(
            f"{what} at step {step}{span}, because {cause} are NaN or infinite: look at the data; {_good(run)}"
        )
    if step == 1:
        raise UnveilError(
            f"{what} at step 1{span}, before the weights were changed at all: look at the range of the data and at the loss; {_good(run)}"
        )
    raise UnveilError(f"{what} at step {step}{span}; {_advice(run)}")


def stop_unless_weights_finite(
    parameters: Mapping[str, Tensor], average: Mapping[str, Tensor], step: int, run: Path
) -> None:
    """Stop instead of saving weights that are not finite.

    Raises:
        UnveilError: names the tensor, the step and the last good checkpoint.
    """
    for what, tensors in (
        ("weight", parameters),
        ("averaged weight", {name: average[name] for name in parameters}),
    ):
        for name, value in tensors.items():
            if not bool(torch.isfinite(value.detach()).all()):
                raise UnveilError(
                    f"the {what} {name} is not finite after step {step}, which is not saved; {_advice(run)}"
                )


def _advice(run: Path) -> str:
    return f"{_good(run)}; try a lower --learning-rate with another --out"


def _good(run: Path) -> str:
    return f"last good checkpoint: {latest_checkpoint(run) or 'none'}"
